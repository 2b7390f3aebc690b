"""Steps replayed from a recording, with a stand-in for the GPU's: the operations of one step, done again one by one."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scaling.model import build
from scaling.model.tower import recompute_activations
from scaling.objectives.batch import Batch
from scaling.spec.run_spec import RunSpec
from scaling.train.cuda_graph import WARM_STEPS, why_not
from scaling.train.stacked_step import Stack, StepRequest
from scaling.train.step import Stepper, StepResult
from tests.examples import ENCODER, ENCODER_DECODER, TINY
from tests.fake_graph import FakeGraph, state_of
from tests.train.test_loop import spec_for

CPU = torch.device("cpu")


def batches(spec: RunSpec, count: int, sequences: int = 4) -> list[Batch]:
    """Random ones; those of the families with two inputs leave out a target of the first sequence."""
    draw = torch.Generator().manual_seed(0)

    def tokens(length: int, below: int = spec.model.vocab_size) -> Tensor:
        return torch.randint(below, (sequences, length), generator=draw)

    def one() -> Batch:
        if spec.model.kind == "decoder":
            return Batch((tokens(16),), tokens(16), None, sequences * 16)
        weights = torch.ones(sequences, 3)
        weights[0, 0] = 0
        return Batch((tokens(16), tokens(3, below=3)), tokens(3), weights, sequences * 3 - 1)

    return [one() for _ in range(count)]


class Graphs(list[FakeGraph]):
    """Recordings in the order in which they are begun."""

    def new(self) -> FakeGraph:
        self.append(FakeGraph())
        return self[-1]

    @property
    def replays(self) -> list[int]:
        return [graph.replays for graph in self]


def steps(spec: RunSpec, graphs: Graphs | None, given: list[Batch]) -> list[StepResult]:
    """Every fifth measures its noise; the learning rate differs in each."""
    model = build(spec.model, spec.seed)
    stepper = Stepper(model, spec.recipe, 4, CPU, None if graphs is None else graphs.new)
    found = []
    for number, batch in enumerate(given):
        for graph in graphs or ():
            graph.state = state_of(model, stepper.optimizer)
        found.append(stepper.take(batch, 1 / (number + 1), measure_noise=number % 5 == 4))
    return found


@pytest.mark.parametrize("shape", [TINY, ENCODER, ENCODER_DECODER], ids=lambda shape: shape.kind)
def test_replayed_steps_are_the_steps_taken_one_by_one(shape: Any) -> None:
    spec = spec_for(model=shape)
    given, graphs = batches(spec, 15), Graphs()
    plain, replayed = steps(spec, None, given), steps(spec, graphs, given)
    measured = len(given) // 5
    # A measuring step whose targets do not all count is taken directly, any other from the second on replayed.
    recorded = [measured - 1] if shape.kind == "decoder" else []
    assert graphs.replays == [len(given) - WARM_STEPS - measured, *recorded]
    assert [s.loss.item() for s in replayed] == pytest.approx([s.loss.item() for s in plain], rel=1e-6)
    assert [s.grad_norm.item() for s in replayed] == pytest.approx([s.grad_norm.item() for s in plain], rel=1e-5)
    noise, expected = ([step.noise for step in found if step.noise is not None] for found in (replayed, plain))
    assert len(noise) == measured
    for mine, theirs in zip(noise, expected, strict=True):
        assert mine.square.item() == pytest.approx(theirs.square.item(), rel=1e-4, abs=1e-6)
        assert mine.trace.item() == pytest.approx(theirs.trace.item(), rel=1e-4, abs=1e-6)


def test_a_batch_of_another_shape_is_taken_as_it_is() -> None:
    spec, graphs = spec_for(), Graphs()
    given = batches(spec, WARM_STEPS + 1)
    short = batches(spec, 1, sequences=2)
    found = steps(spec, graphs, [*given, *short])
    assert sum(graphs.replays) == 1
    assert found[-1].loss.item() == pytest.approx(steps(spec, None, [*given, *short])[-1].loss.item(), rel=1e-6)


def test_recomputation_is_recorded_without_reading_the_random_state(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, graph = spec_for(), FakeGraph()
    given = batches(spec, WARM_STEPS + 2)

    def recomputing(stepper: Stepper) -> list[float]:
        recompute_activations(stepper.model)
        found = []
        for batch in given:
            graph.state = state_of(stepper.model, stepper.optimizer)
            found.append(stepper.take(batch, 1.0).loss.item())
        return found

    def refused(*_: Any) -> Any:
        raise RuntimeError("a recording cannot read the generator's state")

    plain = recomputing(Stepper(build(spec.model, spec.seed), spec.recipe, 4, CPU))
    recorded = Stepper(build(spec.model, spec.seed), spec.recipe, 4, CPU, lambda: graph)
    monkeypatch.setattr(torch, "get_rng_state", refused)
    replayed = recomputing(recorded)
    assert graph.replays == 2
    assert replayed == pytest.approx(plain, rel=1e-6)


def test_recomputation_with_dropout_still_draws_the_same_numbers_twice() -> None:
    spec = spec_for()
    spec = replace(spec, model=replace(spec.model, dropout=0.5))
    (batch,) = batches(spec, 1)
    norms = []
    for recomputed in (False, True):
        stepper = Stepper(build(spec.model, spec.seed), spec.recipe, 4, CPU)
        if recomputed:
            recompute_activations(stepper.model)
        torch.manual_seed(0)
        norms.append(stepper.take(batch, 1.0).grad_norm.item())
    assert norms[1] == pytest.approx(norms[0], rel=1e-6)


def test_a_recording_is_made_anew_where_its_weights_have_moved() -> None:
    spec, graphs = spec_for(), [FakeGraph(), FakeGraph()]
    given = batches(spec, 2 * (WARM_STEPS + 1) + 1)
    made = iter(graphs)
    moved = Stepper(build(spec.model, spec.seed), spec.recipe, 4, CPU, lambda: next(made))
    plain = Stepper(build(spec.model, spec.seed), spec.recipe, 4, CPU)
    losses = []
    for number, batch in enumerate(given):
        if number == WARM_STEPS + 1:  # as a stack does that the run joins
            moved.move_to(*([torch.zeros_like(v) for v in moved.flat.weights_N] for _ in range(2)))
        graphs[number > WARM_STEPS].state = state_of(moved.model, moved.optimizer)
        losses.append(moved.take(batch, 1.0).loss.item())
    assert [graph.replays for graph in graphs] == [1, 2]
    assert losses == pytest.approx([plain.take(batch, 1.0).loss.item() for batch in given], rel=1e-6)


@pytest.mark.parametrize("alike", [True, False], ids=["one factor", "two factors"])
def test_the_step_of_a_stack_is_recorded_and_each_run_is_the_run_taken_alone(alike: bool) -> None:
    spec = spec_for()
    given = batches(spec, WARM_STEPS + 3)
    factors = [1.0, 1.0 if alike else 0.5]
    graph = FakeGraph()
    steppers = [Stepper(build(spec.model, seed), spec.recipe, 4, CPU, lambda: graph) for seed in range(2)]
    together = Stack(steppers)
    found: list[list[float]] = [[], []]
    for batch in given:
        graph.state = [*together.parameters, *state_of(nn.Module(), *together.optimizers)]
        requests = [
            StepRequest(stepper, batch, factor, measure_noise=False, due=False)
            for stepper, factor in zip(steppers, factors, strict=True)
        ]
        for losses, result in zip(found, together.take(requests), strict=True):
            losses.append(result.loss.item())
    assert graph.replays == 3
    for seed, losses in enumerate(found):
        alone = Stepper(build(spec.model, seed), spec.recipe, 4, CPU)
        assert losses == pytest.approx([alone.take(batch, factors[seed]).loss.item() for batch in given], rel=1e-5)


def test_a_stack_whose_runs_part_in_their_rates_is_recorded_anew() -> None:
    """One optimizer updates all runs while their rates agree, and each its own afterwards."""
    spec, graphs = spec_for(), []

    def new_graph() -> FakeGraph:
        graphs.append(FakeGraph())
        return graphs[-1]

    given = batches(spec, 2 * (WARM_STEPS + 2))
    steppers = [Stepper(build(spec.model, seed), spec.recipe, 4, CPU, new_graph) for seed in range(2)]
    together = Stack(steppers)
    found: list[list[float]] = [[], []]
    for number, batch in enumerate(given):
        factors = [1.0, 1.0 if number < WARM_STEPS + 2 else 0.5]
        for graph in graphs:
            graph.state = [*together.parameters, *state_of(nn.Module(), *together.optimizers)]
        requests = [
            StepRequest(s, batch, f, measure_noise=False, due=False) for s, f in zip(steppers, factors, strict=True)
        ]
        for losses, result in zip(found, together.take(requests), strict=True):
            losses.append(result.loss.item())
    assert [graph.replays for graph in graphs if graph.replays] == [2, 2]
    for seed, losses in enumerate(found):
        alone = Stepper(build(spec.model, seed), spec.recipe, 4, CPU)
        factors = [1.0 if seed == 0 or number < WARM_STEPS + 2 else 0.5 for number in range(len(given))]
        expected = [alone.take(batch, factor).loss.item() for batch, factor in zip(given, factors, strict=True)]
        assert losses == pytest.approx(expected, rel=1e-5)


def test_a_step_that_cannot_measure_its_noise_is_replayed() -> None:
    """A batch of one sequence has no halves, and a compiled model's batch is taken whole."""
    spec, graph = spec_for(), FakeGraph()
    stepper = Stepper(build(spec.model, spec.seed), spec.recipe, 4, CPU, lambda: graph)
    for batch in batches(spec, WARM_STEPS + 2, sequences=1):
        graph.state = state_of(stepper.model, stepper.optimizer)
        assert stepper.take(batch, 1.0, measure_noise=True).noise is None
    assert graph.replays == 2


@pytest.mark.parametrize(
    ("changed", "micro_batch", "device", "why"),
    [
        ({}, 4, "cuda", ""),
        ({}, 4, "cpu", "trains on cpu"),
        ({}, 3, "cuda", "batch of 4 sequences is taken 3 at a time"),
        ({"optimizer": "muon"}, 4, "cuda", "muon reads its learning rate on the host"),
        ({"dropout": 0.1}, 4, "cuda", "dropout"),
    ],
)
def test_what_cannot_be_recorded_is_said(changed: dict[str, Any], micro_batch: int, device: str, why: str) -> None:
    spec = spec_for()
    optimizer = replace(spec.recipe.optimizer, kind=changed.get("optimizer", "adamw"))
    recipe = replace(spec.recipe, batch_sequences=4, optimizer=optimizer)
    spec = replace(spec, recipe=recipe, model=replace(spec.model, dropout=changed.get("dropout", 0.0)))
    found = why_not(spec, micro_batch, torch.device(device))
    assert (why in found) if why else found == ""


def test_what_is_already_there_is_not_moved() -> None:
    """A recorded step reads its batch where it lies; pinning what is on a GPU would fail."""
    there = batches(spec_for(), 1)[0].to(torch.device("meta"))
    assert there.targets_BP.is_meta
    assert there.to(torch.device("meta")).targets_BP is there.targets_BP
