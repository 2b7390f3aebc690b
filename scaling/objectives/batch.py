"""A batch: the tokens that a model reads, and the targets that the model must predict."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Chunk = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Inputs and targets of B sequences, P predictions each."""

    inputs: tuple[Tensor, ...]  # arguments of the model's forward, each with the batch first
    targets_BP: Tensor
    weights_BP: Tensor | None  # 0 for targets that only keep the batch rectangular; None: every target counts
    predicted: int  # number of targets that count
    auxiliary: Mapping[str, Tensor] = field(default_factory=dict)  # targets of auxiliary losses by name, batch first

    def split(self, sequences: int) -> Iterator["Batch"]:
        """Micro-batches of at most `sequences` sequences each."""
        if sequences >= len(self.targets_BP):
            yield self  # untouched, because counting a micro-batch's targets would wait for the device
            return
        for first in range(0, len(self.targets_BP), sequences):
            yield self.part(first, first + sequences)

    def part(self, first: int, stop: int) -> "Batch":
        """The sequences from number `first` to before number `stop`, with their own count of targets."""
        part = self._map(itemgetter(slice(first, stop)))
        weights = part.weights_BP
        return part.counting(part.targets_BP.numel() if weights is None else int(weights.sum()))

    def counting(self, predicted: int) -> "Batch":
        """The same tensors, with `predicted` as the number of targets that count."""
        return Batch(self.inputs, self.targets_BP, self.weights_BP, predicted, self.auxiliary)

    def to(self, device: torch.device) -> "Batch":
        """The batch on `device`."""

        def move(tensor: Tensor) -> Tensor:
            if tensor.device.type == device.type:
                return tensor
            # A copy of a strided tensor waits for the device even where the tensor is pinned.
            sent = tensor.contiguous().pin_memory() if device.type == "cuda" else tensor
            return sent.to(device, non_blocking=True)

        return self._map(move)

    def clone(self) -> "Batch":
        """A copy of the batch in memory of its own."""
        return self._map(torch.clone)

    def is_like(self, other: "Batch") -> bool:
        """Whether both batches have tensors of the same names and shapes."""
        mine, theirs = self._tensors(), other._tensors()
        return mine.keys() == theirs.keys() and all(mine[name].shape == theirs[name].shape for name in mine)

    def copy_(self, other: "Batch") -> None:
        """Copy another batch of the same shapes into this batch's memory."""
        theirs = other.to(self.targets_BP.device)._tensors()
        for name, mine in self._tensors().items():
            mine.copy_(theirs[name])

    def _tensors(self) -> dict[str, Tensor]:
        """Tensors by name; two batches of one kind have the same names."""
        named = {f"input {i}": tensor for i, tensor in enumerate(self.inputs)} | {"targets": self.targets_BP}
        if self.weights_BP is not None:
            named["weights"] = self.weights_BP
        return named | {f"auxiliary {name}": tensor for name, tensor in self.auxiliary.items()}

    def _map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """The batch with `change` applied to every tensor."""
        return Batch(
            tuple(change(tensor) for tensor in self.inputs),
            change(self.targets_BP),
            None if self.weights_BP is None else change(self.weights_BP),
            self.predicted,
            {name: change(tensor) for name, tensor in self.auxiliary.items()},
        )


def join(batches: Sequence[Batch]) -> Batch:
    """One batch of all sequences, in order, from batches of the same shapes."""
    columns = zip(*(batch._tensors().values() for batch in batches), strict=True)
    joined = batches[0]._map(lambda tensor: torch.cat(next(columns)))
    return joined.counting(sum(batch.predicted for batch in batches))


def batch_of(
    inputs: tuple[Chunk, ...],
    targets_BP: Chunk,
    weights_BP: NDArray[np.bool_] | None,
    auxiliary: Mapping[str, Chunk] | None = None,
) -> Batch:
    """A batch from arrays; weights that are all 1 are left out."""
    if weights_BP is not None and weights_BP.all():
        weights_BP = None
    return Batch(
        tuple(torch.from_numpy(array) for array in inputs),
        torch.from_numpy(targets_BP),
        None if weights_BP is None else torch.from_numpy(weights_BP).float(),
        targets_BP.size if weights_BP is None else int(weights_BP.sum()),
        {name: torch.from_numpy(array) for name, array in (auxiliary or {}).items()},
    )
