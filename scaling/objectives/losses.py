"""Losses of a model's output on a batch, in nats: the loss of the tokens, and auxiliary losses.

B batch, P predictions, V vocabulary, R models computed as one
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from scaling.model.tower import LazyLogits
from scaling.objectives.batch import Batch
from scaling.objectives.chunked_loss import chunked_cross_entropy, fused_losses
from scaling.objectives.fused_loss import is_fused
from scaling.registry import choose
from scaling.spec.memory import chunk_rows

Logits = Tensor | LazyLogits  # (B, P, V), computed or not yet
Output = Logits | tuple[Logits, dict[str, Tensor]]  # logits of the tokens, and of auxiliary losses by name


def logits_of(output: Output) -> Any:
    """The logits of the predicted tokens in a model's output, computed or not yet."""
    return output[0] if isinstance(output, tuple) else output


def token_losses(logits_BPV: Logits, targets_BP: Tensor) -> Tensor:
    """Cross-entropy of every target in nats, shape (B, P), float32.

    A GPU computes lazy logits a few rows at a time, so that they take no more of its memory than in training.
    """
    targets_N = targets_BP.flatten()
    if isinstance(logits_BPV, LazyLogits) and is_fused(targets_N.device.type) and not torch.is_grad_enabled():
        x_ND = logits_BPV.x_BPD.flatten(0, -2)
        return fused_losses(x_ND, logits_BPV.weight_VD, logits_BPV.bias_V, targets_N).view_as(targets_BP)
    if isinstance(logits_BPV, LazyLogits):
        rows = rows_at_once(logits_BPV)
        parts = zip(logits_BPV.split(rows), torch.split(targets_N, rows), strict=True)
        losses = [F.cross_entropy(part.logits().float(), targets, reduction="none") for part, targets in parts]
        return torch.cat(losses).view_as(targets_BP)
    return F.cross_entropy(logits_BPV.flatten(0, 1).float(), targets_N, reduction="none").view_as(targets_BP)


def rows_at_once(read: LazyLogits) -> int:
    """Predictions whose logits exist at once where no gradient is needed."""
    if read.x_BPD.device.type == "cuda":
        return chunk_rows(read.weight_VD.shape[-2])
    return read.x_BPD.shape[:-1].numel()


def mean_loss(logits_BPV: Logits, targets_BP: Tensor, weights_BP: Tensor | None = None) -> Tensor:
    """Mean cross-entropy in nats per predicted token, float32; 0 where nothing is predicted.

    Lazy logits are computed a few rows at a time, and never exist whole.
    """
    if isinstance(logits_BPV, LazyLogits):
        return mean_losses(logits_BPV, targets_BP, weights_BP, 1).squeeze(0)
    if weights_BP is None:
        return F.cross_entropy(logits_BPV.flatten(0, 1).float(), targets_BP.flatten())
    return (token_losses(logits_BPV, targets_BP) * weights_BP).sum() / weights_BP.sum().clamp(min=1)


def mean_losses(read: LazyLogits, targets_BP: Tensor, weights_BP: Tensor | None, models: int) -> Tensor:
    """Mean losses of R models computed as one, whose batches are joined, in nats per predicted token, (R)."""

    def per_model(tensor: Tensor | None, *shape: int) -> Any:
        return None if tensor is None else tensor.reshape(models, -1, *shape)

    width, vocabulary = read.x_BPD.shape[-1], read.weight_VD.shape[-2]
    weights_RN = per_model(weights_BP)
    loss_R = chunked_cross_entropy(
        per_model(read.x_BPD, width),
        read.weight_VD.view(models, vocabulary, width),
        per_model(read.bias_V),
        per_model(targets_BP),
        weights_RN,
    )
    return loss_R / (targets_BP.numel() // models if weights_RN is None else weights_RN.sum(dim=1).clamp(min=1))


def next_sentence_loss(logits_B2: Tensor, follows_B: Tensor) -> Tensor:
    """Mean cross-entropy of next-sentence prediction, in nats per sequence (Devlin et al. 2019)."""
    return F.cross_entropy(logits_B2.float(), follows_B)


# Auxiliary losses by name: each is a mean over sequences, from logits and targets of its own.
AUXILIARY_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"next": next_sentence_loss}


def auxiliary_losses(output: Output, batch: Batch) -> dict[str, Tensor]:
    """Mean auxiliary losses by name, in nats per sequence, for every auxiliary target of the batch."""
    if not batch.auxiliary:
        return {}
    assert isinstance(output, tuple)
    return {
        name: choose("auxiliary loss", AUXILIARY_LOSSES, name)(output[1][name], targets)
        for name, targets in batch.auxiliary.items()
    }
