"""A batch: tokens that a model reads, and tokens that it must predict."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Chunk = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """What the model sees and what it must predict."""

    inputs: tuple[Tensor, ...]  # of the model's forward, each with the batch first
    targets_BP: Tensor
    weights_BP: Tensor | None  # 0 for what is there only to keep the batch rectangular; None: every target counts
    follows_B: Tensor | None  # 1 where the second segment follows the first; None without that question
    predicted: int  # targets that count

    def split(self, sequences: int) -> Iterator["Batch"]:
        """The same, at most so many sequences at a time."""
        if sequences >= len(self.targets_BP):
            yield self  # untouched: counting what counts would wait for the device
            return
        for first in range(0, len(self.targets_BP), sequences):
            part = slice(first, first + sequences)
            weights = None if self.weights_BP is None else self.weights_BP[part]
            targets = self.targets_BP[part]
            yield Batch(
                tuple(tensor[part] for tensor in self.inputs),
                targets,
                weights,
                None if self.follows_B is None else self.follows_B[part],
                targets.numel() if weights is None else int(weights.sum()),
            )

    def to(self, device: torch.device) -> "Batch":
        """The same, on this device."""

        def move(tensor: Tensor | None) -> Tensor | None:
            if tensor is None or tensor.device.type == device.type:
                return tensor
            return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)

        return self._each(move)

    def clone(self) -> "Batch":
        """The same, in memory of its own."""
        return self._each(lambda tensor: None if tensor is None else tensor.clone())

    def is_like(self, other: "Batch") -> bool:
        """Whether the other has tensors of the same shapes."""
        return [_size(t) for t in self._tensors()] == [_size(t) for t in other._tensors()]

    def copy_(self, other: "Batch") -> None:
        """Take over what another of the same shapes holds, in this one's memory."""
        for mine, theirs in zip(self._tensors(), other.to(self.targets_BP.device)._tensors(), strict=True):
            if mine is not None and theirs is not None:
                mine.copy_(theirs)

    def _tensors(self) -> tuple[Tensor | None, ...]:
        return (*self.inputs, self.targets_BP, self.weights_BP, self.follows_B)

    def _each(self, change: Callable[[Tensor | None], Any]) -> "Batch":
        *inputs, targets_BP, weights_BP, follows_B = (change(tensor) for tensor in self._tensors())
        return Batch(tuple(inputs), targets_BP, weights_BP, follows_B, self.predicted)


def join(examples: Sequence[Batch]) -> Batch:
    """Those of the same shapes as one, one after another."""
    columns = zip(*(one._tensors() for one in examples), strict=True)
    joined = examples[0]._each(lambda tensor: _cat(next(columns)))
    return dataclasses.replace(joined, predicted=sum(one.predicted for one in examples))


def _cat(tensors: Sequence[Tensor | None]) -> Tensor | None:
    there = [tensor for tensor in tensors if tensor is not None]
    return torch.cat(there) if there else None


def _size(tensor: Tensor | None) -> torch.Size | None:
    return None if tensor is None else tensor.shape


def batch_of(
    inputs: tuple[Chunk, ...], targets_BP: Chunk, weights_BP: NDArray[np.bool_] | None, follows_B: Chunk | None = None
) -> Batch:
    """An Batch from arrays; weights that are all 1 are left out."""
    if weights_BP is not None and weights_BP.all():
        weights_BP = None
    return Batch(
        tuple(torch.from_numpy(array) for array in inputs),
        torch.from_numpy(targets_BP),
        None if weights_BP is None else torch.from_numpy(weights_BP).float(),
        None if follows_B is None else torch.from_numpy(follows_B),
        targets_BP.size if weights_BP is None else int(weights_BP.sum()),
    )
