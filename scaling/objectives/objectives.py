"""Objectives: from a chunk of tokens to inputs, targets and the loss; each a pure function of the chunk and its draws.

B batch, T tokens, P predictions, V vocabulary; S = T + 1 tokens of a chunk
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from scaling.data.token_text import TokenText
from scaling.data.tokenizers import END_ID
from scaling.model.tower import Unread
from scaling.objectives.chunked_loss import chunked_cross_entropy
from scaling.objectives.corruption import (
    Draws,
    Pair,
    choose_tokens,
    choose_words,
    cut_sentences,
    cut_spans,
    pair_up,
    replace,
)
from scaling.registry import choose
from scaling.spec.objective import Denoising, Infilling, Masked, Prefix, top_ids
from scaling.spec.run_spec import RunSpec

Chunk = NDArray[np.int64]
TRAINING, VALIDATION = 1, 2  # streams of draws that never meet, nor that of the batches' order


@dataclass(frozen=True)
class Example:
    """What the model sees and what it must predict."""

    inputs: tuple[Tensor, ...]  # of the model's forward, each with the batch first
    targets_BP: Tensor
    weights_BP: Tensor | None  # 0 for what is there only to keep the batch rectangular; None: every target counts
    follows_B: Tensor | None  # 1 where the second segment follows the first; None without that question
    predicted: int  # targets that count

    def split(self, sequences: int) -> Iterator["Example"]:
        """The same, at most so many sequences at a time."""
        if sequences >= len(self.targets_BP):
            yield self  # untouched: counting what counts would wait for the device
            return
        for first in range(0, len(self.targets_BP), sequences):
            part = slice(first, first + sequences)
            weights = None if self.weights_BP is None else self.weights_BP[part]
            targets = self.targets_BP[part]
            yield Example(
                tuple(tensor[part] for tensor in self.inputs),
                targets,
                weights,
                None if self.follows_B is None else self.follows_B[part],
                targets.numel() if weights is None else int(weights.sum()),
            )

    def to(self, device: torch.device) -> "Example":
        """The same, on this device."""

        def move(tensor: Tensor | None) -> Tensor | None:
            if tensor is None or tensor.device.type == device.type:
                return tensor
            return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)

        return self._each(move)

    def clone(self) -> "Example":
        """The same, in memory of its own."""
        return self._each(lambda tensor: None if tensor is None else tensor.clone())

    def is_like(self, other: "Example") -> bool:
        """Whether the other has tensors of the same shapes."""
        return [_size(t) for t in self._tensors()] == [_size(t) for t in other._tensors()]

    def copy_(self, other: "Example") -> None:
        """Take over what another of the same shapes holds, in this one's memory."""
        for mine, theirs in zip(self._tensors(), other.to(self.targets_BP.device)._tensors(), strict=True):
            if mine is not None and theirs is not None:
                mine.copy_(theirs)

    def _tensors(self) -> tuple[Tensor | None, ...]:
        return (*self.inputs, self.targets_BP, self.weights_BP, self.follows_B)

    def _each(self, change: Callable[[Tensor | None], Any]) -> "Example":
        *inputs, targets_BP, weights_BP, follows_B = (change(tensor) for tensor in self._tensors())
        return Example(tuple(inputs), targets_BP, weights_BP, follows_B, self.predicted)


def join(examples: Sequence[Example]) -> Example:
    """Those of the same shapes as one, one after another."""
    columns = zip(*(one._tensors() for one in examples), strict=True)
    joined = examples[0]._each(lambda tensor: _cat(next(columns)))
    return dataclasses.replace(joined, predicted=sum(one.predicted for one in examples))


def _cat(tensors: Sequence[Tensor | None]) -> Tensor | None:
    there = [tensor for tensor in tensors if tensor is not None]
    return torch.cat(there) if there else None


def _size(tensor: Tensor | None) -> torch.Size | None:
    return None if tensor is None else tensor.shape


def example(
    inputs: tuple[Chunk, ...], targets_BP: Chunk, weights_BP: NDArray[np.bool_] | None, follows_B: Chunk | None = None
) -> Example:
    """An Example from arrays; weights that are all 1 are left out."""
    if weights_BP is not None and weights_BP.all():
        weights_BP = None
    return Example(
        tuple(torch.from_numpy(array) for array in inputs),
        torch.from_numpy(targets_BP),
        None if weights_BP is None else torch.from_numpy(weights_BP).float(),
        None if follows_B is None else torch.from_numpy(follows_B),
        targets_BP.size if weights_BP is None else int(weights_BP.sum()),
    )


def causal(spec: RunSpec, chunk_BS: Chunk, draws: Draws, text: TokenText | None) -> Example:
    """Predict every token from those before it (Radford et al. 2018)."""
    return example((chunk_BS[:, :-1],), chunk_BS[:, 1:], None)


def prefix(spec: RunSpec, chunk_BS: Chunk, draws: Draws, text: TokenText | None) -> Example:
    """Predict what follows a beginning that is read in both directions (Raffel et al. 2020, section 3.2)."""
    asked = spec.objective
    assert isinstance(asked, Prefix)
    sequences, tokens = len(chunk_BS), chunk_BS.shape[1] - 1
    fraction_B = asked.shortest + (asked.longest - asked.shortest) * draws.uniform(sequences)
    seen_B = np.maximum(1, (fraction_B * tokens).astype(np.int64))
    weights_BT = np.arange(1, tokens + 1) >= seen_B[:, None]  # its last token predicts the first that is not seen
    return example((chunk_BS[:, :-1], seen_B), chunk_BS[:, 1:], weights_BT)


def masked(spec: RunSpec, chunk_BS: Chunk, draws: Draws, text: TokenText | None) -> Example:
    """Predict hidden tokens from both sides (Devlin et al. 2019, section 3.1)."""
    asked, ids = spec.objective, added_ids(spec)
    assert isinstance(asked, Masked)
    tokens_BT = chunk_BS[:, :-1]
    starts_BT = text.word_starts(tokens_BT) if asked.whole_words and text is not None else None
    special_BT = np.zeros(tokens_BT.shape, dtype=bool)
    segments: tuple[Chunk, ...] = ()
    follows_B = None
    if asked.next_sentence:
        tokens_BT, segments_BT, follows_B = pair_up(tokens_BT, ids["<cls>"], ids["<sep>"], draws)
        special_BT = np.isin(tokens_BT, list(ids.values()))
        segments = (segments_BT,)
        if text is not None and asked.whole_words:
            starts_BT = text.word_starts(np.where(special_BT, END_ID, tokens_BT))
    count = spec.lengths.predicted
    chosen_BT = (
        choose_tokens(~special_BT, count, draws)
        if starts_BT is None
        else choose_words(starts_BT, ~special_BT, count, draws)
    )
    corrupted_BT = replace(
        tokens_BT, chosen_BT, asked.masked, asked.replaced, ids["<mask>"], spec.data.vocab_size, draws
    )
    # The chosen places first, then, where the head sees more than these, others that do not count.
    slots = spec.model.stream_tokens()["predicted"]
    places_BP = np.sort(np.argsort(~chosen_BT, axis=1, kind="stable")[:, :slots], axis=1)
    targets_BP = np.take_along_axis(tokens_BT, places_BP, axis=1)
    weights_BP = np.take_along_axis(chosen_BT, places_BP, axis=1)
    return example((corrupted_BT, places_BP, *segments), targets_BP, weights_BP, follows_B)


def denoising(spec: RunSpec, chunk_BS: Chunk, draws: Draws, text: TokenText | None) -> Example:
    """Predict spans cut out of the source (Raffel et al. 2020, section 3.1.4)."""
    assert isinstance(spec.objective, Denoising)
    tokens, spans = spec.objective.cut(spec.model.context)
    sentinels = list(added_ids(spec).values())
    return _generate(cut_spans(chunk_BS[:, :-1], tokens, spans, sentinels, target_end(spec), draws))


def infilling(spec: RunSpec, chunk_BS: Chunk, draws: Draws, text: TokenText | None) -> Example:
    """Predict whole sentences cut out of the source (Donahue et al. 2020)."""
    assert isinstance(spec.objective, Infilling)
    assert text is not None
    context, sentinels, end = spec.model.context, list(added_ids(spec).values()), target_end(spec)
    return _generate(cut_sentences(chunk_BS[:, :-1], context, spec.objective.cut(context), sentinels, end, text, draws))


def _generate(pair: Pair) -> Example:
    """The target token by token from the source, beginning with END_ID."""
    before_BP = np.pad(pair.target_BP[:, :-1], ((0, 0), (1, 0)), constant_values=END_ID)
    return example((pair.source_BS, before_BP), pair.target_BP, pair.weights_BP)


Function = Callable[[RunSpec, Chunk, Draws, TokenText | None], Example]
OBJECTIVES: dict[str, Function] = {
    "causal": causal,
    "prefix": prefix,
    "masked": masked,
    "denoising": denoising,
    "infilling": infilling,
}


def added_ids(spec: RunSpec) -> dict[str, int]:
    """The ids of the tokens that the objective adds: a pretrained vocabulary's own, or else the highest there are."""
    names = spec.objective.added_tokens(spec.model.context)
    if spec.special is None:
        return top_ids(names, spec.model.vocab_size)
    return dict(zip(names, spec.special.added, strict=False))  # a fine-tuned run's shorter context needs fewer


def target_end(spec: RunSpec) -> int:
    """The id that ends what an encoder-decoder writes."""
    return END_ID if spec.special is None else spec.special.end


def training_example(spec: RunSpec, chunk_BS: Chunk, step: int, text: TokenText | None) -> Example:
    """The batch of a training step; a function of (seed, step) and the chunk."""
    function = choose("objective", OBJECTIVES, spec.objective.kind)
    return function(spec, chunk_BS, Draws(spec.seed, step, TRAINING), text)


def validation_example(spec: RunSpec, chunk_BS: Chunk, index: int, text: TokenText | None) -> Example:
    """A batch of the validation set; the same for every seed, so that what is hidden never changes."""
    function = choose("objective", OBJECTIVES, spec.objective.kind)
    return function(spec, chunk_BS, Draws(0, index, VALIDATION), text)


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
