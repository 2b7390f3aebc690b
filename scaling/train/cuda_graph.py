"""A CUDA graph of a training step, recorded once and then replayed: one launch instead of hundreds.

The kernels of a small model end before the host launches the next ones, so that a step takes as long as its launches.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Generic, Protocol, TypeVar

import torch

from scaling.objectives.batch import Batch
from scaling.spec.run_spec import RunSpec

WARM_STEPS = 3  # steps before the recording, which choose or compile kernels and create the optimizer's state


class Graph(Protocol):
    """A recorder of device work that replays the work on the same memory."""

    def warm_up(self) -> AbstractContextManager[None]: ...
    def record(self) -> AbstractContextManager[object]: ...
    def replay(self) -> None: ...


class Result(Protocol):
    """The result of a step, in memory that the next replay overwrites."""

    def clone(self) -> Any: ...


R = TypeVar("R", bound=Result)


class CudaGraph:
    """A torch.cuda.CUDAGraph, with a stream of its own for the steps before the recording, as torch requires."""

    def __init__(self) -> None:
        self._graph, self._stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()  # type: ignore[no-untyped-call]

    @contextmanager
    def warm_up(self) -> Iterator[None]:
        """Run the work inside on the stream, in order with the work before and after."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            yield
        torch.cuda.current_stream().wait_stream(self._stream)

    def record(self) -> AbstractContextManager[object]:
        """Record the work inside without running it."""
        return torch.cuda.graph(self._graph)

    def replay(self) -> None:
        """Run the recorded work."""
        self._graph.replay()


class GraphedStep(Generic[R]):
    """A training step that runs directly at first, and then as the replay of a recorded step."""

    def __init__(
        self,
        take: Callable[[Batch], R],
        new_graph: Callable[[], Graph],
        device: torch.device,
        warm_steps: int = WARM_STEPS,
    ) -> None:
        self._take, self._new_graph, self._device, self._warm_steps = take, new_graph, device, warm_steps
        self.drop()

    def drop(self) -> None:
        """Forget the recording, whose memory is no longer the step's: the next steps run directly and record anew."""
        self._graph: Graph | None = None
        self._taken = 0
        self._batch: Batch | None = None  # memory that a replay reads
        self._result: R | None = None  # memory that a replay writes

    def __call__(self, batch: Batch) -> R:
        """The result of a step on a batch; a batch of another shape than the recorded batch is not replayed."""
        if self._graph is None:
            self._graph = self._new_graph()
        if self._taken < self._warm_steps:
            self._taken += 1
            with self._graph.warm_up():
                return self._take(batch)
        if self._result is None:
            self._batch = batch.to(self._device).clone()
            with self._graph.record():
                self._result = self._take(self._batch)
        assert self._batch is not None
        if not self._batch.is_like(batch):
            return self._take(batch)
        self._batch.copy_(batch)
        self._graph.replay()
        copy: R = self._result.clone()
        return copy


def graph_for(spec: RunSpec, micro_batch: int, device: torch.device, devices: int = 1) -> Callable[[], Graph] | None:
    """The maker of CUDA graphs for the run's steps; None, with the reason printed, where steps cannot be recorded."""
    if why := why_not(spec, micro_batch, device, devices):
        print(f"runtime.cuda_graphs=true: this run's steps are not recorded, since {why}", flush=True)
        return None
    return CudaGraph


def why_not(spec: RunSpec, micro_batch: int, device: torch.device, devices: int = 1) -> str:
    """The reason why the run's steps cannot be recorded in a CUDA graph; empty where they can."""
    if device.type != "cuda":
        return f"it trains on {device.type}"
    if devices > 1:
        return f"its {devices} devices agree on each step through the host"
    if spec.recipe.optimizer.kind != "adamw":
        return f"{spec.recipe.optimizer.kind} reads its learning rate on the host"
    if micro_batch < spec.recipe.batch_sequences:
        return f"its batch of {spec.recipe.batch_sequences} sequences is taken {micro_batch} at a time"
    if spec.model.dropout:
        return "dropout draws anew in every step"
    return ""
