"""The validation loss and its standard error."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from scaling.model import build
from scaling.model.tower import LazyLogits
from scaling.objectives import losses as losses_module
from scaling.objectives.batch import Batch
from scaling.objectives.losses import token_losses
from scaling.objectives.objectives import validation_batch
from scaling.spec.objective import Masked, Prefix
from scaling.train.validation import bits_per_byte, evaluate
from tests.examples import ENCODER, SPEC, TINY

PLAIN = torch.autocast("cpu", enabled=False)


def examples(sequences: int, size: int) -> Iterator[Batch]:
    chunks = np.random.default_rng(1).integers(TINY.vocab_size, size=(sequences, TINY.context + 1))
    return validation_batch(SPEC, chunks, 0, None).split(size)


def test_loss_is_the_mean_over_tokens_and_its_error_that_of_the_chunks_means() -> None:
    model = build(TINY, seed=0)
    got = evaluate(model, examples(12, 5), PLAIN)
    (example,) = examples(12, 12)
    losses = token_losses(model(*example.inputs), example.targets_BP).detach().double().numpy()
    assert (got.predicted_tokens, got.sequences) == (12 * TINY.context, 12)
    assert got.loss_nats == pytest.approx(losses.mean(), rel=1e-6)
    assert got.se_nats == pytest.approx(np.std(losses.mean(axis=1), ddof=1) / math.sqrt(12), rel=1e-4)


def test_the_error_of_a_loss_over_unequal_sequences_is_what_repeating_the_set_shows() -> None:
    spec = replace(SPEC, objective=Prefix("prefix", 0.0, 0.9))
    model, draws = build(TINY, seed=0), np.random.default_rng(2)
    model.embedding.weight.data *= 30  # so that tokens differ in their loss
    got = []
    for index in range(200):
        chunks = draws.integers(TINY.vocab_size, size=(50, TINY.context + 1))
        got.append(evaluate(model, [validation_batch(spec, chunks, index, None)], PLAIN))
    spread = np.std([one.loss_nats for one in got], ddof=1)
    # The spread of 200 losses is itself known to about 1 / sqrt(2 * 199), 5%.
    assert np.mean([one.se_nats for one in got]) == pytest.approx(spread, rel=0.2)


def test_the_next_sentence_loss_is_the_mean_over_sequences_of_batches_of_any_size() -> None:
    shape = replace(ENCODER, next_sentence=True, predicted=3, vocab_size=40)
    spec = replace(SPEC, model=shape, objective=Masked("masked", 0.2, 0.8, 0.1, whole_words=False, next_sentence=True))
    model = build(shape, seed=0)
    model.head_next.weight.data *= 30
    chunks = np.random.default_rng(1).integers(1, 37, size=(12, spec.lengths.text + 1))
    example = validation_batch(spec, chunks, 0, None)
    got = evaluate(model, example.split(5), PLAIN)
    expected = torch.nn.functional.cross_entropy(model(*example.inputs)[1]["next"], example.auxiliary["next"])
    assert got.auxiliary_nats["next"] == pytest.approx(expected.item(), rel=1e-5)
    assert evaluate(build(TINY, seed=0), examples(12, 5), PLAIN).auxiliary_nats == {}


def test_dropout_sleeps_during_validation_and_wakes_after() -> None:
    model = build(replace(TINY, dropout=0.5), seed=0)
    model.train()
    first, second = (evaluate(model, examples(12, 12), PLAIN) for _ in range(2))
    assert first == second
    assert model.training


def test_bits_per_byte_of_a_byte_tokenizer_are_the_loss_in_bits() -> None:
    assert bits_per_byte(math.log(2), tokens=100, text_bytes=100) == pytest.approx(1.0)
    assert bits_per_byte(math.log(2), tokens=100, text_bytes=400) == pytest.approx(0.25)
    assert bits_per_byte(1.0, tokens=100, text_bytes=None) is None


def test_validation_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another mode and batch size would have the compiler run a second time."""
    model = build(TINY, seed=0)
    expected = evaluate(model, examples(12, 5), PLAIN)
    for block in model.target.blocks:
        block.compile(backend=lambda *_: pytest.fail("a block was compiled"))
    assert evaluate(model, examples(12, 5), PLAIN) == expected


@pytest.mark.parametrize("shape", [TINY, ENCODER], ids=lambda shape: shape.kind)
def test_logits_a_few_rows_at_a_time_have_the_losses_of_all_at_once(
    shape: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = SPEC.objective if shape.kind == "decoder" else Masked("masked", 0.2, 0.8, 0.1, False, False)
    spec = replace(SPEC, model=shape, objective=objective)
    chunks = np.random.default_rng(1).integers(1, 37, size=(5, spec.lengths.text + 1))
    batch, model = validation_batch(spec, chunks, 0, None), build(shape, seed=0)
    sizes: list[int] = []
    computed = LazyLogits.logits

    def counted(read: LazyLogits) -> torch.Tensor:
        logits = computed(read)
        sizes.append(len(logits))
        return logits

    monkeypatch.setattr(LazyLogits, "logits", counted)
    whole = evaluate(model, [batch], PLAIN)
    monkeypatch.setattr(losses_module, "rows_at_once", lambda read: 4)
    parts = evaluate(model, [batch], PLAIN)
    assert sizes[0] == batch.targets_BP.numel()
    assert max(sizes[1:]) == 4
    assert parts.loss_nats == pytest.approx(whole.loss_nats, rel=1e-6)
    assert parts.se_nats == pytest.approx(whole.se_nats, rel=1e-4)
