"""Losses of a model's output on a batch."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from scaling.model.tower import Unread
from scaling.objectives.chunked_loss import chunked_cross_entropy

Output = Tensor | Unread  # logits (B, P, V), or what they are made of


def logits_of(output: Output | tuple[Output, Tensor]) -> Any:
    """The logits of the predicted tokens in a model's output, as they come."""
    return output[0] if isinstance(output, tuple) else output


def token_losses(logits_BPV: Tensor, targets_BP: Tensor) -> Tensor:
    """Cross-entropy of every target, nats, shape (B, P), in float32."""
    losses = F.cross_entropy(logits_BPV.flatten(0, 1).float(), targets_BP.flatten(), reduction="none")
    return losses.view_as(targets_BP)


def mean_loss(logits_BPV: Output, targets_BP: Tensor, weights_BP: Tensor | None = None) -> Tensor:
    """Mean cross-entropy per predicted token, nats, in float32; 0 where nothing is predicted.

    Of what logits are made of, these are made a few rows at a time, and never exist whole.
    """
    if isinstance(logits_BPV, Unread):
        return mean_losses(logits_BPV, targets_BP, weights_BP, 1).squeeze(0)
    if weights_BP is None:
        return F.cross_entropy(logits_BPV.flatten(0, 1).float(), targets_BP.flatten())
    return (token_losses(logits_BPV, targets_BP) * weights_BP).sum() / weights_BP.sum().clamp(min=1)


def mean_losses(read: Unread, targets_BP: Tensor, weights_BP: Tensor | None, models: int) -> Tensor:
    """The mean loss of each of several models computed as one, whose batches lie one after another, (R)."""

    def each(tensor: Tensor | None, *shape: int) -> Any:
        return None if tensor is None else tensor.reshape(models, -1, *shape)

    width, vocabulary = read.x_BPD.shape[-1], read.weight_VD.shape[-2]
    weights_RN = each(weights_BP)
    loss_R = chunked_cross_entropy(
        each(read.x_BPD, width),
        read.weight_VD.view(models, vocabulary, width),
        each(read.bias_V),
        each(targets_BP),
        weights_RN,
    )
    return loss_R / (targets_BP.numel() // models if weights_RN is None else weights_RN.sum(dim=1).clamp(min=1))


def next_sentence_loss(output: Output | tuple[Output, Tensor], follows_B: Tensor) -> Tensor:
    """Mean cross-entropy of whether the second segment follows the first, nats."""
    assert isinstance(output, tuple)
    return F.cross_entropy(output[1].float(), follows_B)
