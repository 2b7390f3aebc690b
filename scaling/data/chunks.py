"""Training batches, each a pure function of (seed, step), and the fixed validation set."""

from collections.abc import Iterator
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from scaling.data.token_source import Ids

# L tokens in the split, T context, B sequences, n chunks an epoch


def epoch_tokens(split_tokens: int, context: int) -> int:
    """Tokens predicted in one epoch: the split's whole chunks of `context` tokens."""
    return split_tokens // context * context


class TrainingChunks:
    """Training batches: the split is a ring, cut into T-token chunks with new borders and a new order each epoch.

    Within an epoch no token is predicted twice, and every token is predicted when T divides the split. Chunk k of
    the run is the same for every batch size. The split's beginning follows its end, as one document follows
    another. Borders of `aligned` chunks stay at multiples of T, so that no record of T tokens is cut. Raises
    ValueError when the split is too short for one chunk, and when aligned chunks do not fill it.
    """

    def __init__(self, tokens: Ids, context: int, batch_sequences: int, seed: int, *, aligned: bool = False) -> None:
        _check(len(tokens), context, batch_sequences)
        if aligned and len(tokens) % context:
            raise ValueError(
                f"the split's {len(tokens):,} tokens are no whole number of records of {context}: set model.context to "
                f"the tokens of a record less one"
            )
        self.context = context
        self.batch_sequences = batch_sequences
        self.chunks = len(tokens) // context
        self._tokens = np.asarray(tokens)
        self._starts = lru_cache(maxsize=2)(partial(_chunk_starts, len(tokens), context, seed, aligned))

    def batch(self, step: int) -> NDArray[np.int64]:
        """Batch number `step` (from 0), shape (B, T + 1): inputs are [:, :-1], targets [:, 1:]."""
        chunk_B = np.arange(step * self.batch_sequences, (step + 1) * self.batch_sequences)
        epoch_B, place_B = np.divmod(chunk_B, self.chunks)
        starts_B = np.concatenate([self._starts(int(epoch))[place_B[epoch_B == epoch]] for epoch in np.unique(epoch_B)])
        index_BT = (starts_B[:, None] + np.arange(self.context + 1)) % len(self._tokens)
        return self._tokens[index_BT].astype(np.int64)

    def epochs(self, tokens_seen: int) -> float:
        """Epochs over the split after `tokens_seen` predicted tokens; above 1, tokens repeat."""
        return tokens_seen / epoch_tokens(len(self._tokens), self.context)


def _chunk_starts(split_tokens: int, context: int, seed: int, aligned: bool, epoch: int) -> NDArray[np.int64]:
    """Positions of the first token of an epoch's chunks, in reading order.

    Raw words of the bit generator decide them, because NumPy keeps their stream across versions (NEP 19), unlike
    its distributions.
    """
    chunks = split_tokens // context
    words = np.random.PCG64([seed, epoch]).random_raw(chunks + 1)
    order = np.argsort(words[1:], kind="stable")
    first = 0 if aligned else int(words[0] % split_tokens)
    return (order * context + first) % split_tokens


def validation_chunks(tokens: Ids, context: int, batch_sequences: int, max_tokens: int) -> Iterator[NDArray[np.int64]]:
    """The fixed validation set: up to `max_tokens` predictions in chunks spread evenly over the split.

    Yields (b, T + 1) with b <= batch_sequences; no token is predicted twice. Raises ValueError when the split
    or `max_tokens` is too small for one chunk.
    """
    _check(len(tokens), context, batch_sequences)
    if max_tokens < context:
        raise ValueError(f"validation on {max_tokens} tokens is less than one context of {context}")
    possible = (len(tokens) - 1) // context
    wanted = min(possible, max_tokens // context)
    starts = np.arange(wanted) * possible // wanted * context
    return _gather(np.asarray(tokens), starts, context, batch_sequences)


def _gather(tokens: Ids, starts: NDArray[np.int64], context: int, batch_sequences: int) -> Iterator[NDArray[np.int64]]:
    for first in range(0, len(starts), batch_sequences):
        index_BT = starts[first : first + batch_sequences, None] + np.arange(context + 1)
        yield tokens[index_BT].astype(np.int64)


def _check(split_tokens: int, context: int, batch_sequences: int) -> None:
    if context < 1 or batch_sequences < 1:
        raise ValueError(f"context and batch_sequences must be at least 1, got {context} and {batch_sequences}")
    if split_tokens < context + 1:
        raise ValueError(
            f"too little data: the split holds {split_tokens:,} tokens, one chunk of context {context} needs "
            f"{context + 1:,}; add text, or lower the context"
        )
