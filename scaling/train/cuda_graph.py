"""A training step recorded once as a CUDA graph and then replayed: one launch where there were hundreds.

A small model's kernels are over before the next has been asked for, so that its step takes as long as the asking.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch

from scaling.objectives.batch import Batch
from scaling.spec.run_spec import RunSpec
from scaling.train.step_result import StepResult

WARM_STEPS = 3  # taken as they are: kernels are chosen or compiled in them, and the optimizer's state is made


class Graph(Protocol):
    """What records work on the device and repeats it, on the same memory."""

    def warm_up(self) -> AbstractContextManager[None]: ...
    def record(self) -> AbstractContextManager[object]: ...
    def replay(self) -> None: ...


class CudaGraph:
    """torch.cuda.CUDAGraph, with the stream of their own that torch asks for steps before a recording."""

    def __init__(self) -> None:
        self._graph, self._stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()  # type: ignore[no-untyped-call]

    @contextmanager
    def warm_up(self) -> Iterator[None]:
        """What is asked for meanwhile happens in order with what comes before and after."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            yield
        torch.cuda.current_stream().wait_stream(self._stream)

    def record(self) -> AbstractContextManager[object]:
        """What is asked for meanwhile is recorded, and not done."""
        return torch.cuda.graph(self._graph)

    def replay(self) -> None:
        """Do what was recorded."""
        self._graph.replay()


class GraphedStep:
    """Takes steps: the first few as they are, the others as a replay of one."""

    def __init__(self, take: Callable[[Batch], StepResult], graph: Graph, device: torch.device) -> None:
        self._take, self._graph, self._device = take, graph, device
        self._taken = 0
        self._batch: Batch | None = None  # where a replay reads
        self._found: StepResult | None = None  # and where it writes

    def __call__(self, batch: Batch) -> StepResult:
        """The step on a batch, which is taken as it is where its shape is not the recorded one's."""
        if self._taken < WARM_STEPS:
            self._taken += 1
            with self._graph.warm_up():
                return self._take(batch)
        if self._found is None:
            self._batch = batch.to(self._device).clone()
            with self._graph.record():
                self._found = self._take(self._batch)
        assert self._batch is not None
        if not self._batch.is_like(batch):
            return self._take(batch)
        self._batch.copy_(batch)
        self._graph.replay()
        return self._found.clone()


def why_not(spec: RunSpec, micro_batch: int, device: torch.device) -> str:
    """Why this run's steps cannot be recorded, though `runtime.cuda_graphs` asks for it; empty if they can."""
    if device.type != "cuda":
        return f"it trains on {device.type}"
    if spec.recipe.optimizer.kind != "adamw":
        return f"{spec.recipe.optimizer.kind} reads its learning rate on the host"
    if micro_batch < spec.recipe.batch_sequences:
        return f"its batch of {spec.recipe.batch_sequences} sequences is taken {micro_batch} at a time"
    if spec.model.dropout:
        return "dropout draws anew in every step"
    return ""
