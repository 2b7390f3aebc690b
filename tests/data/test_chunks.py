"""Training chunks: pure, complete, resumable; and the fixed validation set."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.data.chunks import TrainingChunks, epoch_tokens, validation_chunks

sizes = st.tuples(st.integers(2, 300), st.integers(1, 40), st.integers(1, 9), st.integers(0, 9)).filter(
    lambda size: size[0] > size[1]
)


def targets(batches: TrainingChunks, first_chunk: int, chunks: int) -> np.ndarray:
    """The targets of a range of chunks, whatever batches they fall into."""
    size = batches.batch_sequences
    steps = range(first_chunk // size, -(-(first_chunk + chunks) // size))
    rows = np.concatenate([batches.batch(step) for step in steps])
    skip = first_chunk - steps[0] * size
    return rows[skip : skip + chunks, 1:]


@given(sizes)
def test_no_token_is_predicted_twice_within_any_epoch(size):
    split_tokens, context, batch_sequences, seed = size
    batches = TrainingChunks(np.arange(split_tokens), context, batch_sequences, seed)
    chunks = split_tokens // context
    for epoch in range(3):
        seen = targets(batches, epoch * chunks, chunks).ravel()
        assert len(np.unique(seen)) == len(seen) == epoch_tokens(split_tokens, context)


def test_every_token_is_predicted_exactly_once_an_epoch_when_chunks_fill_the_split():
    batches = TrainingChunks(np.arange(12 * 7), context=7, batch_sequences=4, seed=3)
    for epoch in range(4):
        assert sorted(targets(batches, epoch * 12, 12).ravel()) == list(range(12 * 7))


@given(sizes)
def test_targets_are_the_tokens_that_follow_the_inputs(size):
    split_tokens, context, batch_sequences, seed = size
    batch = TrainingChunks(np.arange(split_tokens), context, batch_sequences, seed).batch(5)
    assert batch.shape == (batch_sequences, context + 1)
    assert batch.dtype == np.int64
    assert (batch[:, 1:] == (batch[:, :-1] + 1) % split_tokens).all()


def test_resuming_at_any_step_gives_the_batches_of_the_uninterrupted_run():
    tokens = np.random.default_rng(0).integers(0, 256, 1000).astype(np.uint16)
    through = TrainingChunks(tokens, context=16, batch_sequences=5, seed=1)
    uninterrupted = [through.batch(step) for step in range(60)]
    for step in (59, 0, 31, 12):
        resumed = TrainingChunks(tokens, context=16, batch_sequences=5, seed=1)
        np.testing.assert_array_equal(resumed.batch(step), uninterrupted[step])


def test_the_order_of_chunks_is_the_same_for_every_batch_size():
    tokens = np.arange(1000)
    large = TrainingChunks(tokens, context=16, batch_sequences=12, seed=1)
    small = TrainingChunks(tokens, context=16, batch_sequences=3, seed=1)
    for step in range(12):
        parts = [small.batch(4 * step + part) for part in range(4)]
        np.testing.assert_array_equal(np.concatenate(parts), large.batch(step))


def test_a_batch_larger_than_the_split_spans_epochs():
    batch = TrainingChunks(np.arange(30), context=10, batch_sequences=7, seed=0).batch(0)
    assert sorted(batch[:3, 1:].ravel()) == sorted(batch[3:6, 1:].ravel()) == list(range(30))


def test_order_and_borders_change_with_epoch_and_seed():
    first = TrainingChunks(np.arange(1000), context=10, batch_sequences=100, seed=0)
    other = TrainingChunks(np.arange(1000), context=10, batch_sequences=100, seed=1)
    borders = {int(batch[0, 0]) % 10 for batch in (first.batch(epoch) for epoch in range(20))}
    assert len(borders) > 3
    assert not np.array_equal(first.batch(0), first.batch(1))
    assert not np.array_equal(first.batch(0), other.batch(0))


def test_the_order_of_chunks_never_changes_between_versions():
    # pinned: a run resumed under another release of NumPy must read the same tokens
    batch = TrainingChunks(np.arange(100), context=4, batch_sequences=3, seed=7).batch(11)
    assert batch[:, 0].tolist() == [93, 81, 85]


def test_epochs_count_whole_passes():
    batches = TrainingChunks(np.arange(103), context=10, batch_sequences=1, seed=0)
    assert batches.epochs(100) == 1
    assert batches.epochs(250) == 2.5


@pytest.mark.parametrize("split_tokens", [1, 10])
def test_a_split_shorter_than_one_chunk_is_refused_with_both_numbers(split_tokens):
    with pytest.raises(ValueError, match=f"holds {split_tokens} tokens, one chunk of context 10 needs 11"):
        TrainingChunks(np.arange(split_tokens), context=10, batch_sequences=1, seed=0)
    with pytest.raises(ValueError, match=f"holds {split_tokens} tokens"):
        validation_chunks(np.arange(split_tokens), context=10, batch_sequences=1, max_tokens=100)


def test_an_impossible_batch_is_refused():
    with pytest.raises(ValueError, match="at least 1, got 10 and 0"):
        TrainingChunks(np.arange(100), context=10, batch_sequences=0, seed=0)


@given(sizes, st.integers(1, 400))
def test_validation_predicts_each_token_at_most_once_and_no_more_than_asked(size, max_tokens):
    split_tokens, context, batch_sequences, _ = size
    if max_tokens < context:
        with pytest.raises(ValueError, match=f"validation on {max_tokens} tokens"):
            validation_chunks(np.arange(split_tokens), context, batch_sequences, max_tokens)
        return
    found = list(validation_chunks(np.arange(split_tokens), context, batch_sequences, max_tokens))
    seen = np.concatenate([batch[:, 1:].ravel() for batch in found])
    assert all(batch.shape[1] == context + 1 and len(batch) <= batch_sequences for batch in found)
    assert len(np.unique(seen)) == len(seen) == min((split_tokens - 1) // context, max_tokens // context) * context


def test_validation_chunks_are_spread_over_the_whole_split_and_do_not_depend_on_the_batch_size():
    tokens = np.arange(10_001)
    by_one = np.concatenate(list(validation_chunks(tokens, 10, 1, 500)))
    by_seven = np.concatenate(list(validation_chunks(tokens, 10, 7, 500)))
    np.testing.assert_array_equal(by_one, by_seven)
    assert by_one[:, 0].tolist() == list(range(0, 10_000, 200))


def test_aligned_chunks_begin_at_multiples_of_their_length_in_every_epoch():
    batches = TrainingChunks(np.arange(40), context=4, batch_sequences=10, seed=2, aligned=True)
    for epoch in range(3):
        assert sorted(batches.batch(epoch)[:, 0]) == list(range(0, 40, 4))
    assert list(batches.batch(0)[:, 0]) != list(batches.batch(1)[:, 0])  # the order is new


def test_aligned_chunks_that_do_not_fill_the_split_are_refused():
    with pytest.raises(ValueError, match="no whole number of records of 4"):
        TrainingChunks(np.arange(42), context=4, batch_sequences=1, seed=0, aligned=True)
