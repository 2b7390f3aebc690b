"""Cells of the sweeps for many GPUs take a step without any: fake tensors, and torch's fake process group.

A cell builds its model, shards it as the plan decided, and computes a whole step at a rank: forward, backward, exchange
and update. Shapes and calls are real, numbers are not.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing._internal.distributed.fake_pg import FakeStore

from scaling.config.config import compose
from scaling.config.grid import load_like
from scaling.launch.sweep import expand
from scaling.model import build
from scaling.objectives.batch import Batch
from scaling.objectives.chunked_loss import keeps_sums
from scaling.plan.degrees import elsewhere, with_devices
from scaling.plan.run import Run
from scaling.shapes.matmuls import parameter_counts
from scaling.spec.parallel import shards_of
from scaling.train.parallel import sharded_step
from scaling.train.parallel.ranks import Ranks
from scaling.train.parallel.sharded_step import ShardedStepper
from scaling.train.parallel.sharding import mesh_of
from scaling.train.step import Stepper, StepResult

SWEEPS = {"node-1e20": 8, "cluster-1e21": 64}
CPU = torch.device("cpu")


@cache
def cells(sweep: str) -> list[Run]:
    """The cells of a sweep by shape, kind and number of devices, as the plan decides these for H100s."""
    asked = [f"+sweep={sweep}"]
    runs = with_devices(expand(compose(asked), asked, {}, load_like), elsewhere("h100", SWEEPS[sweep]))
    found = {(run.spec.model, run.runtime.parallel, run.runtime.devices_per_run): run for run in runs}
    return list(found.values())


def degrees() -> list[tuple[str, str, int]]:
    return [("node-1e20", "ddp", 8), ("cluster-1e21", "ddp", 32), ("cluster-1e21", "fsdp", 64)]


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A maker of the first of so many ranks, whose exchanges return what they are given."""

    def make(count: int) -> Ranks:
        dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=count)
        with monkeypatch.context() as patched:
            patched.setattr(dist, "init_process_group", lambda *_, **__: None)  # which asks for gloo
            return Ranks(0, count, FakeStore(), CPU, 60.0)

    keeps_sums.cache_clear()
    yield make
    keeps_sums.cache_clear()  # fake tensors answer as no CPU does
    if dist.is_initialized():
        dist.destroy_process_group()


def step(run: Run, ranks: Ranks, monkeypatch: pytest.MonkeyPatch) -> tuple[Stepper, StepResult]:
    """A step of a micro-batch of one sequence a rank."""
    spec, world = run.spec, run.runtime.devices_per_run
    recipe = replace(spec.recipe, compile=False)  # the compiler would make kernels of fake tensors
    shards = shards_of(run.runtime.parallel, world)
    mesh = mesh_of(CPU, world, shards, 60.0) if shards > 1 else None  # reads numbers, which fake tensors have not
    monkeypatch.setattr(sharded_step, "mesh_of", lambda *_: mesh)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = build(spec.model, spec.seed, spec.recipe.multipliers)
        stepper: Stepper
        if shards > 1:
            stepper = ShardedStepper(model, recipe, 1, ranks, shards, lambda: model)
        else:
            stepper = Stepper(model, recipe, 1, CPU)
        tokens_BT = torch.zeros(world, spec.model.context, dtype=torch.long)
        batch = Batch((tokens_BT,), tokens_BT.clone(), None, tokens_BT.numel())
        return stepper, stepper.take(batch, 1.0, sharing=ranks)


def check(run: Run, ranks: Ranks, monkeypatch: pytest.MonkeyPatch) -> None:
    stepper, result = step(run, ranks, monkeypatch)
    assert result.loss.shape == result.grad_norm.shape == ()
    shards = shards_of(run.runtime.parallel, run.runtime.devices_per_run)
    held = sum(weights.numel() for weights in stepper.own_weights())
    whole = sum(parameter.numel() for parameter in stepper.model.parameters())
    assert whole / shards <= held <= 1.01 * whole / shards  # rows that do not divide make the first shards larger


@pytest.mark.parametrize(("sweep", "parallel", "world"), degrees())
def test_shallow_cells_of_each_kind_take_a_step(
    sweep: str, parallel: str, world: int, ranks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = next(run for run in cells(sweep) if (run.runtime.parallel, run.runtime.devices_per_run) == (parallel, world))
    shallow = replace(run.spec, model=replace(run.spec.model, n_layers=2))
    check(replace(run, spec=shallow), ranks(world), monkeypatch)


@pytest.mark.long
@pytest.mark.parametrize("sweep", SWEEPS)
def test_every_cell_takes_a_step(sweep: str, ranks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for run in cells(sweep):
        with monkeypatch.context() as patched:
            check(run, ranks(run.runtime.devices_per_run), patched)
        dist.destroy_process_group()


@pytest.mark.parametrize("sweep", SWEEPS)
def test_no_cell_sees_fewer_than_three_tokens_a_parameter_and_all_fit_the_machine(sweep: str) -> None:
    found = cells(sweep)
    assert min(run.spec.train_tokens / parameter_counts(run.spec.model)["non_embedding"] for run in found) >= 3
    degrees = {run.runtime.devices_per_run for run in found}
    assert max(degrees) <= SWEEPS[sweep]
    assert len(degrees) > 1
