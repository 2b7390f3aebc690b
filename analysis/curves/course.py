"""The course of a learning rate: all that the laws of whole curves read of a schedule.

Rates are shares of the peak, so that a sum of rates counts steps at the peak. A place along a run is the number of
updates done, which may lie between two integers: the mean training loss of several steps stands at their middle.
Legend: T steps, n places, M drops, K pairs of a place and a drop.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

MOST_DROPS = 64  # of a course: more are joined, which moves a loss in a cooldown by less than a thousandth


@dataclass(frozen=True, eq=False)
class Seen:
    """The course up to n places: sums of rates (n,), and K pairs of a place and a drop behind it, sorted by place."""

    rate_sum: Array  # warm-up included
    place: NDArray[np.intp]  # of each pair (K,), rising
    drop: Array  # fall of the rate (K,)
    steps: Array  # updates since the drop
    rates: Array  # sum of rates since the drop
    log_rate: Array  # log of the rate after the drop

    @cached_property
    def _firsts(self) -> NDArray[np.intp]:
        """The first pair of each place that has any."""
        return np.flatnonzero(np.diff(self.place, prepend=-1))

    def summed(self, values: Array) -> Array:
        """Values (R, K) times their drops, summed over each place's pairs, (R, n)."""
        total = np.zeros((len(values), len(self.rate_sum)))
        if len(self.place):
            total[:, self.place[self._firsts]] = np.add.reduceat(values * self.drop, self._firsts, axis=1)
        return total


@dataclass(frozen=True, eq=False)
class Course:
    """The learning rate of each of T steps as a share of its peak, and the steps of its warm-up."""

    factors: Array
    warmup_steps: int
    peak: float  # learning rate

    @cached_property
    def sums(self) -> Array:
        """Sums of the rates before each step and after the last, (T + 1,)."""
        return np.concatenate([[0.0], np.cumsum(self.factors)])

    @cached_property
    def drops(self) -> tuple[Array, Array, Array]:
        """Sizes, places and rates of the drops after the warm-up, (M,) each, with at most MOST_DROPS of them."""
        size = self.factors[self.warmup_steps : -1] - self.factors[self.warmup_steps + 1 :]
        where = np.flatnonzero(size)
        parts = np.array_split(where, min(MOST_DROPS, len(where))) if len(where) else []
        total = np.array([size[part].sum() for part in parts])
        middle = np.array([np.average(part, weights=np.abs(size[part])) for part in parts])
        place = middle + self.warmup_steps + 1
        return total, place, np.interp(place, np.arange(len(self.factors)), self.factors)

    def until(self, places: ArrayLike) -> Seen:
        """The course up to each of the places (n,)."""
        at = np.asarray(places, dtype=float)
        steps = np.arange(len(self.sums))
        size, where, rate = self.drops
        place, drop = np.nonzero(at[:, None] > where)
        rate_sum = np.interp(at, steps, self.sums)
        before = np.interp(where, steps, self.sums)
        log_rate = np.log(rate)[drop]
        return Seen(rate_sum, place, size[drop], at[place] - where[drop], rate_sum[place] - before[drop], log_rate)


def joined(parts: Sequence[Seen]) -> Seen:
    """Places of several courses one below the other."""
    offsets = np.cumsum([0, *(len(part.rate_sum) for part in parts[:-1])])
    place = np.concatenate([part.place + k for part, k in zip(parts, offsets, strict=True)])
    rate_sum, drop, steps, rates, log_rate = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("rate_sum", "drop", "steps", "rates", "log_rate")
    )
    return Seen(rate_sum, place, drop, steps, rates, log_rate)
