"""Objectives: what is hidden, how often, and that nothing of the text is lost."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from scaling.config.config import CONF_DIR, asked_objective
from scaling.data.token_text import TokenText
from scaling.data.tokenizers import Chars
from scaling.model import build
from scaling.objectives.batch import Batch
from scaling.objectives.losses import mean_loss
from scaling.objectives.objectives import training_batch, validation_batch
from scaling.shapes.families import EncoderDecoderShape, EncoderShape
from scaling.shapes.shape import TransformerShape
from scaling.spec.objective import Causal, Denoising, Infilling, Masked, Objective, Prefix, check_pair
from scaling.spec.run_spec import RunSpec
from tests.examples import ENCODER, ENCODER_DECODER, FAMILIES, SPEC, TINY

PROSE = (
    "It was late. The lamp had gone out! Nobody knew why.\nSomebody, somewhere, laughed. Was it the old man? "
    "He had left at 12 o'clock. So they said.\n\n    def f(x):\n        return x + 1\n\nThe end came soon. "
)
CHARS = Chars.learn([PROSE], 64)
MASKED = Masked("masked", 0.15, 0.8, 0.1, whole_words=False, next_sentence=False)


def spec_for(objective: Objective, context: int, vocab_size: int = 64, **own: Any) -> RunSpec:
    """A run of the family that the objective suits, its lengths as configuration would resolve them."""
    lengths, added = objective.lengths(context), len(objective.added_tokens(context))
    common: dict[str, Any] = {"context": context, "vocab_size": vocab_size + added}
    shape: TransformerShape
    if objective.families == ("encoder",):
        pair = getattr(objective, "next_sentence", False)
        shape = replace(ENCODER, **common, predicted=lengths.predicted, next_sentence=pair, **own)
    elif objective.families == ("encoder_decoder",):
        shape = replace(ENCODER_DECODER, **common, target_context=lengths.target, **own)
    else:
        shape = replace(TINY, **common, **own)
    return replace(SPEC, model=shape, objective=objective, data=replace(SPEC.data, vocab_size=vocab_size))


def chunk_for(spec: RunSpec, sequences: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, spec.data.vocab_size, (sequences, spec.lengths.text + 1))


def prose_for(spec: RunSpec, sequences: int) -> np.ndarray:
    ids = CHARS.encode(PROSE * 20).astype(np.int64)
    size = spec.lengths.text + 1
    return np.stack([ids[i * 37 : i * 37 + size] for i in range(sequences)])


def tensors(example: Batch) -> list[torch.Tensor]:
    rest = [tensor for tensor in (example.weights_BP, *example.auxiliary.values()) if tensor is not None]
    return [*example.inputs, example.targets_BP, *rest]


# The objectives of conf/objective/, so that a new one is tested on arrival, and settings that the tests reckon with.
ALL: dict[str, Objective] = {
    path.stem: asked_objective(yaml.safe_load(path.read_text()))
    for path in sorted((CONF_DIR / "objective").glob("*.yaml"))
} | {
    "causal": Causal("causal"),
    "prefix": Prefix("prefix", 0.1, 0.9),
    "masked": MASKED,
    "words": replace(MASKED, whole_words=True),
    "pairs": replace(MASKED, next_sentence=True),
    "denoising": Denoising("denoising", 0.15, 3.0),
    "infilling": Infilling("infilling", 0.4, 3),
}
TEXT = TokenText.of(CHARS)


@pytest.mark.parametrize("name", ALL)
def test_examples_are_a_function_of_seed_and_step(name: str) -> None:
    spec = spec_for(ALL[name], 96)
    chunk = prose_for(spec, 6)
    before = chunk.copy()
    first, again = training_batch(spec, chunk, 7, TEXT), training_batch(spec, chunk, 7, TEXT)
    np.testing.assert_array_equal(chunk, before)
    assert all(torch.equal(one, other) for one, other in zip(tensors(first), tensors(again), strict=True))
    others = [
        training_batch(spec, chunk, 8, TEXT),
        training_batch(replace(spec, seed=1), chunk, 7, TEXT),
        validation_batch(spec, chunk, 7, TEXT),
    ]
    for other in others:
        same = [a.shape == b.shape and torch.equal(a, b) for a, b in zip(tensors(first), tensors(other), strict=True)]
        assert all(same) == (name in ("causal", "recall"))


@pytest.mark.parametrize("name", ALL)
def test_validation_hides_the_same_whatever_the_seed(name: str) -> None:
    spec = spec_for(ALL[name], 96)
    chunk = prose_for(spec, 6)
    one, other = (validation_batch(replace(spec, seed=seed), chunk, 3, TEXT) for seed in (0, 1))
    assert all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(other), strict=True))


@pytest.mark.parametrize("name", ALL)
def test_inputs_fit_the_streams_that_the_shape_prices(name: str) -> None:
    spec = spec_for(ALL[name], 96)
    example = training_batch(spec, prose_for(spec, 6), 1, TEXT)
    streams = spec.model.stream_tokens()
    sources = ("source", "predicted", "source") if isinstance(spec.model, EncoderShape) else ("source", "target")
    if not isinstance(spec.model, EncoderShape | EncoderDecoderShape):
        sources = ("target",)
    for tensor, stream in zip(example.inputs, sources, strict=False):
        assert tensor.shape == (6, streams[stream])
    assert example.targets_BP.shape[1] == streams["predicted" if isinstance(spec.model, EncoderShape) else sources[-1]]
    assert example.predicted <= 6 * spec.lengths.predicted
    ids = torch.cat([tensor.flatten() for tensor in (*example.inputs, example.targets_BP)])
    assert int(ids.min()) >= 0
    assert int(example.inputs[0].max()) < spec.model.vocab_size


@pytest.mark.parametrize("name", ALL)
def test_parts_of_a_batch_weigh_as_much_as_the_whole(name: str) -> None:
    spec = spec_for(ALL[name], 96)
    example = training_batch(spec, prose_for(spec, 7), 1, TEXT)
    parts = list(example.split(3))
    assert [len(part.targets_BP) for part in parts] == [3, 3, 1]
    assert sum(part.predicted for part in parts) == example.predicted
    logits = torch.randn(*example.targets_BP.shape, spec.model.vocab_size, generator=torch.Generator().manual_seed(0))
    whole = mean_loss(logits, example.targets_BP, example.weights_BP)
    shares = [
        mean_loss(part_logits, part.targets_BP, part.weights_BP) * part.predicted / example.predicted
        for part, part_logits in zip(parts, logits.split(3), strict=True)
    ]
    torch.testing.assert_close(sum(shares), whole)


def test_what_has_no_weight_does_not_move_the_loss() -> None:
    logits = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))
    targets, weights = torch.arange(10).reshape(2, 5) % 7, torch.tensor([[1.0, 1, 0, 0, 0], [1, 1, 1, 0, 0]])
    kept = torch.cat([logits[0, :2], logits[1, :3]])
    expected = torch.nn.functional.cross_entropy(kept, torch.cat([targets[0, :2], targets[1, :3]]))
    torch.testing.assert_close(mean_loss(logits, targets, weights), expected)
    assert mean_loss(logits, targets, torch.zeros(2, 5)).item() == 0


def test_causal_targets_are_the_inputs_one_later() -> None:
    spec = spec_for(ALL["causal"], 10)
    example = training_batch(spec, chunk_for(spec, 2), 1, None)
    (inputs,) = example.inputs
    assert torch.equal(inputs[:, 1:], example.targets_BP[:, :-1])
    assert inputs.shape == example.targets_BP.shape == (2, 10)
    assert (example.weights_BP, example.predicted) == (None, 20)


def test_recall_predicts_the_last_token_of_a_record_from_the_others() -> None:
    spec = spec_for(ALL["recall"], 3)
    chunk = np.arange(1, 11).reshape(2, 5)  # a record of four tokens, and the first of the next
    example = training_batch(spec, chunk, 0, None)
    (read_BT,) = example.inputs
    assert read_BT.tolist() == [[1, 2, 3], [6, 7, 8]]
    assert example.weights_BP is not None
    assert example.targets_BP[example.weights_BP.bool()].tolist() == [4, 9]
    assert example.predicted == 2


def test_prefix_predicts_what_follows_the_prefix_and_nothing_of_it() -> None:
    spec = spec_for(ALL["prefix"], 40)
    example = training_batch(spec, chunk_for(spec, 500), 1, None)
    seen = example.inputs[1]
    assert int(seen.min()) == 4
    assert int(seen.max()) <= 36
    assert seen.double().mean().item() == pytest.approx(20, abs=4 * 32 / math.sqrt(12 * 500))
    assert example.weights_BP is not None
    assert torch.equal(example.weights_BP.sum(dim=1), (40 - seen + 1).float())
    for row in range(20):  # the first predicted token is the first beyond the prefix
        first = int(example.weights_BP[row].argmax())
        assert first + 1 == seen[row]


def test_a_head_that_sees_everything_counts_the_same_predictions() -> None:
    spec = spec_for(MASKED, 40)
    every = replace(spec, model=replace(ENCODER, context=40, vocab_size=65, predicted=6, head_sees="all"))
    chunk = chunk_for(spec, 5)
    one, other = training_batch(spec, chunk, 1, None), training_batch(every, chunk, 1, None)
    assert other.predicted == one.predicted
    assert other.weights_BP is not None
    assert torch.equal(other.inputs[1][other.weights_BP.bool()], one.inputs[1].flatten())
    assert torch.equal(other.targets_BP, torch.from_numpy(chunk[:, :-1]))


@pytest.mark.parametrize(("family", "wrong"), [("encoder", "causal"), ("decoder", "denoising"), ("decoder", "masked")])
def test_what_a_family_cannot_be_asked_is_refused_with_the_pairs_that_go_together(family: str, wrong: str) -> None:
    with pytest.raises(
        ValueError, match=f"objective={wrong} does not go with model.kind={family}: choose from decoder"
    ):
        check_pair(family, ALL[wrong])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Prefix("prefix", 0.5, 0.2), r"objective.shortest=0.5, objective.longest=0.2"),
        (lambda: replace(MASKED, rate=1.0), r"objective.rate=1.0: must lie between 0 and 1"),
        (lambda: replace(MASKED, masked=0.8, replaced=0.3), r"objective.replaced=0.3.*together at most 1"),
        (lambda: Denoising("denoising", 0.15, 0.5), r"objective.mean_span=0.5: must be at least 1"),
        (lambda: Infilling("infilling", 0.15, 0), r"objective.sentences=0: must be at least 1"),
        (lambda: replace(MASKED, next_sentence=True).lengths(4), r"model.context=4 is too short.*at least 5"),
        (lambda: Denoising("denoising", 0.15, 3.0).lengths(1), r"model.context=1 is too short.*at least 2"),
    ],
)
def test_impossible_settings_are_named(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_gradient_step_on_one_batch_lowers_its_loss(family: str) -> None:
    shape, objective = FAMILIES[family]
    spec = replace(SPEC, model=shape, objective=objective)
    example = training_batch(spec, chunk_for(replace(spec, data=SPEC.data), 8), 1, None)
    model = build(shape, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = mean_loss(model(*example.inputs), example.targets_BP, example.weights_BP)
    before.backward()
    optimizer.step()
    after = mean_loss(model(*example.inputs), example.targets_BP, example.weights_BP)
    assert after.item() < before.item()
