"""Losses of a model's output on a batch, in nats: of its tokens, and of what else it predicts.

B batch, P predictions, V vocabulary, R models computed as one
"""

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from scaling.model.tower import LazyLogits
from scaling.objectives.batch import Batch
from scaling.objectives.chunked_loss import chunked_cross_entropy
from scaling.registry import choose

Logits = Tensor | LazyLogits  # (B, P, V), or what the head makes them of
Output = Logits | tuple[Logits, dict[str, Tensor]]  # with the logits of auxiliary losses by their names


def logits_of(output: Output) -> Any:
    """The logits of the predicted tokens in a model's output, as they come."""
    return output[0] if isinstance(output, tuple) else output


def token_losses(logits_BPV: Tensor, targets_BP: Tensor) -> Tensor:
    """Cross-entropy of every target, nats, shape (B, P), in float32."""
    losses = F.cross_entropy(logits_BPV.flatten(0, 1).float(), targets_BP.flatten(), reduction="none")
    return losses.view_as(targets_BP)


def mean_loss(logits_BPV: Logits, targets_BP: Tensor, weights_BP: Tensor | None = None) -> Tensor:
    """Mean cross-entropy per predicted token, nats, in float32; 0 where nothing is predicted.

    Logits that the head has not made yet are made a few rows at a time, and never exist whole.
    """
    if isinstance(logits_BPV, LazyLogits):
        return mean_losses(logits_BPV, targets_BP, weights_BP, 1).squeeze(0)
    if weights_BP is None:
        return F.cross_entropy(logits_BPV.flatten(0, 1).float(), targets_BP.flatten())
    return (token_losses(logits_BPV, targets_BP) * weights_BP).sum() / weights_BP.sum().clamp(min=1)


def mean_losses(read: LazyLogits, targets_BP: Tensor, weights_BP: Tensor | None, models: int) -> Tensor:
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


def next_sentence_loss(logits_B2: Tensor, follows_B: Tensor) -> Tensor:
    """Mean cross-entropy of whether the second segment follows the first, nats a sequence (Devlin et al. 2019)."""
    return F.cross_entropy(logits_B2.float(), follows_B)


# The losses that a model may have beside its tokens': each a mean over sequences, from its own logits and targets.
AUXILIARY_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"next": next_sentence_loss}


def auxiliary_losses(output: Output, batch: Batch) -> dict[str, Tensor]:
    """The mean auxiliary losses that a batch has targets of, by name, nats a sequence."""
    if not batch.auxiliary:
        return {}
    assert isinstance(output, tuple)
    return {
        name: choose("auxiliary loss", AUXILIARY_LOSSES, name)(output[1][name], targets)
        for name, targets in batch.auxiliary.items()
    }
