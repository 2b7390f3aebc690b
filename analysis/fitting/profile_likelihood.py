"""Profile-likelihood intervals: hold one parameter at many values, refit the others, see when the misfit is too much.

The threshold is calibrated: the sandwich variance of the parameter (clustered by run) over the variance
that the objective's curvature alone would claim, times Student's t squared (Kent 1982, Biometrika 69:19).
So an interval holds for any of the losses and for runs whose checkpoints share their noise. Legend: V
values, p parameters, J clusters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scaling.analysis.fitting.checks import check
from scaling.analysis.fitting.fit import ACCEPTED_RESIDUAL, Fit
from scaling.analysis.fitting.knees import cross_knees
from scaling.analysis.fitting.misfit import Problem, pose
from scaling.analysis.fitting.newton import minimise
from scaling.analysis.laws import jet
from scaling.analysis.laws.jet import Array, Jet, Number
from scaling.analysis.quantiles import t_quantile

NEAR_STRIDES = np.array([0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0])  # standard errors
FAR_STRIDES = np.array([6.0, 9.0, 14.0, 20.0])  # tried where the near ones cross no threshold
REFINEMENT = 7  # values tried inside the bracket of a crossing
EXACT = 1e-12  # smoothing width at which a kink's value is exact to rounding
SWEEPS = 3  # how often each value also starts from its neighbours' optima


@dataclass(frozen=True)
class ProfileLikelihood:
    """The objective minimised over all other parameters, at each value of one of them, in raw units.

    low, high: where it crosses the threshold; an end that never crosses is where the search stopped and
    `closed` says (False, ...). The estimate is among `values`.
    """

    parameter: str
    values: Array  # (V,), rising
    objective: Array  # (V,)
    low: float
    high: float
    closed: tuple[bool, bool]
    level: float
    estimate: float
    threshold: float  # objective at the ends of the interval


def profile_likelihood(
    fit: Fit,
    x: Mapping[str, ArrayLike],
    y: ArrayLike,
    parameter: str,
    *,
    level: float = 0.95,
    clusters: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> ProfileLikelihood:
    """Return the profile of a parameter of the fitted law, with its calibrated interval."""
    law = type(fit.law)
    if parameter not in fit.law.params:
        raise ValueError(f"unknown parameter {parameter!r} of {law.name!r}; choose from {', '.join(fit.law.params)}")
    _, columns, observed, weight = check(law, x, y, fit.loss, weights)
    member = np.arange(len(observed)) if clusters is None else np.unique(np.asarray(clusters), return_inverse=True)[1]
    problem = pose(law, columns, observed, fit.loss, weight, fit.origin)
    estimate = fit.law.params[parameter]
    sandwich = Sandwich(problem, fit.start, member)
    error, inflation = sandwich.parameter(parameter)
    freedom = max(int(member.max()) + 1 - len(problem.names), 1)
    rise = 0.5 * inflation * t_quantile((1 + level) / 2, freedom) ** 2
    line = _Line(problem, fit, parameter, error)
    best = line.at_estimate()
    ends = line.crossings(best + rise)
    order = np.argsort(line.values)
    unit = problem.objective_unit
    return ProfileLikelihood(
        parameter,
        np.array(line.values)[order],
        np.array(line.objective)[order] * unit,
        ends[0][0],
        ends[1][0],
        (ends[0][1], ends[1][1]),
        level,
        estimate,
        float((best + rise) * unit),
    )


class Sandwich:
    """The clustered sandwich covariance of a fit, and what the objective's curvature alone would claim.

    The expected curvature of a loss with a kink is estimated over a bandwidth that shrinks as n^-1/5, not
    from the handful of residuals that happen to lie at the kink (Powell 1991).
    """

    def __init__(self, problem: Problem, q: Array, member: NDArray[np.intp]) -> None:
        """Build at the optimum q (p,); `member` (n,) numbers the cluster of each observation."""
        self.problem, self.q = problem, q
        low, high = problem.bounds
        self.free = (q > low) & (q < high) & ~problem.frozen
        tangent = np.where(self.free[:, None], problem.tangent(q), 0.0)
        weight, residual = problem.row_weights, problem.residual(q)
        width = problem.loss.widths(problem.unit)[-1]
        score = tangent * (weight * problem.loss.smooth(residual, width)[1])
        clusters = int(member.max()) + 1
        totals = np.stack([np.bincount(member, row_, minlength=clusters) for row_ in score])
        fitted = int(self.free.sum())  # residuals of few runs are too small by what the fit took from them
        self.spread = totals @ totals.T * (clusters / max(clusters - fitted, 1))
        self.bread = np.linalg.pinv((tangent * (weight * _expected_bend(problem, residual, width))) @ tangent.T)

    def parameter(self, name: str) -> tuple[float, float]:
        """Return a parameter's standard error, raw, and its variance over what the curvature claims."""
        numbers: dict[str, Number] = {n: jet.variable(k, self.q[k]) for k, n in enumerate(self.problem.names)}
        raw = self.problem.raw(numbers, np.zeros(1, dtype=np.intp))[name]
        assert isinstance(raw, Jet)
        slope = np.array([float(np.asarray(raw.first.get(k, 0.0)).squeeze()) for k in range(len(self.q))])
        by = self.bread @ np.where(self.free, slope, 0.0)
        variance, claimed = float(by @ self.spread @ by), float(np.where(self.free, slope, 0.0) @ by)
        return float(np.sqrt(variance)), variance / claimed if claimed > 0 else 0.0


def _expected_bend(problem: Problem, residual: Array, width: float) -> Array:
    if problem.loss.name == "mse":
        return np.full_like(residual, 2.0)
    typical = 1.4826 * float(np.median(np.abs(residual)))
    band = max(width, 1.06 * typical * len(residual) ** -0.2)
    either_side = problem.loss.smooth(np.array([-0.5, 0.5]) * width, np.array(width))[2].mean()
    return np.asarray((np.abs(residual) <= band) * (either_side * width / band))


class Bracket(NamedTuple):
    """The values about a crossing, those to try between them with their starts, and the profile at the ends."""

    ends: tuple[float, float]
    between: Array
    start: Array
    profile: tuple[float, float]


class _Line:
    """The profile as it grows: values of one parameter with the optima over the others."""

    def __init__(self, problem: Problem, fit: Fit, parameter: str, error: float) -> None:
        self.problem, self.fit, self.parameter = problem, fit, parameter
        self.estimate = fit.law.params[parameter]
        declared = problem.law.declared()[parameter]
        self.limits = declared.limits
        self.by_factors = declared.multiplicative and self.estimate > 0
        typical = abs(self.estimate) if self.estimate else problem.units.loss
        self.error = error if error > 0 else 1e-6 * typical
        self.values: list[float] = []
        self.objective: list[float] = []

    def at_estimate(self) -> float:
        """Return the objective at the estimate, refitted, so that numbers compare like with like."""
        return float(self._solve(np.array([self.estimate]), self.fit.start[None])[0][0])

    def crossings(self, threshold: float) -> list[tuple[float, bool]]:
        """Return where the profile first exceeds the threshold below and above the estimate, and whether it does.

        Both sides are solved together, and the far strides of those sides alone that the near ones do not end.
        """
        sides = self._walk([(side * NEAR_STRIDES, self.fit.start) for side in (-1.0, 1.0)])
        open_ends = [k for k, (_, objective, _) in enumerate(sides) if not (objective > threshold).any()]
        far = self._walk([((-1.0, 1.0)[k] * FAR_STRIDES, sides[k][2][-1]) for k in open_ends])
        for k, beyond in zip(open_ends, far, strict=True):
            values, objective, q = (np.concatenate(parts) for parts in zip(sides[k], beyond, strict=True))
            sides[k] = values, objective, q
        brackets = [self._bracket(*side, threshold) for side in sides]
        crossed = [one for one in brackets if one is not None]
        fine: list[Array] = []
        if crossed:
            values, starts = (np.concatenate([one[k] for one in crossed]) for k in (1, 2))
            fine = np.split(self._solve(values, starts)[0], len(crossed))
        return [
            (float(values[-1]), False) if one is None else (self._crossing(one, fine.pop(0), threshold), True)
            for (values, *_), one in zip(sides, brackets, strict=True)
        ]

    def _walk(self, sides: Sequence[tuple[Array, Array]]) -> list[tuple[Array, Array, Array]]:
        """Values at strides outwards on each side, with the profile and its optima there, begun at an optimum each."""
        if not sides:
            return []
        values = [np.unique(self._place(strides))[:: int(np.sign(strides[0]))] for strides, _ in sides]
        starts = np.concatenate([np.tile(start, (len(v), 1)) for v, (_, start) in zip(values, sides, strict=True)])
        objective, q = self._solve(np.concatenate(values), starts)
        ends = np.cumsum([len(v) for v in values])[:-1]
        return list(zip(values, np.split(objective, ends), np.split(q, ends), strict=True))

    def _bracket(self, values: Array, objective: Array, q: Array, threshold: float) -> Bracket | None:
        over = np.flatnonzero(objective > threshold)
        if not over.size:
            return None
        k = int(over[0])
        inner, first = (values[k - 1], objective[k - 1]) if k else (self.estimate, self.objective[0])
        between = inner + (values[k] - inner) * np.linspace(0, 1, REFINEMENT + 2)[1:-1]
        start = np.tile(q[max(k - 1, 0)], (REFINEMENT, 1))
        return Bracket((float(inner), float(values[k])), between, start, (float(first), float(objective[k])))

    def _crossing(self, bracket: Bracket, fine: Array, threshold: float) -> float:
        where, path = (
            np.concatenate([[ends[0]], inside, [ends[1]]])
            for ends, inside in ((bracket.ends, bracket.between), (bracket.profile, fine))
        )
        m = int(np.argmax(path > threshold))
        rise = np.sqrt(np.maximum(np.array([path[m - 1], threshold, path[m]]) - self.objective[0], 0.0))
        share = (rise[1] - rise[0]) / (rise[2] - rise[0]) if rise[2] > rise[0] else 1.0
        return float(where[m - 1] + share * (where[m] - where[m - 1]))

    def _place(self, strides: Array) -> Array:
        if self.by_factors:
            moved = self.estimate * np.exp(np.clip(strides * self.error / self.estimate, -60.0, 60.0))
            return np.asarray(np.clip(moved, *self.limits))
        return np.clip(self.estimate + strides * self.error, *self.limits)

    def _solve(self, values: Array, start: Array) -> tuple[Array, Array]:
        """Return the profile at values in order outwards, each also tried from its neighbours' optima."""
        problem = replace(self.problem, fixed={**self.problem.fixed, self.parameter: values})
        low, high = problem.bounds
        widths = problem.loss.widths(problem.unit)
        best, q = np.full(len(values), np.inf), start.copy()
        for sweep in range(SWEEPS):
            begin = start if sweep == 0 else np.roll(q, 1 if sweep % 2 else -1, axis=0)
            smoothing = widths if sweep == 0 else widths[-1:]
            ends = minimise(problem, begin, low, high, frozen=problem.frozen, smoothing=smoothing)
            if problem.loss.has_knees and (lost := np.flatnonzero(~(ends.residual < ACCEPTED_RESIDUAL))).size:
                ends.q[lost] = cross_knees(problem, ends.q[lost], lost)
                ends.local.value[lost] = problem.values(ends.q[lost], float(widths[-1]), lost)
            better = ends.local.value < best
            best, q = np.where(better, ends.local.value, best), np.where(better[:, None], ends.q, q)
        best = problem.values(q, EXACT if problem.loss.has_kink else float(widths[-1]))
        self.values += values.tolist()
        self.objective += best.tolist()
        return best, q
