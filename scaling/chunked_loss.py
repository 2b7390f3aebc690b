"""Cross-entropy of a large vocabulary, whose logits are made a few rows at a time and never exist whole.

N predictions, D model width, V vocabulary
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from scaling.memory import chunk_rows


def chunked_cross_entropy(
    x_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, targets_N: Tensor, counts_N: Tensor | None
) -> Tensor:
    """Sum of the cross-entropies of x @ weight.T + bias, each `counts` times (None: once), nats, in float32.

    A chunk's gradients are made with its logits, as in Liger's kernel (Hsu et al. 2024, arXiv 2410.10989): the matmuls
    are those of the loss computed at once, none is repeated. The gradient of the weight adds up in float32.
    """
    loss: Tensor = _Chunked.apply(x_ND, weight_VD, bias_V, targets_N, counts_N)  # type: ignore[no-untyped-call]
    return loss


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, targets_N: Tensor, counts_N: Tensor | None
    ) -> Tensor:
        weight_cast, bias_cast = weight_VD.to(x_ND.dtype), None if bias_V is None else bias_V.to(x_ND.dtype)
        to_x = torch.empty_like(x_ND)
        loss = to_weight = to_bias = None
        rows = chunk_rows(len(weight_VD))
        for first in range(0, len(x_ND), rows):
            part = slice(first, first + rows)
            target_n1 = targets_N[part].unsqueeze(1)
            count_n1 = None if counts_N is None else counts_N[part].unsqueeze(1)
            log_nV = F.linear(x_ND[part], weight_cast, bias_cast).float().log_softmax(dim=1)
            chosen_n1 = log_nV.gather(1, target_n1)
            loss = _more(loss, (chosen_n1 if count_n1 is None else chosen_n1 * count_n1).sum())
            # The gradient of the logits: softmax less the target's one, in the place of its logarithm.
            to_logits_nV = log_nV.exp_().scatter_add_(1, target_n1, log_nV.new_full(target_n1.shape, -1.0))
            if count_n1 is not None:
                to_logits_nV.mul_(count_n1)
            if bias_V is not None:
                to_bias = _more(to_bias, to_logits_nV.sum(dim=0))
            to_logits_nV = to_logits_nV.to(x_ND.dtype)
            torch.mm(to_logits_nV, weight_cast, out=to_x[part])
            to_weight = _more(to_weight, (to_logits_nV.T @ x_ND[part]).to(weight_VD.dtype))
        ctx.save_for_backward(to_x, to_weight, to_bias)
        assert loss is not None
        return -loss

    @staticmethod
    def backward(ctx: Any, *to_loss: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients times that of the loss, in their own memory: no graph is passed through twice."""
        gradients = [None if made is None else made.mul_(to_loss[0]) for made in ctx.saved_tensors]
        return (*gradients, None, None)


def _more(total: Tensor | None, part: Tensor) -> Tensor:
    """The sum, which a first part is by itself: in small models the steps of making a zero and adding to it count."""
    return part if total is None else total.add_(part)
