"""A seeded Markov source with an exact entropy rate, the true value of a fit's irreducible loss.

Every row of transition probabilities is drawn around one Zipf distribution, so contexts differ in how often
they occur; a model learns them one after the other, which bends its loss curve into a power law (Hutter 2021,
"Learning curve theory").
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray

from scaling.data.files import combine
from scaling.data.token_source import Ids, Report, Written, id_type
from scaling.spec.run_spec import DataSpec

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MAX_PROBABILITIES = 1 << 23
SHARED = 0.01  # the Zipf distribution's share of every row: keeps each probability positive, so the chain mixes
LIMITS: dict[str, tuple[float, float]] = {  # an int as lower limit stands for a setting of whole numbers
    "tokens": (2, 10**12),
    "order": (1, 8),
    "zipf_exponent": (0.0, 4.0),
    "concentration": (0.1, 1e6),
    "seed": (0, 2**63),
}
STEPS = 1024
SEGMENTS = 4096


@dataclass(frozen=True)
class Chain:
    """A Markov chain over V symbols: `rows`, shape (V**order, V), holds the next symbol's probabilities."""

    rows: Floats
    order: int

    @property
    def vocab_size(self) -> int:
        return int(self.rows.shape[1])

    @cached_property
    def stationary(self) -> Floats:
        """The long-run probability of each context, shape (V**order,), to machine precision."""
        contexts, symbols = self.rows.shape
        transitions = self.rows.reshape(symbols, contexts // symbols, symbols)
        share = np.full(contexts, 1 / contexts)
        change = 1.0
        while change > 1e-15:
            after = np.einsum("xr,xry->ry", share.reshape(transitions.shape[:2]), transitions).ravel()
            after /= after.sum()
            change, share = float(np.abs(after - share).max()), after
        return share

    def entropies_nats(self) -> tuple[float, ...]:
        """Entropies of the next symbol given the last 1, …, `order` symbols; the final one is the entropy rate."""
        blocks = self.stationary[:, None] * self.rows  # probability of order + 1 consecutive symbols
        entropies = []
        for known in range(1, self.order + 1):
            joint = blocks.reshape(-1, self.vocab_size**known, self.vocab_size).sum(axis=0)
            rows = joint / joint.sum(axis=1, keepdims=True)
            entropies.append(float(-(joint * np.log(rows)).sum()))
        return tuple(entropies)

    def sample(self, tokens: int, random: np.random.Generator) -> Iterator[Ids]:
        """One stationary chain of `tokens` symbols, in blocks."""
        contexts, symbols = self.rows.shape
        cumulative = np.cumsum(self.rows, axis=1)
        ladder = (cumulative / cumulative[:, -1:] + np.arange(contexts)[:, None]).ravel()
        context = int(np.searchsorted(np.cumsum(self.stationary), random.random()).clip(max=contexts - 1))
        while tokens > 0:
            steps = min(STEPS, tokens)
            draws = random.random((steps, min(SEGMENTS, -(-tokens // steps))))
            visited = _walk(ladder, symbols, contexts, context, draws)
            context = int(visited[-1, -1])
            block = (visited % symbols).T.ravel()[:tokens]
            tokens -= len(block)
            yield block


def _walk(ladder: Floats, symbols: int, contexts: int, context: int, draws: Floats) -> Ints:
    """Contexts of one chain that consumes draws[:, 0], then draws[:, 1], …: shape (steps, segments).

    All segments advance at once, each from a guessed start. A segment with a wrong start is walked again with the
    same draws until it meets its earlier path. The result equals the sequential chain exactly.
    """

    def step(before: Ints, draw: Floats) -> Ints:
        edge = np.searchsorted(ladder, before + draw, side="right")
        after: Ints = np.minimum(edge, before * symbols + symbols - 1) % contexts
        return after

    steps, segments = draws.shape
    visited = np.full((steps, segments), -1, dtype=np.int64)
    start = np.full(segments, -1, dtype=np.int64)
    wanted = np.full(segments, context, dtype=np.int64)
    while (active := np.flatnonzero(wanted != start)).size:
        start = wanted
        here = start[active]
        for index in range(steps):
            here = step(here, draws[index, active])
            moved = here != visited[index, active]
            visited[index, active] = here
            active, here = active[moved], here[moved]
            if not active.size:
                break
        wanted = np.concatenate(([context], visited[-1, :-1]))
    return visited


@dataclass(frozen=True)
class Synthetic:
    """A Markov chain of `order` over the vocabulary; training and validation are independent samples of it.

    `zipf_exponent` makes symbols unequal; `concentration` is the Dirichlet mass of a row: a small mass gives each
    context its own few successors (low entropy), a large mass gives all contexts the same successors (nothing to
    learn beyond frequencies).
    """

    kind: ClassVar[str] = "synthetic"
    tokens: int
    order: int
    zipf_exponent: float
    concentration: float
    seed: int

    def __post_init__(self) -> None:
        for name, (least, most) in LIMITS.items():
            value = getattr(self, name)
            if not isinstance(least, float) and not isinstance(value, int):
                raise ValueError(f"synthetic data: {name} must be a whole number, got {value!r}")
            if not least <= value <= most:
                raise ValueError(f"synthetic data: {name} must lie in {least:g} to {most:g}, got {value}")

    def fingerprint(self, _memory: Path | None) -> str:
        shape = (float(self.zipf_exponent), float(self.concentration))
        return combine("synthetic 1", [repr((self.tokens, self.order, *shape, self.seed))])

    def holds_out(self) -> bool:
        return True

    def content_tokens(self) -> int:
        return self.tokens

    def check(self, vocab_size: int) -> None:
        """ValueError above MAX_PROBABILITIES transition probabilities."""
        probabilities = vocab_size ** (self.order + 1)
        if probabilities > MAX_PROBABILITIES:
            largest = int(MAX_PROBABILITIES ** (1 / (self.order + 1)))
            raise ValueError(
                f"synthetic data of order {self.order} over vocab_size={vocab_size} needs "
                f"{probabilities:,} probabilities, above {MAX_PROBABILITIES:,}; "
                f"take vocab_size up to {largest}, or a lower order"
            )

    def chain(self, vocab_size: int) -> Chain:
        """The chain over `vocab_size` symbols, as many as `check` allows."""
        self.check(vocab_size)
        zipf = np.arange(1, vocab_size + 1, dtype=np.float64) ** -self.zipf_exponent
        zipf /= zipf.sum()
        random = np.random.Generator(np.random.PCG64([self.seed, 0]))
        rows = random.standard_gamma(self.concentration * zipf, size=(vocab_size**self.order, vocab_size))
        rows /= rows.sum(axis=1, keepdims=True)
        return Chain(rows=(1 - SHARED) * rows + SHARED * zipf, order=self.order)

    def write(self, train: BinaryIO, val: BinaryIO, spec: DataSpec, _memory: Path | None, report: Report) -> Written:
        chain = self.chain(spec.vocab_size)
        val_tokens = max(1, round(self.tokens * spec.val_fraction))
        for stream, (file, tokens) in enumerate(((train, self.tokens - val_tokens), (val, val_tokens)), start=1):
            random = np.random.Generator(np.random.PCG64([self.seed, stream]))
            for block in chain.sample(tokens, random):
                file.write(block.astype(id_type(spec.vocab_size)).tobytes())
                report(len(block))
        return Written(train_documents=1, val_documents=1, dropped_documents=0, entropies_nats=chain.entropies_nats())
