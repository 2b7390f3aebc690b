"""Corruption of text by an objective: pure functions of the text and of draws that depend on their key alone.

B sequences, T text tokens, S source tokens, P target tokens, V vocabulary
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from scaling.data.token_text import Flags, TokenText

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Draws:
    """Uniform random numbers that depend on the key alone.

    Raw words of the bit generator decide them, because NumPy keeps their stream across versions (NEP 19), unlike its
    distributions.
    """

    def __init__(self, *key: int) -> None:
        self._words = np.random.PCG64(list(key))

    def uniform(self, *shape: int) -> Floats:
        """Numbers in [0, 1)."""
        count = int(np.prod(shape))
        words = self._words.random_raw(count) >> np.uint64(11)
        return (words * np.float64(2.0**-53)).reshape(shape)

    def below(self, limit: int, *shape: int) -> Ints:
        """Whole numbers from 0 to `limit` - 1."""
        return (self.uniform(*shape) * limit).astype(np.int64)


@dataclass(frozen=True)
class Pair:
    """A source with its target; `weights_BP` is 0 where the target is only padding."""

    source_BS: Ints
    target_BP: Ints
    weights_BP: Flags


def choose_tokens(allowed_BT: Flags, count: int, draws: Draws) -> Flags:
    """Choose `count` of the allowed tokens of each sequence; all of them where fewer are allowed."""
    order_BT = np.argsort(draws.uniform(*allowed_BT.shape) + ~allowed_BT, axis=1, kind="stable")
    chosen_BT = np.zeros_like(allowed_BT)
    np.put_along_axis(chosen_BT, order_BT[:, :count], True, axis=1)
    return chosen_BT & allowed_BT


def choose_words(starts_BT: Flags, allowed_BT: Flags, count: int, draws: Draws) -> Flags:
    """Choose whole words of each sequence in random order, skipping words that no longer fit into `count` tokens."""
    order_BT = np.argsort(draws.uniform(*starts_BT.shape), axis=1, kind="stable")
    chosen_BT = np.zeros_like(starts_BT)
    for starts_T, allowed_T, order_T, chosen_T in zip(starts_BT, allowed_BT, order_BT, chosen_BT, strict=True):
        borders = np.append(np.flatnonzero(starts_T), len(starts_T))
        word_at = np.cumsum(starts_T) - 1
        free = count
        for place in order_T[starts_T[order_T]]:
            word = slice(place, borders[word_at[place] + 1])
            size = word.stop - word.start
            if size <= free and allowed_T[word].all():
                chosen_T[word] = True
                free -= size
    return chosen_BT


def replace(
    tokens_BT: Ints, chosen_BT: Flags, masked: float, replaced: float, mask_id: int, ids: int, draws: Draws
) -> Ints:
    """Mask a share `masked` of the chosen tokens, and replace a share `replaced` by random ids below `ids`."""
    share_BT, random_BT = draws.uniform(*tokens_BT.shape), draws.below(ids, *tokens_BT.shape)
    out_BT = np.where(chosen_BT & (share_BT < masked), mask_id, tokens_BT)
    return np.where(chosen_BT & (share_BT >= masked) & (share_BT < masked + replaced), random_BT, out_BT)


def pair_up(text_BT: Ints, cls_id: int, sep_id: int, draws: Draws) -> tuple[Ints, Ints, Ints]:
    """Pairs `<cls> first half <sep> second half <sep>`, their segments, and whether the second half follows the first.

    Half of the sequences get the second half of the batch's next sequence instead (Devlin et al. 2019, section 3.1).
    """
    sequences, tokens = text_BT.shape
    row_B = np.arange(sequences)
    other_B = np.where(draws.uniform(sequences) < 0.5, row_B, (row_B + 1) % sequences)
    half = (tokens + 1) // 2
    cls, sep = np.full((sequences, 1), cls_id), np.full((sequences, 1), sep_id)
    pair_BT = np.concatenate([cls, text_BT[:, :half], sep, text_BT[other_B, half:], sep], axis=1)
    segments_BT = np.broadcast_to(np.arange(pair_BT.shape[1]) > half + 1, pair_BT.shape).astype(np.int64)
    return pair_BT, segments_BT, (other_B == row_B).astype(np.int64)


def cut_spans(text_BT: Ints, tokens: int, spans: int, sentinels: Sequence[int], end: int, draws: Draws) -> Pair:
    """Cut `tokens` tokens out of each text in `spans` spans; kept and cut stretches alternate (Raffel et al. 2020).

    A sentinel replaces each span in the source and precedes the span in the target, which ends with the id `end`.
    """
    sequences, length = text_BT.shape
    stretch_B2S = np.stack(
        [_compositions(length - tokens, spans, sequences, draws), _compositions(tokens, spans, sequences, draws)],
        axis=2,
    ).reshape(sequences, 2 * spans)
    starts_BT = np.zeros((sequences, length + 1), dtype=bool)
    np.put_along_axis(starts_BT, np.cumsum(stretch_B2S, axis=1), True, axis=1)
    stretch_BT = np.cumsum(starts_BT[:, :length], axis=1)
    cut_BT = stretch_BT % 2 == 1
    opens_BT = cut_BT & starts_BT[:, :length]
    sentinel_BT = np.asarray(sentinels)[stretch_BT // 2]
    source_BS = np.where(opens_BT, sentinel_BT, text_BT)[opens_BT | ~cut_BT].reshape(sequences, -1)
    emitted_BT2, emits_BT2 = np.stack([sentinel_BT, text_BT], axis=2), np.stack([opens_BT, cut_BT], axis=2)
    target_BP = np.pad(emitted_BT2[emits_BT2].reshape(sequences, -1), ((0, 0), (0, 1)), constant_values=end)
    return Pair(source_BS, target_BP, np.ones(target_BP.shape, dtype=bool))


def _compositions(total: int, parts: int, sequences: int, draws: Draws) -> Ints:
    """Draw `parts` positive numbers that add up to `total`, uniformly among all sums, shape (sequences, parts)."""
    places = np.argsort(draws.uniform(sequences, total - 1), axis=1, kind="stable")[:, : parts - 1] + 1
    borders = np.pad(np.sort(places, axis=1), ((0, 0), (1, 1)), constant_values=((0, 0), (0, total)))
    return np.diff(borders, axis=1)


def cut_sentences(
    text_BT: Ints, context: int, tokens: int, sentinels: Sequence[int], end: int, text: TokenText, draws: Draws
) -> Pair:
    """Cut whole sentences out of the text's first `context` tokens, in random order, up to `tokens` tokens in all.

    The rest of the text fills the source up to `context`; the target ends with the id `end` and is padded with it.
    """
    starts_BT = text.sentence_starts(text_BT)
    target_tokens = tokens + len(sentinels) + 1
    source_BS = np.empty((len(text_BT), context), dtype=np.int64)
    target_BP = np.full((len(text_BT), target_tokens), end, dtype=np.int64)
    weights_BP = np.zeros(target_BP.shape, dtype=bool)
    for row, (text_T, rank_T) in enumerate(zip(text_BT, draws.uniform(*text_BT.shape), strict=True)):
        borders = np.flatnonzero(starts_BT[row, : context + 1])
        candidates = sorted(pairwise(borders.tolist()), key=lambda pair: rank_T[pair[0]])
        chosen: list[tuple[int, int]] = []
        free = tokens
        for first, stop in candidates:
            if len(chosen) < len(sentinels) and stop - first <= free and text.has_word(text_T[first:stop]):
                chosen.append((first, stop))
                free -= stop - first
        source: list[NDArray[np.int64]] = []
        target: list[NDArray[np.int64]] = []
        done = 0
        for (first, stop), sentinel in zip(sorted(chosen), sentinels, strict=False):
            source += [text_T[done:first], np.array([sentinel])]
            target += [np.array([sentinel]), text_T[first:stop]]
            done = stop
        source_BS[row] = np.concatenate([*source, text_T[done:]])[:context]
        used = sum(len(part) for part in target)
        target_BP[row, :used] = np.concatenate([*target, np.empty(0, dtype=np.int64)])
        weights_BP[row, : used + 1] = True
    return Pair(source_BS, target_BP, weights_BP)
