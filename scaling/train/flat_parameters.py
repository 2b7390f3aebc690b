"""Flat parameters: all weights of an optimizer's group in one long vector, and all their gradients in another.

Clipping and AdamW then handle a few tensors, however many parameters a model has. The vectors of several models of one
shape can be the rows of one matrix.

R models, N numbers of a vector
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from scaling.train.optimizers import ELEMENTWISE

ALIGNED = 16  # numbers; a parameter begins at a multiple of 16, so that kernels load it in full width
NEAR_ZERO = 1e-6  # beside the norm that clipping divides by, as in torch
BLOCK = 1024  # numbers; norms are taken block by block first, because one float32 sum over a vector would lose digits


class FlatParameters:
    """Flat vectors of a model's weights and gradients, one pair for each group of the optimizer."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        """Move the optimizer's parameters into flat vectors; an elementwise group then updates its vector directly."""
        groups = [group for group in optimizer.param_groups if group["params"]]
        self._parameters: list[list[Tensor]] = [list(group["params"]) for group in groups]
        self.weights_N: list[Tensor] = []
        self.gradients_N: list[Tensor] = []
        vectors = [nn.Parameter(parameters[0].new_zeros(_length(parameters))) for parameters in self._parameters]
        self._owners: list[Tensor] = list(vectors)
        self.move_to([vector.data for vector in vectors], [torch.zeros_like(vector) for vector in vectors])
        for group, vector in zip(groups, vectors, strict=True):
            if group.get(ELEMENTWISE):
                group["params"] = [vector]

    @torch.no_grad()
    def move_to(self, weights_N: Sequence[Tensor], gradients_N: Sequence[Tensor]) -> None:
        """Move to other memory: the weights are copied, the gradients start at zero."""
        self.weights_N, self.gradients_N = list(weights_N), list(gradients_N)
        for owner, weights, gradient in zip(self._owners, weights_N, gradients_N, strict=True):
            gradient.zero_()
            owner.data, owner.grad = weights, gradient
        for parameter, (group, place) in self.places():
            here = slice(place, place + parameter.numel())
            own = self.weights_N[group][here].view_as(parameter)
            own.copy_(parameter)
            parameter.data, parameter.grad = own, self.gradients_N[group][here].view_as(parameter)

    def places(self) -> Iterator[tuple[Tensor, tuple[int, int]]]:
        """Every parameter with the number of its vector and its first position there."""
        for group, parameters in enumerate(self._parameters):
            place = 0
            for parameter in parameters:
                yield parameter, (group, place)
                place += _aligned(parameter)


def _aligned(parameter: Tensor) -> int:
    """Numbers from the beginning of a parameter to the beginning of the next."""
    return -(-parameter.numel() // ALIGNED) * ALIGNED


def _length(parameters: Sequence[Tensor]) -> int:
    return -(-sum(map(_aligned, parameters)) // BLOCK) * BLOCK


def norms(gradients_RN: Sequence[Tensor]) -> Tensor:
    """Norms of the models' whole gradients, (R)."""
    of_blocks = [torch.linalg.vector_norm(g.view(len(g), -1, BLOCK), dim=2) for g in gradients_RN]
    blocks = of_blocks[0] if len(of_blocks) == 1 else torch.cat(of_blocks, dim=1)
    norm_R: Tensor = torch.linalg.vector_norm(blocks, dim=1)
    return norm_R


def clip_(gradients_RN: Sequence[Tensor], limit: float | None) -> Tensor:
    """Clip each model's gradient to a norm of `limit` (0 or None: no clipping); return the norms before, (R)."""
    norm_R = norms(gradients_RN)
    if limit:
        factor_R1 = (limit / (norm_R + NEAR_ZERO)).clamp(max=1.0).unsqueeze(1)
        for gradient in gradients_RN:
            gradient.mul_(factor_R1)
    return norm_R


def clip_divisor(norm: Tensor, limit: float) -> Tensor:
    """The number by which a gradient of a norm is divided to be clipped to a norm of `limit`, a scalar."""
    return ((norm + NEAR_ZERO) / limit).clamp(min=1.0)
