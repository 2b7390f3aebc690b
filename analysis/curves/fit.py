"""Fit a law of whole curves: the global optimum of the squared relative residuals, with the evidence for it.

The law is linear in three coordinates, which are solved for at every point of a grid over the others (variable
projection); Newton's method with exact derivatives goes on from the best points. Legend: R rows (starts), n places of
all curves together, p coordinates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls

from scaling.analysis.curves.course import Array, Course, Seen, joined
from scaling.analysis.curves.laws import ALPHAS, COMMON, LINEAR, CurveLaw, Unit
from scaling.analysis.fitting.newton import Local, Minimum, minimise

STARTS = 8
FEW_STARTS = 3  # with a prior, which leaves one valley
ACCEPTED_RESIDUAL = 1e-6  # KKT residual (a cosine) above which an end point is no minimum
PATIENCE = 1000  # Newton steps of a search
NEGLIGIBLE = 1e-9  # relative residual below which a curve is met exactly
SAME = 1e-6  # relative difference of objectives that are one minimum


@dataclass(frozen=True, eq=False)
class Points:
    """Losses (n,) in nats per token at places (n,) of one course, and the weight of each, (n,)."""

    course: Course
    places: Array
    losses: Array
    weights: Array

    def before(self, place: float) -> "Points":
        """The points up to a place."""
        kept = self.places <= place
        return Points(self.course, self.places[kept], self.losses[kept], self.weights[kept])


@dataclass(frozen=True, eq=False)
class Prior:
    """Normal priors of coordinates: their means and precisions, (p,) each; a precision of 0 is none."""

    mean: Array
    precision: Array


@dataclass(frozen=True, eq=False)
class CurveFit:
    """A fitted law of whole curves.

    rms: root of the weighted mean square of log measured over fitted loss. residual: the KKT residual, a cosine.
    """

    law: CurveLaw
    q: Array = field(repr=False)  # coordinates (p,)
    unit: Unit = field(repr=False)
    objective: float
    rms: float
    residual: float
    starts: int
    agreed: int  # starts that ended at this minimum
    points: int
    at_bound: tuple[str, ...]
    curvature: Array = field(repr=False)  # Hessian of the objective (p, p)

    @property
    def is_minimum(self) -> bool:
        """Whether the search ended at a stationary point."""
        return self.residual < ACCEPTED_RESIDUAL

    def loss(self, course: Course, places: ArrayLike) -> Array:
        """The loss at places (n,) of any course, nats per token."""
        seen = course.until(np.atleast_1d(places))
        found: Array = np.asarray(self.law.loss(self.q[None], seen, self.unit).value)[0] * self.unit.loss
        return found

    def slope(self, course: Course, place: float) -> Array:
        """Derivatives (p,) of the log loss at a place by the coordinates."""
        found = self.law.loss(self.q[None], course.until([place]), self.unit)
        return np.array([np.asarray(found.first[k] / found.value).item() for k in range(len(self.q))])

    def parameters(self, peak: float) -> Mapping[str, float]:
        """The parameters by the paper's symbols, in nats and sums of learning rates; `peak` is the learning rate's."""
        return self.law.published(self.q, self.unit, peak)


@dataclass(frozen=True, eq=False)
class _Problem:
    """Half the weighted sum of squared relative residuals, with a prior's penalty."""

    law: CurveLaw
    seen: Seen
    losses: Array  # over the unit (n,)
    weights: Array
    unit: Unit
    prior: Prior

    def __call__(self, q: Array, rows: NDArray[np.intp], width: Array, reach: Array) -> Local:
        """The objective with derivatives at q (r, p); squares need no smoothing."""
        count, p = q.shape
        with np.errstate(all="ignore"):
            found = self.law.loss(q, self.seen, self.unit)
            shape = (count, len(self.losses))
            left = np.broadcast_to(found.value, shape) / self.losses - 1.0
            tangent = np.stack([np.broadcast_to(found.first[k], shape) / self.losses for k in range(p)], axis=1)
            pull = self.weights * left
            off = q - self.prior.mean
            value = 0.5 * (pull * left).sum(axis=1) + 0.5 * (self.prior.precision * off**2).sum(axis=1)
            gradient = np.einsum("rpn,rn->rp", tangent, pull) + self.prior.precision * off
            hessian = np.einsum("rpn,rqn->rpq", tangent * self.weights, tangent) + np.diag(self.prior.precision)
            for (j, k), second in found.second.items():
                extra = (np.broadcast_to(second, shape) / self.losses * pull).sum(axis=1)
                hessian[:, j, k] += extra
                if j != k:
                    hessian[:, k, j] += extra
            score = np.sqrt((self.weights * (left**2 + NEGLIGIBLE**2)).sum(axis=1))
            size = np.sqrt(np.einsum("rpn,n->rp", tangent**2, self.weights)) * score[:, None]
            size = np.maximum(size + self.prior.precision * np.abs(off), 1e-300)
        sound = np.isfinite(value) & np.isfinite(hessian).all(axis=(1, 2)) & np.isfinite(size).all(axis=1)
        gradient[~sound], hessian[~sound], size[~sound] = 0.0, 0.0, 1.0
        return Local(np.where(sound, value, np.inf), gradient, hessian, size)

    def starts(self) -> Array:
        """The most promising points of the grid (STARTS, p), the linear coordinates solved for at each."""
        low, high = self.law.bounds
        alphas = np.log(ALPHAS)
        grid = np.array(list(product(alphas, *self.law.grid)), dtype=float)
        q = np.concatenate([np.zeros((len(grid), LINEAR)), grid], axis=1)
        held = self.prior.precision[LINEAR:] > 0
        typical = np.clip(self.prior.mean, low, high)
        if held.any():  # begin from what the prior knows, too
            own = np.where(np.concatenate([np.zeros(LINEAR, bool), held]), typical, q)
            q = np.unique(np.concatenate([q, own]), axis=0)
        root = np.sqrt(self.weights)
        worth = np.empty(len(q))
        for k, row in enumerate(q):
            fallen = np.exp(-np.exp(row[LINEAR]) * np.log(self.seen.rate_sum / self.unit.rate_sum))
            came = np.asarray(self.law.came(row[None, len(COMMON) :], self.seen).value)[0]
            basis = np.stack([np.ones_like(fallen), fallen, -came], axis=1) * (root / self.losses)[:, None]
            penalty = np.diag(np.sqrt(self.prior.precision[:LINEAR]))
            target = np.concatenate([root, penalty @ self.prior.mean[:LINEAR]])
            q[k, :LINEAR], worth[k] = nnls(np.concatenate([basis, penalty]), target)
        few = FEW_STARTS if held.any() else STARTS
        return np.asarray(q[np.argsort(worth, kind="stable")[:few]])


def no_prior(law: CurveLaw) -> Prior:
    """The prior of nothing."""
    size = len(law.bounds[0])
    return Prior(np.zeros(size), np.zeros(size))


def fit_curves(law: CurveLaw, curves: Sequence[Points], prior: Prior | None = None) -> CurveFit:
    """The law with one set of parameters through the points of all curves, at the lowest minimum of its starts.

    Without a prior the objective is half the weighted sum of squared relative residuals; a prior adds its penalty.
    """
    losses = np.concatenate([one.losses for one in curves])
    weights = np.concatenate([one.weights for one in curves])
    seen = joined([one.course.until(one.places) for one in curves])
    unit = Unit(float(np.exp(np.log(losses).mean())), float(np.exp(np.log(seen.rate_sum).mean())))
    low, high = law.bounds
    problem = _Problem(law, seen, losses / unit.loss, weights, unit, prior or no_prior(law))
    blind = np.zeros(len(low), dtype=bool)
    if not len(seen.drop) and prior is None:  # no drop of the rate: nothing is known of its gain
        blind[2], blind[len(COMMON) :] = True, True
    starts = problem.starts()
    ends = minimise(problem, starts, low, high, frozen=blind, smoothing=np.zeros(1), max_iterations=PATIENCE)
    return _report(problem, ends, low, high)


def _report(problem: _Problem, ends: Minimum, low: Array, high: Array) -> CurveFit:
    value = np.where(ends.residual < ACCEPTED_RESIDUAL, ends.local.value, np.inf)
    best = int(np.argmin(value if np.isfinite(value).any() else ends.local.value))
    lowest = float(ends.local.value[best])
    q = ends.q[best]
    predicted = np.asarray(problem.law.loss(q[None], problem.seen, problem.unit).value)[0]
    off = np.log(problem.losses / np.where(predicted > 0, predicted, np.nan))
    names = [*COMMON, *problem.law.shape]
    bound = tuple(name for name, one, a, b in zip(names, q, low, high, strict=True) if one in (a, b))
    return CurveFit(
        problem.law,
        q,
        problem.unit,
        lowest,
        float(np.sqrt(np.average(off**2, weights=problem.weights))),
        float(ends.residual[best]),
        len(ends.q),
        int((value <= lowest * (1 + SAME) + 1e-20).sum()),
        len(off),
        bound,
        ends.local.hessian[best],
    )
