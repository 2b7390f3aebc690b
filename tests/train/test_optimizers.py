"""Optimizers: what they cost, that they resume exactly, and that both tables know the same ones."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from scaling.config.config import compose, to_run
from scaling.model import build
from scaling.objectives.losses import logits_of
from scaling.records.record import read_metrics
from scaling.shapes import flops
from scaling.shapes.shape import TransformerShape
from scaling.train.optimizers import OPTIMIZERS, build_optimizer
from scaling.train.run import train_run
from tests.examples import ENCODER, ENCODER_DECODER, SPEC, TINY, asked, runtime_in
from tests.shapes.test_flops import inputs_of
from tests.train.test_loop import DATA, StopAt, run, spec_for

MUON = replace(SPEC.recipe, optimizer=replace(SPEC.recipe.optimizer, kind="muon"))
SHAPES = (TINY, replace(TINY, positions="relative", n_kv_heads=2, activation="swiglu"), ENCODER, ENCODER_DECODER)


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.kind}-{shape.positions}")
def test_a_steps_matmuls_are_counted_as_torch_counts_them(kind: str, shape: TransformerShape) -> None:
    model = build(shape, 0)
    optimizer = build_optimizer(model, replace(MUON, optimizer=replace(MUON.optimizer, kind=kind)))
    logits_of(model(**inputs_of(shape))).logsumexp(dim=-1).sum().backward()
    with FlopCounterMode(display=False) as counter:
        optimizer.step()
    assert counter.get_total_flops() == flops.OPTIMIZER_FLOPS[kind](shape)


def test_the_flop_count_prices_every_optimizer_there_is() -> None:
    assert set(OPTIMIZERS) == set(flops.OPTIMIZER_FLOPS)


def test_muon_learns_resumes_bit_for_bit_and_is_recorded_with_its_cost(tmp_path: Path) -> None:
    spec = spec_for()
    recipe = replace(spec.recipe, optimizer=replace(spec.recipe.optimizer, kind="muon", learning_rate=1e-2))
    spec = replace(spec, recipe=recipe)
    whole = run(spec, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_run(asked(spec, DATA, runtime_in(tmp_path / "cut"), 1e6), StopAt(20))
    resumed = run(spec, tmp_path / "cut")
    assert resumed.attempts == 2
    assert resumed.weights_sha256 == whole.weights_sha256
    assert resumed.val_loss_nats == whole.val_loss_nats
    assert whole.optimizer_flops == 40 * flops.muon_flops(TINY)
    assert whole.train_flops == 40 * 8 * flops.train_flops_per_sequence(TINY) + whole.optimizer_flops
    rows = read_metrics(tmp_path / "whole" / "s" / spec.run_id)
    assert rows[-1]["flops"] == whole.train_flops
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]


def test_every_parameter_is_stepped_once() -> None:
    model = build(TINY, 0)
    optimizer = build_optimizer(model, MUON)
    stepped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(stepped) == sorted(id(p) for p in model.parameters())
    before = [p.detach().clone() for p in model.parameters()]
    model(**inputs_of(TINY)).square().sum().backward()
    optimizer.step()
    assert not any(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_muon_under_a_parametrization_of_adamw_is_refused() -> None:
    with pytest.raises(ValueError, match="recipe.optimizer=muon does not go with recipe.parametrization=mup"):
        to_run(compose(["data=synthetic", "recipe=mup", "recipe.optimizer=muon"]))
    with pytest.raises(ValueError, match="unknown recipe.optimizer 'muno': did you mean 'muon'"):
        to_run(compose(["data=synthetic", "recipe.optimizer=muno"]))
