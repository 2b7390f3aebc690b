"""A fit repeated under many weightings of its clusters (runs) at once, each to its own global optimum.

Bootstrap resamples, jackknives and influence are all weightings of the same observations, so they share the
data, the law and one batched search. Legend: R weightings, n observations, p parameters, J clusters, S starts.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scaling.analysis.fitting.checks import check
from scaling.analysis.fitting.fit import ACCEPTED_RESIDUAL, PATIENCE, Fit
from scaling.analysis.fitting.knees import cross_knees
from scaling.analysis.fitting.misfit import Problem, pose
from scaling.analysis.fitting.newton import minimise
from scaling.analysis.fitting.starts import grid_points
from scaling.analysis.laws.jet import Array
from scaling.analysis.laws.law import Law, build, from_columns

DONORS = 256  # optima of others that each weighting may try
ROUNDS = 4  # how often better optima are passed on
LOWER = 1e-7  # relative: an objective lower by less is the same optimum
SEARCHED = 20_000  # weightings times observations that are also searched from the grid and from their neighbours
RESCUES = 4  # points of the grid from which a weighting that has failed so far is searched
NEIGHBOURS = 6  # optima of others, the best under a weighting, that it follows to their basins' ends


@dataclass(frozen=True)
class Refits:
    """The law refitted under R weightings, each to its own optimum."""

    law_type: type[Law]
    variable: str
    values: Array  # (R, p), raw units
    converged: NDArray[np.bool_]  # (R,)

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters, in the order of the columns of `values`."""
        return tuple(self.law_type.declared())

    @cached_property
    def law(self) -> Law:
        """The law of all converged refits at once: parameters (R', 1) that broadcast with points (m,)."""
        return from_columns(self.law_type, self.values[self.converged], self.variable)

    @property
    def laws(self) -> Iterator[Law]:
        """The laws of the converged refits, one by one."""
        for row in self.values[self.converged].tolist():
            yield build(self.law_type, dict(zip(self.names, row, strict=True)), self.variable)


def refit(
    fit: Fit,
    x: Mapping[str, ArrayLike],
    y: ArrayLike,
    counts: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    weights: ArrayLike | None = None,
) -> Refits:
    """Return the fit repeated with its clusters counted as the rows of `counts` (R, J) say: 0 leaves one out.

    `clusters` (n,) labels the run of each observation, and columns of counts are in the order of its sorted
    labels (None: each observation is its own run); `weights` (n,) multiply. An absolute loss is rounded
    within ROUNDED of zero. ValueError names a wrong shape or counts that are negative or not finite.
    """
    law = type(fit.law)
    variable, columns, observed, weight = check(law, x, y, fit.loss, weights)
    counted = np.asarray(counts, dtype=float)
    member = number_clusters(clusters, len(observed))
    size = int(member.max()) + 1
    if counted.ndim != 2 or counted.shape[1] != size:
        raise ValueError(f"counts must have one column for each of the {size} clusters, got shape {counted.shape}")
    if not (np.isfinite(counted).all() and (counted >= 0).all()):
        raise ValueError("counts must be finite and not negative: how often each cluster counts")
    search = _Search(pose(law, columns, observed, fit.loss, weight, fit.origin), counted, member)
    values, converged = search.run(fit.start)
    return Refits(law, variable, values, converged)


def number_clusters(clusters: ArrayLike | None, n: int) -> NDArray[np.intp]:
    """Return the number (0 to J - 1) of each observation's cluster, by the order of the sorted labels (n,)."""
    if clusters is None:
        return np.arange(n)
    labels = np.asarray(clusters)
    if labels.shape != (n,):
        raise ValueError(f"clusters has {labels.size} labels but y has {n} values")
    return np.asarray(np.unique(labels, return_inverse=True)[1]).reshape(-1)


class _Search:
    """The best optimum known under each weighting so far, and how it gets better."""

    def __init__(self, problem: Problem, counts: Array, member: NDArray[np.intp]) -> None:
        self.whole, self.counts, self.member = problem, counts, member
        self.base = problem.row_weights
        self.problem = problem.with_weights(lambda rows: self.counts[rows][:, self.member] * self.base)
        self.low, self.high = problem.bounds
        self.widths = problem.loss.widths(problem.unit)
        rows = len(counts)
        self.q = np.zeros((rows, len(problem.names)))
        self.value, self.residual = np.full(rows, np.inf), np.full(rows, np.inf)

    def run(self, start: Array) -> tuple[Array, NDArray[np.bool_]]:
        """Return raw parameters (R, p) and which weightings converged, begun at the optimum of all data.

        A weighting that fails goes the long way round by smoothing. Some also search from the grid, all where
        there are few observations, for then many have a basin of their own. Then each tries the optima of
        others: where another's is better than its own, its own was only local.
        """
        rows = len(self.counts)
        everyone = np.arange(rows)
        few = everyone[:: max(-(-rows * len(self.member) // SEARCHED), 1)]
        last = self.widths[-1:]
        self.improve(everyone, np.tile(start, (rows, 1)), self.widths if self._kinked else last)
        self.improve(self.failed, np.tile(start, (len(self.failed), 1)), self.widths)
        self.from_grid(few, 1)
        self.share()
        self.from_grid(self.failed, RESCUES)
        if not self._kinked:
            failed, begin = self.failed, self.q[self.failed]
            crossed = cross_knees(self.problem, begin, failed) if self.whole.loss.has_knees else begin
            self.improve(failed, crossed, last, PATIENCE)
        self.share()
        if len(few) == rows:
            self.from_neighbours(everyone)
        return self.problem.raw_params(self.q), self.residual < ACCEPTED_RESIDUAL

    @property
    def _kinked(self) -> bool:
        return self.problem.loss.has_kink

    @property
    def failed(self) -> NDArray[np.intp]:
        """The weightings without a minimum so far."""
        return np.flatnonzero(~(self.residual < ACCEPTED_RESIDUAL))

    def improve(self, rows: NDArray[np.intp], begin: Array, smoothing: Array, steps: int = 200) -> None:
        """Search from `begin` (len(rows), p) under the weightings named, and keep what is better.

        A weighting may be named several times, with several starts.
        """
        if not len(rows):
            return
        part = self.problem.with_weights(lambda r: self.problem.weights(rows[r]))
        ends = minimise(part, begin, self.low, self.high, frozen=part.frozen, smoothing=smoothing, max_iterations=steps)
        solved, was = ends.residual < ACCEPTED_RESIDUAL, self.residual[rows] < ACCEPTED_RESIDUAL
        better = np.flatnonzero(solved & ~was | (solved == was) & (ends.local.value < self.value[rows]))
        best_last = better[np.lexsort((-ends.local.value[better], solved[better]))]
        chosen = rows[best_last]
        self.q[chosen], self.value[chosen] = ends.q[best_last], ends.local.value[best_last]
        self.residual[chosen] = ends.residual[best_last]

    def from_grid(self, rows: NDArray[np.intp], starts: int) -> None:
        """Search each weighting from the `starts` points of the grid that are best under it."""
        if not len(rows):
            return
        grid = grid_points(self.whole)
        value = self.values_at(grid, rows)
        best = np.argsort(value, axis=0, kind="stable")[:starts]
        self.improve(np.tile(rows, len(best)), grid[best.ravel()], self.widths)

    def share(self) -> None:
        """Let every weighting try the best of the others' optima, until nothing is lower."""
        solved = np.flatnonzero(self.residual < ACCEPTED_RESIDUAL)
        if not solved.size:
            return
        for _ in range(ROUNDS):
            donors = self.q[solved[np.linspace(0, len(solved) - 1, min(DONORS, len(solved))).astype(int)]]
            everyone = np.arange(len(self.counts))
            offered = self.values_at(donors, everyone)
            best = np.argmin(offered, axis=0)
            lower = np.flatnonzero(offered[best, everyone] < self.value * (1 - LOWER))
            if not lower.size:
                return
            self.improve(lower, donors[best[lower]], self.widths[-1:])

    def from_neighbours(self, rows: NDArray[np.intp]) -> None:
        """Search the weightings named from the others' optima that are best under them, though not lower yet."""
        solved = np.flatnonzero(self.residual < ACCEPTED_RESIDUAL)
        donors = solved[np.linspace(0, len(solved) - 1, min(DONORS, len(solved))).astype(int)]
        if len(donors) < 2:
            return
        before = self.value.copy()
        value = np.where(donors[:, None] == rows, np.inf, self.values_at(self.q[donors], rows))
        best = np.argsort(value, axis=0, kind="stable")[:NEIGHBOURS]
        self.improve(np.tile(rows, len(best)), self.q[donors[best.ravel()]], self.widths[-1:])
        if (self.value < before * (1 - LOWER)).any():
            self.share()

    def values_at(self, q: Array, rows: NDArray[np.intp]) -> Array:
        """Return the objective of each of q (S, p) under each weighting named, (S, r): linear in the weights."""
        penalty = self.whole.penalties(q, float(self.widths[-1])) * self.base
        if self.counts.shape[1] < len(self.member):
            by_cluster = np.zeros((len(q), self.counts.shape[1]))
            np.add.at(by_cluster.T, self.member, penalty.T)
            penalty = by_cluster
        hopeless = np.logical_not(np.isfinite(penalty).all(axis=1, keepdims=True))[:, 0]
        total = np.where(hopeless[:, None], 0.0, penalty) @ self.counts[rows].T
        return np.where(hopeless[:, None], np.inf, total)
