"""The fast training step weighed against a plain one: what makes it fast must not move the loss."""

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from scaling.data.chunks import TrainingChunks
from scaling.data.prepare import prepare
from scaling.model import build
from scaling.objectives import chunked_loss
from scaling.objectives.batch import Batch
from scaling.objectives.chunked_loss import chunked_cross_entropy
from scaling.objectives.losses import mean_loss
from scaling.objectives.objectives import training_batch
from scaling.spec import memory
from scaling.spec.run_spec import RunSpec
from scaling.spec.schedule import learning_rate_factor
from scaling.train import step as training_step
from scaling.train.flat_parameters import BLOCK, clip_
from scaling.train.step import Stepper
from tests.examples import ENCODER, ENCODER_DECODER, FAMILIES, TINY, runtime_in
from tests.train.test_loop import DATA, curve, run, spec_for

STEPS = 40
TOLERANCE = 1e-5  # relative, of the loss after so many steps: what summing in another order does in float32


def plain_losses(spec: RunSpec, path: Path) -> list[float]:
    """The loss of every step of the loop that a textbook has: whole logits, one optimizer that nothing is fused in."""
    tokens = prepare(DATA, spec.data, runtime_in(path).cache_dir, progress=False)
    recipe, asked = spec.recipe, spec.recipe.optimizer
    model = build(spec.model, spec.seed)
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": asked.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        betas=(asked.beta1, asked.beta2),
        eps=asked.eps,
        foreach=False,
    )
    batches = TrainingChunks(
        tokens.train, spec.lengths.text, recipe.batch_sequences, spec.seed, aligned=spec.lengths.aligned
    )
    losses = []
    for step in range(1, STEPS + 1):
        for group in optimizer.param_groups:
            group["lr"] = asked.learning_rate * learning_rate_factor(recipe.schedule, step - 1, STEPS)
        batch = training_batch(spec, batches.batch(step - 1), step, None)
        each = F.cross_entropy(model(*batch.inputs).flatten(0, 1), batch.targets_BP.flatten(), reduction="none")
        weights = torch.ones_like(each) if batch.weights_BP is None else batch.weights_BP.flatten()
        loss = (each * weights).sum() / weights.sum()
        optimizer.zero_grad()
        loss.backward()
        if asked.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), asked.clip_norm, foreach=False)
        optimizer.step()
        losses.append(loss.item())
    return losses


SPECS = {name: spec_for(model=shape, objective=objective) for name, (shape, objective) in FAMILIES.items()}
SPECS["head apart"] = spec_for(model=replace(TINY, tied_embeddings=False))


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize(
    "faster",
    [
        {},
        {"chunk": 100},
        {"micro_batch_sequences": 3},
        {"recompute_activations": True},
        pytest.param({"compile": True}, marks=pytest.mark.filterwarnings("ignore")),  # the compiler warns about itself
    ],
    ids=lambda faster: next(iter(faster), "as it is"),
)
def test_every_way_of_taking_a_step_keeps_the_loss(
    name: str, faster: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, settings = SPECS[name], dict(faster)
    if settings.pop("compile", False):
        if name != "decoder" or shutil.which("g++") is None:
            pytest.skip("compiled once, and where there is a compiler")
        spec = replace(spec, recipe=replace(spec.recipe, compile=True))
    monkeypatch.setattr(memory, "CHUNK_LOGITS", settings.pop("chunk", memory.CHUNK_LOGITS))
    run(spec, tmp_path, log_points=STEPS, **settings)
    found = [row["train_loss"] for row in curve(tmp_path, spec)]
    assert found == pytest.approx(plain_losses(spec, tmp_path), rel=TOLERANCE)


@pytest.mark.parametrize("weighted", [False, True], ids=["all count", "some count"])
@pytest.mark.parametrize("biased", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("rows", [1, 7, 100])
@pytest.mark.parametrize("models", [1, 3])
def test_a_loss_in_chunks_has_the_gradients_of_the_whole(
    models: int, rows: int, biased: bool, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "CHUNK_LOGITS", rows * 11)
    draw = torch.Generator().manual_seed(0)
    x, weight, bias = (
        torch.randn(size, generator=draw).requires_grad_() for size in ((models, 23, 5), (models, 11, 5), (models, 11))
    )
    targets = torch.randint(11, (models, 23), generator=draw)
    counts = torch.rand(models, 23, generator=draw).round() if weighted else None
    asked = (x, weight, bias) if biased else (x, weight)
    whole = torch.zeros(models)
    for r in range(models):
        logits = F.linear(x[r], weight[r], bias[r] if biased else None)
        each = F.cross_entropy(logits, targets[r], reduction="none")
        whole[r] = each.sum() if counts is None else (each * counts[r]).sum()
    chunked = chunked_cross_entropy(x, weight, bias if biased else None, targets, counts)
    torch.testing.assert_close(chunked, whole, rtol=1e-6, atol=0)
    factor = torch.arange(3.0, 3 + models)
    found, expected = (torch.autograd.grad((factor * losses).sum(), asked) for losses in (chunked, whole))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_in_bfloat16_the_loss_still_adds_up_in_float32() -> None:
    """A sum kept in bfloat16 would be off in its third digit."""
    draw = torch.Generator().manual_seed(0)
    x, weight = torch.randn((4096, 8), generator=draw).bfloat16(), torch.randn((64, 8), generator=draw)
    targets = torch.randint(64, (4096,), generator=draw)
    exact = F.cross_entropy(x.double() @ weight.bfloat16().double().T, targets, reduction="sum")
    (found,) = chunked_cross_entropy(x[None], weight[None], None, targets[None], None)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(exact.item(), rel=1e-3)


@pytest.mark.parametrize("biased", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("models", [1, 2])
def test_a_padded_vocabulary_changes_neither_loss_nor_gradients(
    models: int, biased: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "CHUNK_LOGITS", 7 * 37)
    draw = torch.Generator().manual_seed(0)
    x = torch.randn((models, 23, 16), generator=draw).bfloat16().requires_grad_()
    weight, bias = (torch.randn(size, generator=draw).requires_grad_() for size in ((models, 37, 16), (models, 37)))
    targets = torch.randint(37, (models, 23), generator=draw)
    counts = torch.rand(models, 23, generator=draw).round()
    asked = (x, weight, bias) if biased else (x, weight)

    def found() -> list[torch.Tensor]:
        losses = chunked_cross_entropy(x, weight, bias if biased else None, targets, counts)
        return [losses, *torch.autograd.grad(losses.sum(), asked)]

    plain, widths, bmm = found(), set(), torch.bmm

    def seen(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        widths.update(size for size in (*a.shape[1:], *b.shape[1:]) if size > 23)
        return bmm(a, b)

    monkeypatch.setattr(chunked_loss, "ALIGNED", {"cpu": 64})
    monkeypatch.setattr(torch, "bmm", seen)
    padded = found()
    assert widths == {64}
    for ours, theirs in zip(padded, plain, strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [TINY, ENCODER, ENCODER_DECODER], ids=lambda shape: shape.kind)
def test_what_the_head_reads_makes_the_logits_and_the_loss(shape: Any) -> None:
    model = build(shape, 0)
    tokens = torch.arange(2 * shape.context).view(2, shape.context) % shape.vocab_size
    inputs = (tokens,) if shape.kind == "decoder" else (tokens, tokens[:, :4] % 4)
    logits, unread = model(*inputs), model.read(*inputs)
    assert torch.equal(unread.logits(), logits)
    targets = torch.ones(logits.shape[:2], dtype=torch.long)
    torch.testing.assert_close(mean_loss(unread, targets), mean_loss(logits, targets))


@pytest.mark.parametrize("limit", [None, 0.0, 1e-3, 0.7, 1e9])
def test_each_row_is_clipped_as_torch_clips_a_whole_gradient(limit: float | None) -> None:
    draw = torch.Generator().manual_seed(0)
    rows = [torch.randn(3, blocks * BLOCK, generator=draw) for blocks in (2, 1)]
    expected, norms = [], []
    for r in range(3):
        parts = [torch.nn.Parameter(torch.zeros_like(row[r])) for row in rows]
        for part, row in zip(parts, rows, strict=True):
            part.grad = row[r].clone()
        norms.append(torch.nn.utils.clip_grad_norm_(parts, limit or math.inf))
        expected.append([part.grad for part in parts])
    torch.testing.assert_close(clip_(rows, limit), torch.stack(norms))
    for r in range(3):
        for row, wanted in zip(rows, expected[r], strict=True):
            torch.testing.assert_close(row[r], wanted)


@pytest.mark.parametrize("limit", [1e-3, 0.7, 1e9])
def test_a_gradient_clipped_in_the_update_makes_the_same_update(limit: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a GPU takes it; a stack that the run joins later clips by itself."""
    spec = SPECS["decoder"]
    recipe = replace(spec.recipe, optimizer=replace(spec.recipe.optimizer, clip_norm=limit))
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(TINY.vocab_size, (6, 4, TINY.context + 1), generator=draw)
    given = [Batch((chunk[:, :-1],), chunk[:, 1:], None, chunk[:, 1:].numel()) for chunk in tokens]
    before = Stepper(build(TINY, 0), recipe, 4, torch.device("cpu"))
    monkeypatch.setattr(training_step, "CLIP_IN_UPDATE", ("cpu",))
    inside = Stepper(build(TINY, 0), recipe, 4, torch.device("cpu"))
    for batch in given:
        one, other = (stepper.take(batch, 1.0) for stepper in (before, inside))
        assert other.loss.item() == pytest.approx(one.loss.item(), rel=TOLERANCE)
        assert other.grad_norm.item() == pytest.approx(one.grad_norm.item(), rel=1e-4)
        for found, expected in zip(inside.flat.gradients_N, before.flat.gradients_N, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)
    assert inside.clips_in_update
    assert not before.clips_in_update
    assert inside.optimizer.grad_scale is None  # type: ignore[attr-defined]


def test_the_norm_of_a_long_row_keeps_its_digits() -> None:
    """A plain float32 sum over ten million squares is off by 4e-4 on a CPU."""
    row = torch.randn(1, 10_000 * BLOCK, generator=torch.Generator().manual_seed(0))
    assert clip_([row], None).item() == pytest.approx(row.double().norm().item(), rel=1e-6)


def test_a_models_parameters_are_views_of_its_rows() -> None:
    stepper = Stepper(build(TINY, 0), SPECS["decoder"].recipe, 8, torch.device("cpu"))
    plain = dict(build(TINY, 0).named_parameters())
    inside = {row.untyped_storage().data_ptr() for row in stepper.flat.weights_N}
    for name, parameter in stepper.model.named_parameters():
        assert torch.equal(parameter, plain[name]), name
        assert parameter.untyped_storage().data_ptr() in inside
        assert parameter.grad is not None
        assert parameter.data_ptr() % 64 == stepper.flat.weights_N[0].data_ptr() % 64
    assert sum(len(group["params"]) for group in stepper.optimizer.param_groups) == len(stepper.flat.weights_N) == 2


@pytest.mark.parametrize("fits", [1, 2, 3])
def test_out_of_memory_halves_the_micro_batch_and_keeps_batch_and_losses(
    fits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    spec = spec_for(steps=8)
    run(spec, tmp_path / "whole")
    backward = Stepper._backward

    def on_a_small_device(self: Stepper, part: Any, batch: Any) -> Any:
        found = backward(self, part, batch)  # the gradient is there when the memory runs out
        if len(part.targets_BP) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return found

    monkeypatch.setattr(Stepper, "_backward", on_a_small_device)
    record = run(spec, tmp_path / "parts")
    whole, parts = (curve(tmp_path / name, spec) for name in ("whole", "parts"))
    assert [row["train_loss"] for row in parts] == pytest.approx([row["train_loss"] for row in whole], rel=TOLERANCE)
    assert [row["tokens"] for row in parts] == [row["tokens"] for row in whole]
    assert (record.run_id, record.attempts, record.status) == (spec.run_id, 1, "done")
    at_once = 2 if fits == 3 else fits  # 8, 4, 2, 1
    assert record.hardware["micro_batch_sequences"] == at_once
    assert "after the device ran out of memory" in record.hardware["out_of_memory"]
    assert f"micro-batches of {at_once} sequences instead of {2 * at_once}" in capfd.readouterr().out


def test_a_single_sequence_that_does_not_fit_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Stepper, "_backward", full)
    with pytest.raises(torch.OutOfMemoryError):
        run(spec_for(steps=8), tmp_path)


def test_a_step_is_not_taken_again_once_weights_have_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []

    def update(self: Any, *_: Any) -> None:
        steps.append(1)
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.optim.AdamW, "step", update)
    with pytest.raises(torch.OutOfMemoryError):
        run(spec_for(steps=8), tmp_path)
    assert len(steps) == 1
