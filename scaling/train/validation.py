"""Validation: the loss on a fixed held-out set, with its standard error."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from scaling.data.chunks import validation_chunks
from scaling.data.token_source import Ids
from scaling.data.token_text import TokenText
from scaling.objectives.batch import Batch
from scaling.objectives.losses import auxiliary_losses, logits_of, token_losses
from scaling.objectives.objectives import validation_batch
from scaling.spec.run_spec import RunSpec

Counts = NDArray[np.float64]

VAL_BATCH_TOKENS = 8192  # the same for every run: the batch of a tiny run would make its validation the longer part


@dataclass(frozen=True)
class Validation:
    """Held-out loss in nats per predicted token; the standard error treats each sequence as one draw."""

    loss_nats: float
    se_nats: float
    predicted_tokens: int
    sequences: int
    auxiliary_nats: dict[str, float]  # auxiliary losses by name, a sequence; empty where none is asked for


def validation_batches(spec: RunSpec, val_tokens: Ids, text: TokenText | None, device: torch.device) -> Iterator[Batch]:
    """The run's fixed validation set, a batch at a time."""
    length = spec.lengths.text
    chunks = validation_chunks(val_tokens, length, max(1, VAL_BATCH_TOKENS // length), spec.val_tokens)
    for i, chunk in enumerate(chunks):
        yield validation_batch(spec, chunk, i, text).to(device)


@torch.no_grad()
def evaluate(model: nn.Module, batches: Iterable[Batch], autocast: torch.autocast) -> Validation:
    """Mean loss over all predicted tokens, and its standard error from the spread of the sequences' losses.

    Tokens of one sequence are not independent, sequences nearly are, so the sequence is the unit. Where sequences
    predict different numbers of tokens the mean is a ratio of sums, and its error that of a ratio (Cochran 1977, 2.11).
    """
    model.eval()
    sums: list[torch.Tensor] = []
    counts: list[torch.Tensor] = []
    auxiliary: dict[str, list[torch.Tensor]] = {}
    for batch in batches:
        with autocast:
            output = model(*batch.inputs)
        for name, loss in auxiliary_losses(output, batch).items():
            auxiliary.setdefault(name, []).append(loss * len(batch.targets_BP))
        losses_BP = token_losses(logits_of(output), batch.targets_BP)
        weights_BP = torch.ones_like(losses_BP) if batch.weights_BP is None else batch.weights_BP
        sums.append((losses_BP * weights_BP).sum(dim=1))
        counts.append(weights_BP.sum(dim=1))
    model.train()
    loss_S, tokens_S = (torch.cat(parts).double().cpu().numpy() for parts in (sums, counts))
    mean, error = ratio_and_error(loss_S, tokens_S)
    means = {name: float(torch.stack(losses).double().sum()) / len(loss_S) for name, losses in auxiliary.items()}
    return Validation(mean, error, int(tokens_S.sum()), len(loss_S), means)


def ratio_and_error(sums: Counts, counts: Counts) -> tuple[float, float]:
    """Sum over count of all units together, and its standard error (Cochran 1977, 2.11); NaN for fewer than two."""
    units, total = len(sums), float(counts.sum())
    mean = float(sums.sum()) / max(1.0, total)
    if units < 2 or not total:
        return mean, math.nan
    spread = float(np.sum((sums - mean * counts) ** 2)) / (units - 1)
    return mean, math.sqrt(spread / units) * units / total


def bits_per_byte(loss_nats: float, tokens: int, text_bytes: int | None) -> float | None:
    """Nats per token to bits per byte of the text behind the tokens; None for a source without bytes."""
    return None if text_bytes is None else loss_nats * tokens / text_bytes / math.log(2)
