"""Cross-entropy of a large vocabulary, computed from a few rows of logits at a time, which never exist whole.

R models computed as one, N predictions of a model, n predictions of a chunk, D model width, V vocabulary,
W vocabulary with its padding
"""

from typing import Any

import torch
from torch import Tensor

from scaling.spec.memory import chunk_rows

# Rows of a cast weight are padded with zeros to a multiple of this number on a device. Tensor cores read logits of an
# odd width several times slower (assumed of GPT-2's 50,257 and of vocabularies with added tokens: unmeasured).
ALIGNED = {"cuda": 64}


def chunked_cross_entropy(
    x_RND: Tensor, weight_RVD: Tensor, bias_RV: Tensor | None, targets_RN: Tensor, counts_RN: Tensor | None
) -> Tensor:
    """The summed cross-entropy of each model's logits x @ weight.T + bias, (R), in nats and float32.

    Every prediction counts `counts` times (None: once). A chunk's gradients are computed with its logits, as in Liger's
    kernel (Hsu et al. 2024, arXiv 2410.10989): no matmul of the unchunked loss is repeated. The weight's gradient adds
    up in the weight's own precision, float32.
    """
    loss_R: Tensor = _Chunked.apply(x_RND, weight_RVD, bias_RV, targets_RN, counts_RN)  # type: ignore[no-untyped-call]
    return loss_R


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_RND: Tensor,
        weight_RVD: Tensor,
        bias_RV: Tensor | None,
        targets_RN: Tensor,
        counts_RN: Tensor | None,
    ) -> Tensor:
        models, predictions, _ = x_RND.shape
        vocabulary = slice(0, weight_RVD.shape[1])
        weight_RWD = _cast(weight_RVD, x_RND.dtype)
        padded = weight_RWD.shape[1] > weight_RVD.shape[1]
        bias_cast = None if bias_RV is None else bias_RV.to(x_RND.dtype).unsqueeze(1)
        loss_R = to_weight = to_bias = None
        rows = max(1, chunk_rows(weight_RVD.shape[1]) // models)
        to_x = torch.empty_like(x_RND) if predictions > rows else None
        for first in range(0, predictions, rows):
            part = slice(first, first + rows)
            x_RnD, target_Rn1 = x_RND[:, part], targets_RN[:, part].unsqueeze(2)
            count_Rn1 = None if counts_RN is None else counts_RN[:, part].unsqueeze(2)
            logits_RnW = torch.bmm(x_RnD, weight_RWD.mT)
            logits_RnV = logits_RnW[..., vocabulary] if padded else logits_RnW
            if bias_cast is not None:
                logits_RnV += bias_cast
            log_RnV = logits_RnV.float().log_softmax(dim=2)
            chosen_Rn1 = log_RnV.gather(2, target_Rn1)
            loss_R = _more(loss_R, (chosen_Rn1 if count_Rn1 is None else chosen_Rn1 * count_Rn1).sum(dim=(1, 2)))
            # The logits' gradient, softmax minus one at the target, takes the memory of the log-softmax.
            to_logits_RnV = log_RnV.exp_().scatter_add_(2, target_Rn1, log_RnV.new_full(target_Rn1.shape, -1.0))
            if count_Rn1 is not None:
                to_logits_RnV.mul_(count_Rn1)
            if bias_RV is not None:
                to_bias = _more(to_bias, to_logits_RnV.sum(dim=1))
            if padded:  # the gradient takes the memory of the logits, whose padding is zero
                logits_RnV.copy_(to_logits_RnV)
                to_logits_RnW = logits_RnW
            else:
                to_logits_RnW = to_logits_RnV.to(x_RND.dtype)
            to_x_RnD = torch.bmm(to_logits_RnW, weight_RWD)
            if to_x is None:
                to_x = to_x_RnD
            else:
                to_x[:, part] = to_x_RnD
            to_weight_RVD = torch.bmm(to_logits_RnW.mT, x_RnD)[:, vocabulary].to(weight_RVD.dtype)
            to_weight = _more(to_weight, to_weight_RVD)
        ctx.save_for_backward(to_x, to_weight, to_bias)
        assert loss_R is not None
        return -loss_R

    @staticmethod
    def backward(ctx: Any, *to_loss_R: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the saved gradients by the loss's gradient in place: no graph is passed through twice."""
        of_R = to_loss_R[0]
        gradients = [
            None if made is None else made.mul_(of_R.view(-1, *[1] * (made.ndim - 1))) for made in ctx.saved_tensors
        ]
        return (*gradients, None, None)


def _cast(weight_RVD: Tensor, dtype: torch.dtype) -> Tensor:
    """The weight in `dtype`, (R, W, D): a copy is padded with rows of zeros for the device's matmuls."""
    models, vocabulary, width = weight_RVD.shape
    multiple = ALIGNED.get(weight_RVD.device.type, 1)
    if weight_RVD.dtype == dtype or vocabulary % multiple == 0:
        return weight_RVD.to(dtype)
    weight_RWD = weight_RVD.new_zeros(models, -(-vocabulary // multiple) * multiple, width, dtype=dtype)
    weight_RWD[:, :vocabulary] = weight_RVD
    return weight_RWD


def _more(total: Tensor | None, part: Tensor) -> Tensor:
    """The sum so far; the first part starts the sum, because zeroing and adding cost time in small models."""
    return part if total is None else total.add_(part)
