"""Flat parameters: all weights of an optimizer's group in one long row of memory, and all their gradients in another.

Clipping and AdamW then handle a few tensors, however many parameters there are. The rows of models of one shape can lie
under each other, as one matrix.

R models, N numbers of a row
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from scaling.train.optimizers import BY_NUMBER

ALIGNED = 16  # numbers: a parameter begins at a multiple of these, so that kernels read it in whole vectors
BLOCK = 1024  # numbers: a norm is taken of each block first, since one float32 sum over a row would lose digits


class FlatParameters:
    """The rows that hold a model's weights and gradients, one pair for each group of the optimizer."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        """Move the optimizer's parameters into rows, which it is given where it updates each number by itself."""
        groups = [group for group in optimizer.param_groups if group["params"]]
        self._parameters: list[list[Tensor]] = [list(group["params"]) for group in groups]
        self.weights_N: list[Tensor] = []
        self.gradients_N: list[Tensor] = []
        rows = [nn.Parameter(parameters[0].new_zeros(_length(parameters))) for parameters in self._parameters]
        self._owners: list[Tensor] = list(rows)
        self.move_to([row.data for row in rows], [torch.zeros_like(row) for row in rows])
        for group, row in zip(groups, rows, strict=True):
            if group.get(BY_NUMBER):
                group["params"] = [row]

    @torch.no_grad()
    def move_to(self, weights_N: Sequence[Tensor], gradients_N: Sequence[Tensor]) -> None:
        """Use other memory from now on: the weights are copied there, the gradients start at zero."""
        self.weights_N, self.gradients_N = list(weights_N), list(gradients_N)
        for owner, row, gradient in zip(self._owners, weights_N, gradients_N, strict=True):
            gradient.zero_()
            owner.data, owner.grad = row, gradient
        for parameter, (group, place) in self.places():
            here = slice(place, place + parameter.numel())
            own = self.weights_N[group][here].view_as(parameter)
            own.copy_(parameter)
            parameter.data, parameter.grad = own, self.gradients_N[group][here].view_as(parameter)

    def places(self) -> Iterator[tuple[Tensor, tuple[int, int]]]:
        """Every parameter with the number of its row and the place where it begins."""
        for group, parameters in enumerate(self._parameters):
            place = 0
            for parameter in parameters:
                yield parameter, (group, place)
                place += _aligned(parameter)


def _aligned(parameter: Tensor) -> int:
    """Numbers between the beginnings of a parameter and the next."""
    return -(-parameter.numel() // ALIGNED) * ALIGNED


def _length(parameters: Sequence[Tensor]) -> int:
    return -(-sum(map(_aligned, parameters)) // BLOCK) * BLOCK


def norms(gradients_RN: Sequence[Tensor]) -> Tensor:
    """The norm of each model's whole gradient, (R)."""
    of_blocks = [torch.linalg.vector_norm(g.view(len(g), -1, BLOCK), dim=2) for g in gradients_RN]
    blocks = of_blocks[0] if len(of_blocks) == 1 else torch.cat(of_blocks, dim=1)
    found: Tensor = torch.linalg.vector_norm(blocks, dim=1)
    return found


def clip_(gradients_RN: Sequence[Tensor], limit: float | None) -> Tensor:
    """Shrink each model's gradient to a norm of at most `limit` (0 or None: none); returns the norms before, (R)."""
    norm_R = norms(gradients_RN)
    if limit:
        factor_R1 = (limit / (norm_R + 1e-6)).clamp(max=1.0).unsqueeze(1)
        for gradient in gradients_RN:
            gradient.mul_(factor_R1)
    return norm_R
