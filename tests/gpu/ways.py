"""Ways of taking steps, each of which gives the losses of the plain way, up to rounding."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from scaling.model import build
from scaling.model.tower import recompute_activations
from scaling.objectives.batch import Batch
from scaling.objectives.objectives import training_batch
from scaling.spec import memory
from scaling.spec.run_spec import RunSpec
from scaling.train.cuda_graph import CudaGraph, Graph
from scaling.train.stacked_step import Stack, StepRequest
from scaling.train.step import Stepper
from tests.examples import SPEC, TINY
from tests.fake_graph import FakeGraph, state_of

STEPS = 16
MEASURED = 8  # steps from one that measures its gradient noise to the next
SMALL = replace(
    SPEC,
    model=replace(TINY, n_layers=2, d_model=64, n_heads=2, n_kv_heads=2, d_ff=256, vocab_size=257, context=64),
    data=replace(SPEC.data, vocab_size=257),
    recipe=replace(SPEC.recipe, batch_sequences=4),
)


@dataclass(frozen=True)
class Way:
    """A way of taking a run's steps."""

    precision: str = "fp32"
    compiled: bool = False
    graphed: bool = False
    models: int = 1  # more are a stack
    micro_batch: int = 4
    recomputed: bool = False
    chunk_logits: int = memory.CHUNK_LOGITS


WAYS = {
    "compiled": Way(compiled=True),
    "graph": Way(graphed=True),
    "compiled graph": Way(compiled=True, graphed=True),
    "stack": Way(models=2),
    "graph over stack": Way(graphed=True, models=2),
    "compiled graph over stack": Way(compiled=True, graphed=True, models=2),
    "accumulation": Way(micro_batch=3),
    "recomputation": Way(recomputed=True),
    "graph with recomputation": Way(graphed=True, recomputed=True),
    "loss in chunks": Way(chunk_logits=100 * 257),
}


def batches(spec: RunSpec, steps: int) -> Iterator[Batch]:
    """Batches of random tokens, made as training makes them."""
    draw = np.random.default_rng(0)
    for step in range(1, steps + 1):
        chunk = draw.integers(spec.data.vocab_size, size=(spec.recipe.batch_sequences, spec.lengths.text + 1))
        yield training_batch(spec, chunk, step, None)


def losses(
    spec: RunSpec,
    way: Way,
    device: torch.device,
    steps: int = STEPS,
    before_step: Callable[[int], None] | None = None,
) -> list[float]:
    """The losses of a run's first steps, taken this way; of a stack's first run.

    `before_step` is called with the number of each step, and once more after the last.
    """
    recipe = replace(spec.recipe, precision=way.precision, compile=way.compiled)
    stand_ins: list[FakeGraph] = []

    def stand_in() -> Graph:
        stand_ins.append(FakeGraph())
        return stand_ins[-1]

    new_graph = None if not way.graphed else CudaGraph if device.type == "cuda" else stand_in
    steppers: list[Stepper] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "CHUNK_LOGITS", way.chunk_logits)
        patch.setattr(memory, "FUSED_ROWS", min(memory.FUSED_ROWS, way.chunk_logits // spec.model.vocab_size))
        for seed in range(way.models):
            model = build(spec.model, seed, recipe.multipliers).to(device)
            if way.recomputed:
                recompute_activations(model)
            steppers.append(Stepper(model, recipe, way.micro_batch, device, new_graph))
        stack = Stack(steppers) if way.models > 1 else None
        found = []
        for number, batch in enumerate(batches(spec, steps), start=1):
            measured = number % MEASURED == 0
            if before_step is not None:
                before_step(number)
            for graph in stand_ins:
                graph.state = [tensor for s in steppers for tensor in state_of(s.model, s.optimizer)]
            if stack is None:
                found.append(steppers[0].take(batch, 1.0, measure_noise=measured).loss)
            else:
                requests = [StepRequest(s, batch, 1.0, measure_noise=measured, due=False) for s in steppers]
                found.append(stack.take(requests)[0].loss)
        if before_step is not None:
            before_step(steps + 1)
        return [loss.item() for loss in found]
