"""The exact end of a fit by Huber loss: piecewise quadratic programmes in a trust region.

Residuals that are large against delta leave narrow valleys, one for each residual inside its knees, and a Newton step
of the fit sees only the valley in which the step begins. The Huber loss of the linearised residuals is convex and
piecewise quadratic: Newton steps with an exact search along each line cross its knees and end at its minimum (Madsen
and Nielsen 1990, BIT 30:682). A law that is a product of powers is linear in the logs, so that its first programme
within reach ends at the global optimum. Legend: R rows, n observations, p coordinates.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from scaling.analysis.fitting.misfit import Problem
from scaling.analysis.fitting.newton import newton_step
from scaling.analysis.laws.jet import Array

MAX_PROGRAMMES = 100
MAX_LINES = 100  # Newton steps of one programme
FIRST_RADIUS, MOST_RADIUS, LEAST_RADIUS = 0.1, 10.0, 1e-11  # coordinates are of order one
SETTLED = 1e-13  # relative decrease of the loss that is none
RIDGE = 1e-14  # bend of a residual outside its knees, so that a programme with none inside has a step
STEEPEST = 1e100  # slope of a residual by a coordinate, beyond which squares overflow and the residual is left out
SHRINK = 4.0  # of the width, from one level to the next
IN_FLIGHT = 1_000_000  # numbers per array, p for each residual of each row


def cross_knees(problem: Problem, q: Array, rows: NDArray[np.intp]) -> Array:
    """Return points (R, p), reached from q (R, p) of the rows named, at which no programme promises a lower loss."""
    chunk = max(1, IN_FLIGHT // (len(problem.y) * q.shape[1]))
    parts = [slice(k, k + chunk) for k in range(0, len(q), chunk)]
    with np.errstate(all="ignore"):  # a trial may overflow: then worth infinity, and not taken
        return np.concatenate([_descend(problem, q[part], rows[part]) for part in parts] or [q])


def _descend(problem: Problem, begin: Array, rows: NDArray[np.intp]) -> Array:
    low, high = (np.where(problem.frozen, begin, end) for end in problem.bounds)
    by_factors = np.array([d.multiplicative and d.kind == "plain" for d in problem.law.declared().values()])
    width = float(problem.loss.widths(problem.unit)[-1])
    q, radius = begin.copy(), np.full(len(begin), FIRST_RADIUS)
    value = problem.values(q, width, rows)
    going = np.flatnonzero(np.isfinite(value))
    for _ in range(MAX_PROGRAMMES):
        if not going.size:
            break
        coordinates = Coordinates(q[going], low[going], high[going], by_factors & (low[going] == 0) & (q[going] > 0))
        residual, tangent = problem.linearised(q[going], rows[going])
        weight = np.broadcast_to(problem.weights(rows[going]), residual.shape)
        tangent = tangent * coordinates.slope[:, :, None]
        programme = Programme(residual, np.where(np.abs(tangent) < STEEPEST, tangent, 0.0), weight, width)
        step = programme.minimise(*coordinates.box(radius[going, None]))
        promised = value[going] - programme.loss(step)
        trial = coordinates.moved(step)
        reached = problem.values(trial, width, rows[going])
        share = (value[going] - reached) / np.maximum(promised, 1e-300)
        lower = share > 0
        settled = promised <= SETTLED * value[going]
        q[going[lower]], value[going[lower]] = trial[lower], reached[lower]
        far = np.abs(step).max(axis=1) > 0.99 * radius[going]
        factor = np.where(share > 0.75, np.where(far, 4.0, 1.0), np.where(share > 0.25, 1.0, 0.25))
        radius[going] = np.minimum(radius[going] * factor, MOST_RADIUS)
        going = going[~settled & (radius[going] > LEAST_RADIUS)]
    return q


@dataclass(frozen=True)
class Coordinates:
    """Where steps begin, q (R, p) in the box [low, high], and which coordinates (R, p) move by factors, not by sums."""

    q: Array
    low: Array
    high: Array
    by_factors: NDArray[np.bool_]

    @property
    def slope(self) -> Array:
        """The move of each coordinate by its step."""
        return np.where(self.by_factors, self.q, 1.0)

    def box(self, radius: Array) -> tuple[Array, Array]:
        """Return the least and the largest step (R, p) inside the radius (R, 1) and the bounds."""
        below = np.where(self.by_factors, -np.inf, self.low - self.q)
        above = np.where(self.by_factors, np.log(self.high / self.q), self.high - self.q)
        return np.maximum(below, -radius), np.minimum(above, radius)

    def moved(self, step: Array) -> Array:
        """Return the coordinates after a step (R, p)."""
        return np.clip(np.where(self.by_factors, self.q * np.exp(step), self.q + step), self.low, self.high)


def _huber(residual: Array, width: float) -> Array:
    size = np.abs(residual)
    return np.where(size <= width, 0.5 * size**2, width * (size - 0.5 * width))


def _moved(residual: Array, tangent: Array, step: Array) -> Array:
    moved: Array = residual - np.einsum("rp,rpn->rn", step, tangent)
    return moved


@dataclass(frozen=True)
class Programme:
    """The Huber loss of residuals (R, n) that fall by the tangent (R, p, n), weighted (R, n), with knees at width."""

    residual: Array
    tangent: Array
    weight: Array
    width: float

    def loss(self, step: Array) -> Array:
        """Return the loss (R,) after a step (R, p)."""
        return np.asarray(np.sum(self.weight * _huber(_moved(self.residual, self.tangent, step), self.width), axis=1))

    def minimise(self, low: Array, high: Array) -> Array:
        """Return the step (R, p) in the box [low, high] at which the loss of each row is least.

        The knees begin as wide as the largest residual, or as the box lets a residual move, and draw in to their width.
        """
        step = np.zeros_like(low)
        farthest = np.einsum("rp,rpn->rn", np.maximum(-low, high), np.abs(self.tangent)).max()
        widest = max(min(float(np.abs(self.residual).max()), float(farthest)), self.width)
        levels = 1 + int(np.ceil(np.log(widest / self.width) / np.log(SHRINK)))
        for width in np.geomspace(widest, self.width, levels):
            step = replace(self, width=float(width))._follow(step, low, high)
        return step

    def _follow(self, begin: Array, low: Array, high: Array) -> Array:
        step, going = begin.copy(), np.arange(len(begin))
        for _ in range(MAX_LINES):
            part = Programme(self.residual[going], self.tangent[going], self.weight[going], self.width)
            here, room = step[going], (low[going] - step[going], high[going] - step[going])
            residual = _moved(part.residual, part.tangent, here)
            direction, slope = part._direction(residual, *room)
            length = part._line(residual, direction, slope, _most(direction, *room))
            step[going] = np.clip(here + length[:, None] * direction, low[going], high[going])
            gained = -slope * length  # at least the decrease, at most twice that
            going = going[gained > SETTLED * part.loss(here)]
            if not going.size:
                break
        return step

    def _direction(self, residual: Array, below: Array, above: Array) -> tuple[Array, Array]:
        """Return the Newton step (R, p) on the present piece, into the box, and the slope along it (R,)."""
        pull = self.weight * np.clip(residual, -self.width, self.width)
        gradient = -np.einsum("rpn,rn->rp", self.tangent, pull)
        inside = self.weight * np.where(np.abs(residual) <= self.width, 1.0, RIDGE)
        bend = (self.tangent * inside[:, None]) @ self.tangent.transpose(0, 2, 1)
        held = (below >= 0) & (gradient >= 0) | (above <= 0) & (gradient <= 0)
        for _ in range(gradient.shape[1]):
            step = newton_step(gradient, bend, held)
            outwards = (below >= 0) & (step < 0) | (above <= 0) & (step > 0)
            if not outwards.any():
                break
            held = held | outwards  # until the others are at their minimum
        slope = np.einsum("rp,rp->r", gradient, step)
        noise = 1e-15 * np.einsum("rpn,rn,rp->r", np.abs(self.tangent), np.abs(pull), np.abs(step))
        return step, np.where(slope < -noise, slope, 0.0)

    def _line(self, residual: Array, direction: Array, slope: Array, most: Array) -> Array:
        """Return the length (R,), at most `most`, at which the loss is least along the direction.

        The slope of the loss is continuous, and bends where a residual enters its knees and where it leaves them.
        """
        fall = np.einsum("rp,rpn->rn", direction, self.tangent)
        with np.errstate(divide="ignore", invalid="ignore"):
            ends = np.stack([(residual - self.width) / fall, (residual + self.width) / fall])
        ends = np.where(fall == 0, np.inf, np.sort(ends, axis=0))
        bend = np.where(fall == 0, 0.0, self.weight * fall**2)
        at = np.maximum(np.concatenate(list(ends), axis=1), 0.0)
        change = np.concatenate([bend, -bend], axis=1)
        order = np.argsort(at, axis=1)
        at, change = np.take_along_axis(at, order, axis=1), np.take_along_axis(change, order, axis=1)
        curvature = np.cumsum(change, axis=1)
        at = np.minimum(at, most[:, None])
        slopes = slope[:, None] + np.cumsum(np.insert(curvature[:, :-1] * np.diff(at, axis=1), 0, 0.0, axis=1), axis=1)
        rising = slopes >= 0
        row, first = np.arange(len(at)), np.argmax(rising, axis=1)
        last = np.maximum(first - 1, 0)  # the end before the minimum
        bent = curvature[row, last]
        length = at[row, last] - slopes[row, last] / np.where(bent > 0, bent, np.inf)
        found = np.where(rising.any(axis=1), np.minimum(length, at[row, first]), most)
        return np.where(slope < 0, np.minimum(found, most), 0.0)


def _most(step: Array, below: Array, above: Array) -> Array:
    """Return the length (R,) at which steps along this one leave the box; 0 for no step."""
    with np.errstate(divide="ignore", invalid="ignore"):
        to_edge = np.where(step == 0, np.inf, np.where(step > 0, above, below) / step).min(axis=1)
    most: Array = np.where(np.isfinite(to_edge), np.maximum(to_edge, 0.0), 0.0)
    return most
