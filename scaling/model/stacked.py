"""Several models of one shape computed as one: the batches lie one after another, and every layer has all weights.

A small model's operations are over before the next is asked for, so that asking for those of several at once costs
hardly more than for one. Attention, activations and residuals have no weights and see only a larger batch.

R models, B sequences of each, N rows that a layer reads of each, I inputs, O outputs, D model width, V vocabulary
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scaling.model.layers import Positions


class _Layer(nn.Module):
    """A layer with weights (R, ...) in the place of one with weights (...)."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, one: Any, models: int) -> None:
        super().__init__()
        self.models = models
        for name, parameter in one.named_parameters():
            self.register_parameter(name, parameter)
        if not hasattr(self, "bias"):
            self.bias = None


class StackedLinear(_Layer):
    """nn.Linear, (R*B, ..., I) to (R*B, ..., O)."""

    def forward(self, x: Tensor) -> Tensor:
        x_RNI, weight_RIO = x.reshape(self.models, -1, x.shape[-1]), self.weight.transpose(1, 2)
        if self.bias is None:
            out_RNO = torch.bmm(x_RNI, weight_RIO)
        else:
            out_RNO = torch.baddbmm(self.bias.unsqueeze(1), x_RNI, weight_RIO)
        return out_RNO.view(*x.shape[:-1], -1)


class StackedNorm(_Layer):
    """nn.LayerNorm or nn.RMSNorm."""

    def __init__(self, one: nn.LayerNorm | nn.RMSNorm, models: int) -> None:
        super().__init__(one, models)
        self.normed: Callable[..., Tensor] = F.layer_norm if isinstance(one, nn.LayerNorm) else F.rms_norm
        self.width, self.eps = tuple(one.normalized_shape), one.eps

    def forward(self, x: Tensor) -> Tensor:
        normed_RND = self.normed(x, self.width, eps=self.eps).view(self.models, -1, x.shape[-1])
        out_RND = normed_RND * self.weight.unsqueeze(1)
        if self.bias is not None:
            out_RND = out_RND + self.bias.unsqueeze(1)
        return out_RND.view_as(x)


class StackedEmbedding(_Layer):
    """nn.Embedding, (R*B, T) to (R*B, T, D)."""

    first_R1: Tensor

    def __init__(self, one: nn.Embedding, models: int) -> None:
        super().__init__(one, models)
        first_R1 = torch.arange(models, device=one.weight.device).unsqueeze(1) * one.num_embeddings
        self.register_buffer("first_R1", first_R1, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        rows_RN = ids.reshape(self.models, -1) + self.first_R1
        return F.embedding(rows_RN, self.weight.flatten(0, 1)).view(*ids.shape, -1)


class StackedPositions(_Layer):
    """Positions."""

    def forward(self, x_BTD: Tensor, start: int = 0) -> Tensor:
        here = slice(start, start + x_BTD.shape[1])
        x_RBTD = x_BTD.view(self.models, -1, *x_BTD.shape[1:])
        return (x_RBTD + self.weight[:, here].unsqueeze(1)).view_as(x_BTD)


STACKED: dict[type[nn.Module], type[Any]] = {
    nn.Linear: StackedLinear,
    nn.LayerNorm: StackedNorm,
    nn.RMSNorm: StackedNorm,
    nn.Embedding: StackedEmbedding,
    Positions: StackedPositions,
}


def stack(model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> Any:
    """The model with parameters (R, ...) in the place of its own, by name, and with layers that read them so.

    Its inputs are the R models' inputs, joined along the batch.
    """
    stacked = copy.deepcopy(model)
    models = len(next(iter(parameters.values())))
    layers = [(name, layer) for name, layer in stacked.named_modules() if type(layer) in STACKED]
    for name, layer in layers:
        stacked.set_submodule(name, STACKED[type(layer)](layer, models))
    for name, parameter in parameters.items():
        owner, _, own = name.rpartition(".")
        setattr(stacked.get_submodule(owner), own, parameter)
    return stacked
