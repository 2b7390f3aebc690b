"""Training data made worse on purpose: documents that are copies of others, and tokens drawn at random.

A seed decides both by raw words of the bit generator, whose stream NumPy keeps across versions (NEP 19), unlike its
distributions.
"""

from collections.abc import Callable, Iterator
from heapq import merge
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scaling.data.spool import Spool
from scaling.data.token_source import id_type

Ranked = Iterator[tuple[float, str]]
COPIES, NOISE = 1, 2  # streams of random words
TOKENS_AT_ONCE = 1 << 20


def check_quality(noise: float, duplicate: float, seed: int) -> None:
    """Raise ValueError for an impossible share of the training data or a seed below 0."""
    if not 0 <= noise <= 1:
        raise ValueError(f"data.noise={noise}: a share of the training tokens, from 0 to 1")
    if not 0 <= duplicate < 1:
        raise ValueError(f"data.duplicate={duplicate}: a share of the training documents, from 0 to below 1")
    if seed < 0:
        raise ValueError(f"data.quality_seed={seed}: must be 0 or more")


def occurrences(documents: int, duplicate: float, seed: int) -> NDArray[np.int64]:
    """Occurrences of each document when a share `duplicate` of them are copies of others, shape (documents,).

    A document with 0 occurrences gave its place to a copy, so that the sum stays `documents`: the amount of data is
    kept and its variety falls, as in Hernandez et al. 2022, "Scaling laws and interpretability of learning from
    repeated data". Raises ValueError when the documents are too few for this share.
    """
    copies = round(duplicate * documents)
    if not 0 < copies < documents:
        raise ValueError(
            f"data.duplicate={duplicate} of {documents} training documents makes {copies} of them copies, "
            f"needed 1 to {documents - 1}; add documents, or change data.duplicate"
        )
    words = np.random.PCG64([seed, COPIES]).random_raw(documents + copies)
    order = np.argsort(words[:documents], kind="stable")
    given_up, kept = order[:copies], order[copies:]
    times = np.ones(documents, dtype=np.int64)
    times[given_up] = 0
    np.add.at(times, kept[words[documents:] % np.uint64(len(kept))], 1)
    return times


class Repeated:
    """A training split in which some documents are copies of others.

    Each call of `ranked` yields the documents in the order of their hash, with the hash as a fraction. A copy's place
    follows from a hash of its number and its text, so that it stands next to its original, or another copy, only by
    chance.
    """

    def __init__(self, ranked: Callable[[], Ranked], times: NDArray[np.int64], spool: Spool) -> None:
        self._ranked, self._times, self._spool = ranked, times, spool
        with spool:
            for (_, text), occurs in zip(ranked(), times, strict=True):
                for copy in range(1, int(occurs)):
                    spool.add(text, salt=f"{copy} ".encode())

    def __iter__(self) -> Iterator[str]:
        kept = (pair for pair, occurs in zip(self._ranked(), self._times, strict=True) if occurs)
        return (text for _, text in merge(kept, self._spool.documents()))

    def copies(self) -> Iterator[str]:
        """The copies alone."""
        return (text for _, text in self._spool.documents())


def add_noise(path: Path, noise: float, vocab_size: int, seed: int) -> int:
    """Replace a share `noise` of the ids in a token file by ids drawn uniformly; return how many were replaced.

    Each token is drawn by itself, so that the share holds on average; a new id may equal the old one by chance.
    """
    tokens = np.memmap(path, dtype=id_type(vocab_size), mode="r+")
    random = np.random.PCG64([seed, NOISE])
    drawn = 0
    for start in range(0, len(tokens), TOKENS_AT_ONCE):
        block = tokens[start : start + TOKENS_AT_ONCE]
        chance, word = random.random_raw(2 * len(block)).reshape(-1, 2).T
        hit = (chance >> np.uint64(11)) * 2.0**-53 < noise
        block[hit] = (word[hit] % np.uint64(vocab_size)).astype(block.dtype)
        drawn += int(hit.sum())
    tokens.flush()
    return drawn
