"""A writer of checkpoints beside training: a thread writes copies of the tensors, which training changes meanwhile.

At most one write is in flight, and its end is awaited before the next and before the end of the run. The loop raises an
error of the writer, at its next step at the latest.
"""

import copy
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from scaling.machine.hardware import free_bytes
from scaling.records.attempt import Attempt
from scaling.train import checkpoint
from scaling.train.checkpoint import Tables

HOST = torch.device("cpu")
ROOM = {"cpu": 1, "mps": 1, "cuda": 2}  # host memory for each byte copied at most: torch pins memory in powers of two


class Writer:
    """The writer of one run's checkpoints; a context whose end awaits the write in flight."""

    def __init__(self, device: torch.device, asked_s: float) -> None:
        """Write checkpoints of a run on `device`, `asked_s` seconds apart where `checkpoint.pause_s` allows."""
        self._device, self._asked_s = device, asked_s
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._flight: Future[float] | None = None  # seconds of the write
        self._took_s = 0.0  # seconds of the last write that has ended
        self._began = time.perf_counter()  # the last save, or the start

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._thread.shutdown()
        if error is None:
            self.wait()

    def due(self) -> bool:
        """Whether the next checkpoint is due; raises the error of a write that has failed meanwhile."""
        if self._flight is not None and self._flight.done():
            self.wait()
        elapsed_s = time.perf_counter() - self._began
        took_s = self._took_s if self._flight is None else elapsed_s
        return elapsed_s >= checkpoint.pause_s(self._asked_s, took_s, self._device)

    def save(
        self, attempt: Attempt, tables: Tables, state: Mapping[str, Any], *, wait: bool, gathered: bool = False
    ) -> None:
        """Save a checkpoint of the tensors as they are now; return before it is written, unless `wait`.

        Tensors that were `gathered` for it change no more and are not copied. A host without the memory for copies
        waits too.
        """
        self.wait()
        self._began = time.perf_counter()
        size = 0 if gathered else sum(tensor.nbytes for table in tables.values() for tensor in table.values())
        if wait or size * ROOM[self._device.type] > free_bytes(HOST):
            self._took_s = self._write(attempt, tables, state)
            return
        own = tables if gathered else _copies(tables)
        # The state's lists are filled further by the next steps.
        self._flight = self._thread.submit(self._write, attempt, own, copy.deepcopy(dict(state)), filled(self._device))

    def wait(self) -> None:
        """Wait until no write is in flight; raise the error of one that failed."""
        flight, self._flight = self._flight, None
        if flight is not None:
            self._took_s = flight.result()

    def _write(
        self, attempt: Attempt, tables: Tables, state: Mapping[str, Any], until_filled: Callable[[], None] | None = None
    ) -> float:
        """Write a checkpoint; return the seconds since its save began."""
        if until_filled is not None:
            until_filled()
        checkpoint.save(attempt, tables, state)
        return time.perf_counter() - self._began


def _copies(tables: Tables) -> Tables:
    return {name: {key: copied(tensor) for key, tensor in table.items()} for name, table in tables.items()}


def copied(tensor: Tensor) -> Tensor:
    """A copy in host memory; a GPU's is pinned, and filled after the steps launched so far and before later ones."""
    if tensor.device.type != "cuda":
        return tensor.detach().to(HOST, memory_format=torch.contiguous_format, copy=True)
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return pinned.copy_(tensor.detach(), non_blocking=True)


def filled(device: torch.device) -> Callable[[], None] | None:
    """A call that waits until a GPU has filled the copies made so far; None on the CPU, whose copies are filled."""
    if device.type != "cuda":
        return None
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return event.synchronize
