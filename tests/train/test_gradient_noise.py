"""The noise scale from parts of a batch: unbiased, the same as from single sequences, and resumed exactly."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from scaling.analysis.health.noise_scale import scale_with_interval
from scaling.model import build
from scaling.objectives.batch import Batch
from scaling.objectives.losses import logits_of, mean_loss
from scaling.train import gradient_noise
from scaling.train.run import train_run
from scaling.train.step import Stepper
from tests.examples import SPEC, TINY, asked, runtime_in
from tests.train.test_loop import DATA, StopAt, curve, run, spec_for


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("part", "whole"), [(8, 16), (2, 16), (5, 12)])
def test_a_known_noise_scale_is_recovered_from_two_batch_sizes(part: int, whole: int) -> None:
    """Gaussian noise about a fixed gradient: tr(Sigma) = 400, |G|^2 = 18."""
    generator = torch.Generator().manual_seed(0)
    mean = torch.full((200,), 0.3)
    found = []
    for _ in range(400):
        tokens = mean + 2**0.5 * torch.randn(whole, 200, generator=generator)
        sums = [tokens[:part].sum(dim=0), tokens.sum(dim=0)]
        one = gradient_noise.estimate(sums[0].norm() / whole, sums[1].norm() / whole, part, whole)
        assert one is not None
        found.append((float(one.square), float(one.trace)))
    square, trace = np.array(found).T
    assert square.mean() == pytest.approx(18, abs=4 * square.std() / 20)
    assert trace.mean() == pytest.approx(400, abs=4 * trace.std() / 20)
    value, low, high = scale_with_interval(square, trace, np.ones(400), 0, 0.99)
    assert low < 400 / 18 < high
    assert value == pytest.approx(400 / 18, rel=0.15)


def test_parts_that_predict_nothing_or_all_are_not_measured() -> None:
    norm = torch.tensor(1.0)
    assert gradient_noise.estimate(norm, norm, 0, 8) is None
    assert gradient_noise.estimate(norm, norm, 8, 8) is None


SEQUENCES = 8


def batch_of(tokens: torch.Tensor, weights: torch.Tensor | None = None) -> Batch:
    predicted = tokens[:, 1:].numel() if weights is None else int(weights.sum())
    return Batch((tokens[:, :-1],), tokens[:, 1:], weights, predicted)


def stepper(**recipe: object) -> Stepper:
    frozen = replace(SPEC.recipe, **recipe)  # type: ignore[arg-type]
    frozen = replace(frozen, optimizer=replace(frozen.optimizer, clip_norm=1e-3))  # clipped, which must not matter
    return Stepper(build(TINY, 0, frozen.multipliers), frozen, SEQUENCES, torch.device("cpu"))


def gradient(model: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    example = batch_of(tokens)
    mean_loss(logits_of(model(*example.inputs)), example.targets_BP).backward()  # type: ignore[no-untyped-call]
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).double()


def test_halves_of_batches_agree_with_the_gradients_of_single_sequences() -> None:
    pool = torch.randint(TINY.vocab_size, (64, TINY.context + 1), generator=torch.Generator().manual_seed(1))
    one, model = stepper(), build(TINY, 0, SPEC.recipe.multipliers)
    each = torch.stack([gradient(model, pool[k : k + 1]) for k in range(64)])
    trace = float(each.var(dim=0, correction=0).sum()) * TINY.context * 64 / 63  # of a pool without replacement
    square = float(each.mean(dim=0).square().sum()) - trace / TINY.context / 64
    found = []
    for k in range(60):
        drawn = pool[torch.randperm(64, generator=torch.Generator().manual_seed(k))[:SEQUENCES]]
        stepped = one.take(batch_of(drawn), 0.0, measure_noise=True)  # at no learning rate
        assert stepped.noise is not None
        found.append((float(stepped.noise.square), float(stepped.noise.trace)))
    means, errors = np.mean(found, axis=0), np.std(found, axis=0) / 60**0.5
    assert abs(means[1] - trace) < 4 * errors[1] < 0.3 * trace
    assert abs(means[0] - square) < 4 * errors[0]


def test_a_measured_step_is_the_step_up_to_rounding_and_weighs_halves_by_what_they_predict() -> None:
    tokens = torch.randint(TINY.vocab_size, (SEQUENCES, TINY.context + 1), generator=torch.Generator().manual_seed(1))
    weights = torch.ones(SEQUENCES, TINY.context)
    weights[:4, 3:] = 0  # the first half predicts 12 of its 64 tokens
    plain, measured = stepper(), stepper()
    one = plain.take(batch_of(tokens, weights), 1.0)
    other = measured.take(batch_of(tokens, weights), 1.0, measure_noise=True)
    assert one.noise is None
    torch.testing.assert_close(other.loss, one.loss)
    torch.testing.assert_close(other.grad_norm, one.grad_norm)
    for p, q in zip(plain.model.parameters(), measured.model.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-5)
    half = stepper().take(batch_of(tokens[:4], weights[:4]), 1.0)
    expected = gradient_noise.estimate(half.grad_norm * 12 / 76, one.grad_norm, 12, 76)
    assert expected is not None
    assert other.noise is not None
    torch.testing.assert_close(other.noise.square, expected.square, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(other.noise.trace, expected.trace, rtol=1e-3, atol=1e-6)


def test_a_single_sequence_and_a_compiled_step_taken_whole_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda model: model)
    tokens = torch.zeros(1, TINY.context + 1, dtype=torch.long)
    assert stepper().take(batch_of(tokens), 1.0, measure_noise=True).noise is None
    compiled = stepper(compile=True)
    several = batch_of(tokens.expand(SEQUENCES, -1))
    assert compiled.take(several, 1.0, measure_noise=True).noise is None
    compiled.micro_batch = SEQUENCES // 2
    assert compiled.take(several, 1.0, measure_noise=True).noise is not None


def test_rows_hold_the_measured_steps_since_the_last_and_a_resumed_run_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gradient_noise, "EVERY", 3)
    spec = spec_for(steps=20)
    whole = run(spec, tmp_path / "whole", log_points=4)
    rows = curve(tmp_path / "whole", spec)
    assert [(row["step"], row.get("noise_steps")) for row in rows] == [(5, 1), (10, 2), (15, 2), (20, 1)]
    assert all(np.isfinite([row["grad_square"], row["grad_trace"]]).all() for row in rows)
    with pytest.raises(KeyboardInterrupt):  # its checkpoint lies behind step 6, before the row of 10
        train_run(asked(spec, DATA, runtime_in(tmp_path / "cut", log_points=4), 1e6), StopAt(5))
    assert run(spec, tmp_path / "cut", log_points=4).weights_sha256 == whole.weights_sha256
    assert curve(tmp_path / "cut", spec) == rows
