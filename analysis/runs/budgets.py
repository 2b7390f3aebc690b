"""Compute budgets: which runs share one, found by tolerance and never by exact equality."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scaling.analysis.laws.cost import Cost, fit_cost
from scaling.analysis.runs.observations import Observations
from scaling.analysis.runs.repeats import cells

Array = NDArray[np.float64]

TOLERANCE = 0.08  # runs within 8% of one compute share a budget
LEAST_SIZES = 3  # of a budget that its runs name: a parabola can pass through three
LEAST_UNNAMED = 4  # of a budget found in the data, so that one degree of freedom is left
LEAST_SHARE = 1 / 3  # of the fullest budget's runs, for a budget found in the data


@dataclass(frozen=True)
class BudgetRuns:
    """The runs of one compute budget: row numbers into the observations and their values, sorted by size."""

    flops: float
    rows: NDArray[np.intp]
    log_params: Array  # (n,)
    log_tokens: Array  # (n,)
    loss: Array  # (n,) nats per token
    weights: Array  # (n,)
    clusters: NDArray[np.intp]  # (n,)
    cells: NDArray[np.intp]  # (n,) equal for runs that differ in their seed alone
    cost: Cost  # of these runs

    def tokens_at(self, log_params: Array) -> Array:
        """Tokens that this budget buys at a size."""
        tokens: Array = self.cost.tokens(self.flops, np.exp(log_params))
        return tokens


def group_budgets(observations: Observations, tolerance: float = TOLERANCE) -> tuple[tuple[BudgetRuns, ...], int]:
    """Cluster runs into budgets, and count the runs in none.

    Runs that name a budget are grouped by it; the others by their compute, the window of ±`tolerance` with
    most runs first. Groups of fewer than LEAST_SIZES sizes (LEAST_UNNAMED where no budget was named) are no
    budget.
    """
    table = observations.table
    flops, sizes, tokens = (observations.column(name) for name in ("flops", "params", "tokens"))
    asked = observations.column("budget")
    label = np.full(len(table), -1)
    _label_windows(asked, sizes, tolerance, LEAST_SIZES, label)
    _label_windows(np.where(np.isfinite(asked), np.nan, flops), sizes, tolerance, LEAST_UNNAMED, label)
    clusters, alike = table["cluster"].factorize()[0], cells(observations)
    budgets = []
    for k in range(label.max() + 1):
        rows = np.flatnonzero(label == k)
        rows = rows[np.argsort(sizes[rows], kind="stable")]
        budgets.append(
            BudgetRuns(
                flops=float(np.exp(np.median(np.log(flops[rows])))),
                rows=rows,
                log_params=np.log(sizes[rows]),
                log_tokens=np.log(tokens[rows]),
                loss=observations.column("loss")[rows],
                weights=observations.column("weight")[rows],
                clusters=clusters[rows],
                cells=alike[rows],
                cost=fit_cost(sizes[rows], tokens[rows], flops[rows]),
            )
        )
    return tuple(sorted(budgets, key=lambda budget: budget.flops)), int((label < 0).sum())


def distinct(flops: Iterable[float]) -> list[float]:
    """Compute values, ascending; values within TOLERANCE of each other are one, their median."""
    found: list[list[float]] = []
    for one in sorted(flops):
        if found and one <= found[-1][0] * (1 + TOLERANCE):
            found[-1].append(one)
        else:
            found.append([one])
    return [float(np.median(alike)) for alike in found]


def nearest(flops: float, budgets: Sequence[float]) -> int:
    """The number of the budget nearest to a compute, by their ratio."""
    return int(np.argmin(np.abs(np.log(np.array(budgets) / flops))))


def _label_windows(compute: Array, sizes: Array, tolerance: float, fewest: int, label: NDArray[np.int64]) -> None:
    """Give rows of finite `compute` the next free labels, window by window, the fullest first."""
    width, least = 2 * np.log1p(tolerance), fewest
    free = np.flatnonzero(np.isfinite(compute))
    free = free[np.argsort(compute[free], kind="stable")]
    while len(free) >= fewest:
        x = np.log(compute[free])
        ends = np.searchsorted(x, x + width, side="right")
        start = int(np.argmax(ends - np.arange(len(free))))
        members = free[start : ends[start]]
        if len(members) < least:
            return
        if fewest == LEAST_UNNAMED:
            least = max(least, int(np.ceil(LEAST_SHARE * len(members))))
        if len(np.unique(sizes[members])) >= fewest:
            label[members] = label.max() + 1
        free = np.concatenate([free[:start], free[ends[start] :]])
