"""Corruptions of a text: which words are hidden, which pairs are made, and how spans and sentences are cut."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.data.token_text import TokenText
from scaling.data.tokenizers import END_ID, Bpe, Bytes, Chars
from scaling.objectives.batch import Batch
from scaling.objectives.corruption import Draws, choose_words, cut_sentences, cut_spans
from scaling.objectives.objectives import added_ids, training_batch
from scaling.spec.objective import Denoising, Infilling
from scaling.spec.run_spec import RunSpec
from tests.objectives.test_objectives import CHARS, MASKED, PROSE, TEXT, chunk_for, prose_for, spec_for


def restored(spec: RunSpec, example: Batch) -> torch.Tensor:
    """The text that a masked example was made of."""
    tokens = example.inputs[0].clone()
    return tokens.scatter(1, example.inputs[1], example.targets_BP)


def test_masks_hide_the_share_asked_for_and_eight_in_ten_of_it_by_the_mask() -> None:
    spec = spec_for(MASKED, 200)
    chunk = chunk_for(spec, 400)
    example = training_batch(spec, chunk, 1, None)
    original, corrupted = torch.from_numpy(chunk[:, :-1]), example.inputs[0]
    assert torch.equal(restored(spec, example), original)
    assert example.predicted == 400 * 30
    mask = added_ids(spec)["<mask>"]
    chosen = corrupted.gather(1, example.inputs[1])
    shares = {
        "masked": (chosen == mask).double().mean().item(),
        "kept": (chosen == example.targets_BP).double().mean().item(),
    }
    # A random token is the original once in 64.
    for name, expected in (("masked", 0.8), ("kept", 0.1 + 0.1 / 64)):
        deviation = math.sqrt(expected * (1 - expected) / example.predicted)
        assert shares[name] == pytest.approx(expected, abs=4 * deviation), name
    untouched = torch.ones_like(corrupted).scatter(1, example.inputs[1], 0).bool()
    assert torch.equal(corrupted[untouched], original[untouched])


def test_every_place_is_masked_equally_often() -> None:
    spec = spec_for(MASKED, 20)
    example = training_batch(spec, chunk_for(spec, 4000), 1, None)
    counts = torch.bincount(example.inputs[1].flatten(), minlength=20).double()
    assert torch.all((counts / 4000 - 0.15).abs() < 4.5 * math.sqrt(0.15 * 0.85 / 4000))


def test_whole_words_are_masked_whole_and_no_more_than_asked() -> None:
    spec = spec_for(replace(MASKED, whole_words=True, masked=1.0, replaced=0.0), 120)
    chunk = prose_for(spec, 50)
    example = training_batch(spec, chunk, 1, TEXT)
    hidden = (example.inputs[0] == added_ids(spec)["<mask>"]).numpy()
    starts = TEXT.word_starts(chunk[:, :-1])
    words = np.cumsum(starts, axis=1)
    for row in range(50):
        for word in np.unique(words[row]):
            assert len(set(hidden[row][words[row] == word])) == 1
    assert hidden.sum() == example.predicted
    assert np.all(hidden.sum(axis=1) <= 18)
    assert example.predicted > 0.95 * 50 * 18  # what does not fit is made up of shorter words
    assert torch.equal(restored(spec, example), torch.from_numpy(chunk[:, :-1]))


@pytest.mark.parametrize("kind", ["chars", "bytes", "bpe"])
def test_words_and_sentences_begin_where_a_reader_says(kind: str) -> None:
    text = "Two cats_1 sat. They saw 3.5 mice!\nEnd"
    learned = [text * 30]
    tokenizer = {"chars": Chars, "bytes": Bytes, "bpe": Bpe}[kind].learn(learned, 300 if kind == "bpe" else 64)
    facts = TokenText.of(tokenizer)
    ids = np.append(tokenizer.encode(text), END_ID).astype(np.int64)[None]
    pieces = [tokenizer.decode(ids[0, i : i + 1]) for i in range(ids.shape[1])]
    words: list[str] = []
    for piece, starts in zip(pieces, facts.word_starts(ids)[0], strict=True):
        words = [*words, piece] if starts else [*words[:-1], words[-1] + piece]
    assert {"Two", "cats_1", "sat", "They", "mice", "End"} <= {word.strip(" .!\n") for word in words}
    sentences = [""]
    for piece, starts in zip(pieces, facts.sentence_starts(ids)[0], strict=True):
        sentences = [*sentences, piece] if starts else [*sentences[:-1], sentences[-1] + piece]
    assert [sentence.strip() for sentence in sentences] == ["Two cats_1 sat.", "They saw 3.5 mice!", "End"]


def test_a_word_that_does_not_fit_is_passed_over() -> None:
    starts = np.array([[True, False, False, False, True, True, False]])
    for key in range(20):
        chosen = choose_words(starts, np.ones_like(starts), 3, Draws(key))
        np.testing.assert_array_equal(chosen[0], [False] * 4 + [True] * 3)


def test_pairs_follow_half_of_the_time_and_say_so() -> None:
    spec = spec_for(replace(MASKED, next_sentence=True, masked=0.0, replaced=0.0), 43)
    chunk = chunk_for(spec, 1000)
    example = training_batch(spec, chunk, 1, None)
    tokens, _, segments = example.inputs
    ids = added_ids(spec)
    assert torch.all(tokens[:, 0] == ids["<cls>"])
    assert torch.all(tokens[:, [21, 42]] == ids["<sep>"])
    assert segments[0].tolist() == [0] * 22 + [1] * 21
    first, second = torch.from_numpy(chunk[:, :20]), torch.from_numpy(chunk[:, 20:40])
    assert torch.equal(tokens[:, 1:21], first)
    follows = (tokens[:, 22:42] == second).all(dim=1)
    assert example.auxiliary["next"] is not None
    assert torch.equal(follows.long(), example.auxiliary["next"])
    assert torch.equal(tokens[~follows][:, 22:42], second.roll(-1, 0)[~follows])
    assert follows.double().mean().item() == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(1000))
    assert not torch.any((example.inputs[1] == 0) | (example.inputs[1] == 21) | (example.inputs[1] == 42))


def put_back(source: list[int], target: list[int], sentinels: list[int]) -> list[int]:
    """The text that a source and its target were cut from."""
    spans: dict[int, list[int]] = {}
    for token in target:
        if token in sentinels:
            span = spans.setdefault(token, [])
        else:
            span.append(token)
    return [token for place in source for token in (spans[place] if place in sentinels else [place])]


@settings(deadline=None)
@given(context=st.integers(2, 80), rate=st.floats(0.01, 0.99), mean=st.floats(1.0, 10.0), sequences=st.integers(1, 5))
def test_spans_put_back_give_the_text_and_fill_the_lengths_that_were_priced(
    context: int, rate: float, mean: float, sequences: int
) -> None:
    spec = spec_for(Denoising("denoising", rate, mean), context)
    assert isinstance(spec.objective, Denoising)
    chunk = chunk_for(spec, sequences)
    example = training_batch(spec, chunk, 1, None)
    source, before = example.inputs
    sentinels = list(added_ids(spec).values())
    tokens, spans = spec.objective.cut(context)
    assert source.shape == (sequences, context)
    assert example.targets_BP.shape == before.shape == (sequences, tokens + spans + 1)
    assert torch.all(before[:, 0] == END_ID)
    assert torch.equal(before[:, 1:], example.targets_BP[:, :-1])
    assert torch.all(example.targets_BP[:, -1] == END_ID)
    for row in range(sequences):
        target = example.targets_BP[row, :-1].tolist()
        assert [token for token in target if token in sentinels] == sentinels
        assert [token for token in source[row].tolist() if token in sentinels] == sentinels
        assert put_back(source[row].tolist(), target, sentinels) == chunk[row, :-1].tolist()


def test_spans_cut_the_share_and_have_the_mean_length_asked_for() -> None:
    objective = Denoising("denoising", 0.15, 3.0)
    tokens, spans = objective.cut(512)
    assert tokens / objective.lengths(512).text == pytest.approx(0.15, abs=1 / 512)
    assert tokens / spans == pytest.approx(3.0, abs=0.1)
    assert objective.added_tokens(512)[:2] == ("<span 0>", "<span 1>")
    assert len(objective.added_tokens(512)) == spans


def test_every_way_to_cut_is_as_likely_as_any_other() -> None:
    text, draws = np.tile(np.arange(8), (8000, 1)), 8000
    pair = cut_spans(text, 3, 2, [21, 20], END_ID, Draws(0))
    ways, counts = np.unique(pair.source_BS, axis=0, return_counts=True)
    assert len(ways) == 4 * 2  # five kept tokens in two stretches, three cut ones in two
    assert np.all(np.abs(counts / draws - 1 / 8) < 4.5 * math.sqrt(1 / 8 * 7 / 8 / draws))


def test_sentences_are_cut_whole_and_put_back_give_the_text() -> None:
    spec = spec_for(Infilling("infilling", 0.4, 3), 150)
    chunk = prose_for(spec, 40)
    example = training_batch(spec, chunk, 1, TEXT)
    source, _ = example.inputs
    sentinels = list(added_ids(spec).values())
    assert example.weights_BP is not None
    whole = {s.strip() for s in PROSE.replace("\n", ".").replace("!", ".").replace("?", ".").split(".")}
    cut = 0
    for row in range(40):
        used = int(example.weights_BP[row].sum())
        target = example.targets_BP[row, :used].tolist()
        assert target.pop() == END_ID
        assert torch.all(example.targets_BP[row, used:] == END_ID)
        text = put_back(source[row].tolist(), target, sentinels)
        assert text == chunk[row, : len(text)].tolist()
        used_sentinels = [token for token in target if token in sentinels]
        assert used_sentinels == sentinels[: len(used_sentinels)]
        cut += len(used_sentinels)
        for sentence in CHARS.decode(np.array([-1 if t in sentinels else t for t in target]) % 64).split("\ufffd"):
            for part in sentence.replace("!", ".").replace("?", ".").split("."):
                assert part.strip() in whole
    assert cut > 40


def test_a_text_without_a_sentence_that_fits_is_left_whole() -> None:
    text = np.ones((1, 30), dtype=np.int64) * 5
    pair = cut_sentences(text, 20, 10, [63, 62], END_ID, TEXT, Draws(0))
    np.testing.assert_array_equal(pair.source_BS, text[:, :20])
    assert pair.weights_BP.sum() == 1
