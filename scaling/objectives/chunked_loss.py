"""Cross-entropy of a large vocabulary, computed from a few rows of logits at a time, which never exist whole.

R models computed as one, N predictions of a model, n predictions of a chunk, D model width, V vocabulary,
W vocabulary with its padding
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from scaling.objectives.fused_loss import cross_entropy_, is_fused
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
        vocabulary, dtype = weight_RVD.shape[1], weight_RVD.dtype
        weight_RWD = _cast(weight_RVD, x_RND.dtype)
        bias_R1V = None if bias_RV is None else bias_RV.to(x_RND.dtype).unsqueeze(1)
        fused = is_fused(x_RND.device.type)
        differentiate = _differentiate_fused if fused else _differentiate
        likelihood_R = to_weight = to_bias = None
        rows = max(1, chunk_rows(vocabulary, fused) // models)
        to_x = torch.empty_like(x_RND) if predictions > rows else None
        for first in range(0, predictions, rows):
            part = slice(first, first + rows)
            x_RnD, count_Rn = x_RND[:, part], None if counts_RN is None else counts_RN[:, part]
            logits_RnW = _logits(x_RnD, weight_RWD, bias_R1V, vocabulary)
            of_part_R, to_logits_RnW, to_part = differentiate(
                logits_RnW, vocabulary, targets_RN[:, part], count_Rn, biased=bias_RV is not None
            )
            likelihood_R = _more(likelihood_R, of_part_R)
            if to_part is not None:
                to_bias = _more(to_bias, to_part)
            to_x_RnD = torch.bmm(to_logits_RnW, weight_RWD)
            if to_x is None:
                to_x = to_x_RnD
            else:
                to_x[:, part] = to_x_RnD
            to_weight = _more(to_weight, _product(to_logits_RnW.mT, x_RnD, dtype)[:, :vocabulary].to(dtype))
        ctx.save_for_backward(to_x, to_weight, to_bias)
        assert likelihood_R is not None
        return -likelihood_R

    @staticmethod
    def backward(ctx: Any, *to_loss_R: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the saved gradients by the loss's gradient in place: no graph is passed through twice."""
        of_R = to_loss_R[0]
        gradients = [
            None if made is None else made.mul_(of_R.view(-1, *[1] * (made.ndim - 1))) for made in ctx.saved_tensors
        ]
        return (*gradients, None, None)


Differentiated = tuple[Tensor, Tensor, Tensor | None]


def _differentiate(
    logits_RnW: Tensor, vocabulary: int, targets_Rn: Tensor, counts_Rn: Tensor | None, *, biased: bool
) -> Differentiated:
    """Summed log-likelihoods of each model, (R), and the gradients of the loss: of the logits, and of their bias."""
    padded = vocabulary < logits_RnW.shape[2]
    logits_RnV = logits_RnW[..., :vocabulary] if padded else logits_RnW
    target_Rn1 = targets_Rn.unsqueeze(2)
    count_Rn1 = None if counts_Rn is None else counts_Rn.unsqueeze(2)
    log_RnV = logits_RnV.float().log_softmax(dim=2)
    chosen_Rn1 = log_RnV.gather(2, target_Rn1)
    likelihood_R = (chosen_Rn1 if count_Rn1 is None else chosen_Rn1 * count_Rn1).sum(dim=(1, 2))
    # The logits' gradient, softmax minus one at the target, takes the memory of the log-softmax.
    to_logits_RnV = log_RnV.exp_().scatter_add_(2, target_Rn1, log_RnV.new_full(target_Rn1.shape, -1.0))
    if count_Rn1 is not None:
        to_logits_RnV.mul_(count_Rn1)
    to_bias = to_logits_RnV.sum(dim=1) if biased else None
    if padded:  # the gradient takes the memory of the logits, whose padding is zero
        logits_RnV.copy_(to_logits_RnV)
        return likelihood_R, logits_RnW, to_bias
    return likelihood_R, to_logits_RnV.to(logits_RnW.dtype), to_bias


def _differentiate_fused(
    logits_RnW: Tensor, vocabulary: int, targets_Rn: Tensor, counts_Rn: Tensor | None, *, biased: bool
) -> Differentiated:
    """The same of a GPU's kernel, which writes the gradient over the logits."""
    counts = None if counts_Rn is None else counts_Rn.flatten()
    losses = cross_entropy_(logits_RnW.flatten(0, 1), vocabulary, targets_Rn.flatten(), counts, gradient=True)
    to_bias = logits_RnW[..., :vocabulary].sum(dim=1, dtype=torch.float32) if biased else None
    return -losses.view_as(targets_Rn).sum(dim=1), logits_RnW, to_bias


@torch.no_grad()
def fused_losses(x_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, targets_N: Tensor) -> Tensor:
    """Cross-entropy of each target in nats, (N), from the logits and by the kernel of the training loss."""
    weight_1WD, vocabulary = _cast(weight_VD.unsqueeze(0), x_ND.dtype), len(weight_VD)
    bias = None if bias_V is None else bias_V.to(x_ND.dtype)
    losses = []
    rows = chunk_rows(vocabulary, fused=True)
    for x_nD, targets_n in zip(torch.split(x_ND, rows), torch.split(targets_N, rows), strict=True):
        (logits_nW,) = _logits(x_nD.unsqueeze(0), weight_1WD, bias, vocabulary)
        losses.append(cross_entropy_(logits_nW, vocabulary, targets_n, None, gradient=False))
    return torch.cat(losses)


def _logits(x_RnD: Tensor, weight_RWD: Tensor, bias: Tensor | None, vocabulary: int) -> Tensor:
    """Logits (R, n, W); those of the padding are zero."""
    logits_RnW = torch.bmm(x_RnD, weight_RWD.mT)
    if bias is not None:
        logits_RnW[..., :vocabulary] += bias
    return logits_RnW


def _product(a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    """a @ b, rounded to `dtype` alone where the device can, else to the factors' own precision first."""
    if a.dtype != dtype and keeps_sums(a.device.type, a.dtype, dtype):
        return torch.bmm(a, b, out_dtype=dtype)
    return torch.bmm(a, b)


@cache
def keeps_sums(device_type: str, dtype: torch.dtype, wider: torch.dtype) -> bool:
    """Whether a device's bmm returns sums of products of a type in a wider type: tried once, with a turned factor."""
    a = torch.ones(1, 16, 32, device=device_type, dtype=dtype)
    try:
        return torch.bmm(a.mT, a, out_dtype=wider).dtype == wider
    except (TypeError, RuntimeError):  # older versions of torch lack it, and CPUs
        return False


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
