"""Validation: the loss on a fixed held-out set, with its standard error."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from scaling.data.chunks import validation_chunks
from scaling.data.token_source import Ids
from scaling.data.token_text import TokenText
from scaling.model.tower import taken_eagerly
from scaling.objectives.batch import Batch
from scaling.objectives.losses import auxiliary_losses, logits_of, token_losses
from scaling.objectives.objectives import validation_batch
from scaling.spec.run_spec import RunSpec

Counts = NDArray[np.float64]
Computed = TypeVar("Computed")

VAL_BATCH_TOKENS = 8192  # for every run: in a tiny run's own batches, validation would take longer than training


@dataclass(frozen=True)
class Validation:
    """The held-out loss in nats per predicted token; its standard error treats each sequence as one draw."""

    loss_nats: float
    se_nats: float
    predicted_tokens: int
    sequences: int
    auxiliary_nats: dict[str, float]  # auxiliary losses by name, nats per sequence; empty where there is none


def validation_batches(spec: RunSpec, val_tokens: Ids, text: TokenText | None, device: torch.device) -> Iterator[Batch]:
    """Batches of the run's fixed validation set, on `device`."""
    length = spec.lengths.text
    chunks = validation_chunks(val_tokens, length, max(1, VAL_BATCH_TOKENS // length), spec.val_tokens)
    for i, chunk in enumerate(chunks):
        yield validation_batch(spec, chunk, i, text).to(device)


class Dealing(Protocol):
    """The dealing of validation batches among processes of one model (`parallel/`)."""

    def deals(self, number: int) -> bool:
        """Whether this process evaluates the batch of a number."""
        ...

    def compute(self, compute: Callable[[], Computed]) -> Computed:
        """The result of a function that computes with the model."""
        ...

    def idles(self, batches: int) -> bool:
        """Whether the others compute once more than this process among so many batches, and need it to do so too."""
        ...

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the processes."""
        ...


@torch.no_grad()
def evaluate(
    model: nn.Module, batches: Iterable[Batch], autocast: torch.autocast, dealing: Dealing | None = None
) -> Validation:
    """The mean loss over all predicted tokens, and its standard error from the spread of the sequences' losses.

    Sequences are the units, because they are nearly independent and tokens of one sequence are not. Where sequences
    predict different numbers of tokens, the mean is a ratio of sums and has a ratio's error (Cochran 1977, 2.11).
    Processes that deal the batches out return the same numbers, bit for bit, as one process alone.
    """
    model.eval()
    sums: list[Tensor] = []
    counts: list[Tensor] = []
    auxiliary: dict[str, list[Tensor]] = {}
    compute: Callable[[], tuple[Tensor, dict[str, Tensor]]]
    for number, batch in enumerate(batches):
        weights_BP = batch.weights_BP
        if weights_BP is None:
            weights_BP = torch.ones_like(batch.targets_BP, dtype=torch.float32)
        compute = partial(_losses, model, batch, weights_BP, autocast)
        counts.append(weights_BP.sum(dim=1))
        if dealing is None or dealing.deals(number):
            losses_B, further = compute() if dealing is None else dealing.compute(compute)
        else:  # zeros, to which the sum over processes adds the losses
            losses_B = torch.zeros_like(counts[-1])
            further = {name: losses_B.new_zeros(()) for name in batch.auxiliary}
        sums.append(losses_B)
        for name, loss in further.items():
            auxiliary.setdefault(name, []).append(loss)
    if dealing is not None and dealing.idles(len(counts)):
        dealing.compute(compute)
    model.train()
    losses_S, stacked = torch.cat(sums), {name: torch.stack(losses) for name, losses in auxiliary.items()}
    if dealing is not None:
        dealing.add_up([losses_S, *stacked.values()])
    loss_S, tokens_S = (parts.cpu().double().numpy() for parts in (losses_S, torch.cat(counts)))
    mean, error = ratio_and_error(loss_S, tokens_S)
    means = {name: float(losses.cpu().double().sum()) / len(loss_S) for name, losses in stacked.items()}
    return Validation(mean, error, int(tokens_S.sum()), len(loss_S), means)


def _losses(
    model: nn.Module, batch: Batch, weights_BP: Tensor, autocast: torch.autocast
) -> tuple[Tensor, dict[str, Tensor]]:
    """Summed losses of a batch's sequences, (B), and its summed auxiliary losses by name."""
    read = getattr(model, "read", model)  # a classifier has no `read`: its few logits are computed directly
    with taken_eagerly(model), autocast:
        output = read(*batch.inputs)
        losses_BP = token_losses(logits_of(output), batch.targets_BP)
    further = {name: loss * len(batch.targets_BP) for name, loss in auxiliary_losses(output, batch).items()}
    return (losses_BP * weights_BP).sum(dim=1), further


def ratio_and_error(sums: Counts, counts: Counts) -> tuple[float, float]:
    """The ratio of summed sums to summed counts, and its standard error (Cochran 1977, 2.11); NaN below two units."""
    units, total = len(sums), float(counts.sum())
    mean = float(sums.sum()) / max(1.0, total)
    if units < 2 or not total:
        return mean, math.nan
    spread = float(np.sum((sums - mean * counts) ** 2)) / (units - 1)
    return mean, math.sqrt(spread / units) * units / total


def bits_per_byte(loss_nats: float, tokens: int, text_bytes: int | None) -> float | None:
    """Bits per byte of the tokens' text, from the loss in nats per token; None for a source without bytes."""
    return None if text_bytes is None else loss_nats * tokens / text_bytes / math.log(2)
