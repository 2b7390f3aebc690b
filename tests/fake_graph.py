"""A stand-in for a CUDA graph: the operations of one step, done again one by one."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Tape(TorchDispatchMode):
    """Operations with the tensors that they read and wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func is not torch.ops.aten._local_scalar_dense.default, "a recording cannot wait for the device"
        out = func(*args, **(kwargs or {}))
        self.done.append((func, args, kwargs or {}, out))
        return out


class FakeGraph:
    """Does again what was recorded, on the same memory; what a recording itself did to `state` is undone."""

    def __init__(self) -> None:
        self.state: list[Tensor] = []
        self.replays = 0
        self.tape = Tape()

    def warm_up(self) -> AbstractContextManager[None]:
        return nullcontext()

    @contextmanager
    def record(self) -> Iterator[None]:
        before = [tensor.detach().clone() for tensor in self.state]
        with self.tape:
            yield
        with torch.no_grad():
            for tensor, held in zip(self.state, before, strict=True):
                tensor.copy_(held)

    @torch.no_grad()
    def replay(self) -> None:
        self.replays += 1
        for func, args, kwargs, out in self.tape.done:
            for mine, again in zip(tree_leaves(out), tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(mine, Tensor) and mine.data_ptr() != again.data_ptr():
                    mine.copy_(again)


def state_of(model: nn.Module, *optimizers: torch.optim.Optimizer) -> list[Tensor]:
    """What a step changes: weights and moments."""
    moments = [t for optimizer in optimizers for held in optimizer.state.values() for t in held.values()]
    return [*model.parameters(), *moments]
