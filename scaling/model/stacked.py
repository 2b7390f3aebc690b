"""A stacked model: several models of one shape computed as one, with joined batches and all weights in every layer.

A small model's operation ends before the next one is launched, so that one launch for several models costs hardly
more than for one model. Attention, activations and residuals have no weights and see only a larger batch.

R models, B sequences of a model, N rows that a layer reads of a model, I inputs, O outputs, D model width, V vocabulary
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scaling.model.layers import Positions


class _Layer(nn.Module):
    """A layer with weights (R, ...) that replaces a layer with weights (...)."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, layer: Any, models: int) -> None:
        super().__init__()
        self.models = models
        for name, parameter in layer.named_parameters():
            self.register_parameter(name, parameter)
        if not hasattr(self, "bias"):
            self.bias = None


class StackedLinear(_Layer):
    """Stacked nn.Linear, (R*B, ..., I) to (R*B, ..., O)."""

    def forward(self, x: Tensor) -> Tensor:
        x_RNI, weight_RIO = x.reshape(self.models, -1, x.shape[-1]), self.weight.transpose(1, 2)
        if self.bias is None:
            out_RNO = torch.bmm(x_RNI, weight_RIO)
        else:
            out_RNO = torch.baddbmm(self.bias.unsqueeze(1), x_RNI, weight_RIO)
        return out_RNO.view(*x.shape[:-1], -1)


class StackedNorm(_Layer):
    """Stacked nn.LayerNorm or nn.RMSNorm."""

    def __init__(self, layer: nn.LayerNorm | nn.RMSNorm, models: int) -> None:
        super().__init__(layer, models)
        self.normed: Callable[..., Tensor] = F.layer_norm if isinstance(layer, nn.LayerNorm) else F.rms_norm
        self.width, self.eps = tuple(layer.normalized_shape), layer.eps

    def forward(self, x: Tensor) -> Tensor:
        normed_RND = self.normed(x, self.width, eps=self.eps).view(self.models, -1, x.shape[-1])
        out_RND = normed_RND * self.weight.unsqueeze(1)
        if self.bias is not None:
            out_RND = out_RND + self.bias.unsqueeze(1)
        return out_RND.view_as(x)


class _Lookup(torch.autograd.Function):
    """Rows (R, N, D) of R tables (R, V, D) that lie apart in memory: one table of all would be a copy of all."""

    @staticmethod
    def forward(ctx: Any, weight_RVD: Tensor, model_R1: Tensor, ids_RN: Tensor) -> Tensor:
        ctx.save_for_backward(model_R1, ids_RN)
        ctx.shape = weight_RVD.shape
        return weight_RVD[model_R1, ids_RN]

    @staticmethod
    def backward(ctx: Any, *to_rows_RND: Tensor) -> tuple[Tensor | None, ...]:
        model_R1, ids_RN = ctx.saved_tensors
        models, vocabulary, _ = ctx.shape
        rows_RN = ids_RN + model_R1 * vocabulary
        to_weight = torch.ops.aten.embedding_dense_backward(to_rows_RND[0], rows_RN, models * vocabulary, -1, False)
        return to_weight.view(ctx.shape), None, None


class StackedEmbedding(_Layer):
    """Stacked nn.Embedding, (R*B, T) to (R*B, T, D)."""

    model_R1: Tensor

    def __init__(self, layer: nn.Embedding, models: int) -> None:
        super().__init__(layer, models)
        self.register_buffer(
            "model_R1", torch.arange(models, device=layer.weight.device).unsqueeze(1), persistent=False
        )

    def forward(self, ids: Tensor) -> Tensor:
        rows: Tensor = _Lookup.apply(self.weight, self.model_R1, ids.reshape(self.models, -1))  # type: ignore[no-untyped-call]
        return rows.view(*ids.shape, -1)


class StackedPositions(_Layer):
    """Stacked Positions."""

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
    """A copy of the model with stacked layers, whose parameters (R, ...) replace the model's own by name.

    Its inputs are the inputs of the R models, joined along the batch.
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
