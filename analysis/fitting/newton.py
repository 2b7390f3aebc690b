"""Damped Newton in a box for many small problems at once, each going its own way.

Every row of `q` is an independent problem (a start, or a resample) with p coordinates. Exact gradients and
Hessians come from the objective; negative curvature is reflected, so that every step descends; coordinates
held by a bound are taken out of the step. Legend: R rows, p coordinates.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scaling.analysis.laws.jet import Array

STATIONARY = 1e-10  # KKT residual at which a row is done
NEARLY = 1e-3  # KKT residual at which a row moves on to the next smoothing width
PATIENCE = 12  # steps after which it moves on in any case
MAX_STEP = 1.0  # internal coordinates are of order one, so a longer step is never trusted


@dataclass(frozen=True)
class Local:
    """The objective near each row: value (R,), gradient (R, p), Hessian (R, p, p).

    `size` (R, p) is the gradient's natural size, |score| |tangent|, so that |gradient| / size is the cosine
    between the residual scores and the direction of each coordinate: free of units, zero at a stationary
    point.
    """

    value: Array
    gradient: Array
    hessian: Array
    size: Array


Objective = Callable[[Array, NDArray[np.intp], Array, Array], Local]  # q (r, p), row numbers, width, reach: (r,)


@dataclass(frozen=True)
class Minimum:
    """Where each row ended: coordinates, the local objective there, its KKT residual and iterations used."""

    q: Array
    local: Local
    residual: Array
    held: NDArray[np.bool_]
    iterations: NDArray[np.intp]


def minimise(
    objective: Objective,
    start: Array,
    low: Array,
    high: Array,
    *,
    frozen: NDArray[np.bool_],
    smoothing: Array,
    max_iterations: int = 200,
) -> Minimum:
    """Return the local minimum in the box [low, high] reached from each row of `start`, shape (R, p).

    `smoothing` (S,), falling, ends at the objective asked for: each row moves to the next one as soon as it
    is nearly stationary at the present one. `frozen` (p,) coordinates never move.
    """
    walk = _Walk(objective, np.clip(start, low, high), low, high, frozen, smoothing)
    while walk.going.any():
        rows = np.flatnonzero(walk.going)
        residual = walk.residual(rows)
        at_end = walk.stage[rows] == walk.last
        ready = ~at_end & ((residual < NEARLY) | (walk.patience[rows] <= 0))
        if ready.any():
            walk.sharpen(rows[ready])
            continue
        done = at_end & (residual < STATIONARY) | (walk.iterations[rows] >= max_iterations)
        walk.going[rows[done]] = False
        if not done.all():
            walk.step(rows[~done], residual[~done])
    everyone = np.arange(len(start))
    reached = walk.stage == walk.last
    residual = np.where(np.isfinite(walk.local.value) & reached, walk.residual(everyone), np.inf)
    return Minimum(walk.q, walk.local, residual, walk.held(everyone), walk.iterations)


class _Walk:
    """Where each row is, what the objective looks like there, and how it fares."""

    def __init__(
        self, objective: Objective, q: Array, low: Array, high: Array, frozen: NDArray[np.bool_], smoothing: Array
    ) -> None:
        self.objective, self.q, self.smoothing = objective, q, smoothing
        self.low, self.high, self.frozen = low, high, frozen
        rows = len(q)
        self.last = len(smoothing) - 1
        self.stage = np.zeros(rows, dtype=np.intp)
        self.patience = np.full(rows, PATIENCE)
        self.iterations = np.zeros(rows, dtype=np.intp)
        self.damping = np.zeros(rows)
        width = np.full(rows, smoothing[0])
        self.local = objective(q, np.arange(rows), width, width)
        self.going = np.isfinite(self.local.value)

    def held(self, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        return _held(self.q[rows], self.local.gradient[rows], self.low, self.high, self.frozen)

    def residual(self, rows: NDArray[np.intp]) -> Array:
        return _residual(self.local.gradient[rows], self.local.size[rows], self.held(rows))

    def sharpen(self, rows: NDArray[np.intp]) -> None:
        """Move rows on to the next smoothing width, following the residuals that lie inside the present one."""
        before, after = self.smoothing[self.stage[rows]], self.smoothing[self.stage[rows] + 1]
        self.stage[rows] += 1
        self.patience[rows], self.damping[rows] = PATIENCE, 0.0
        # residuals inside the old width shrink with it: the step follows their quadratic piece
        inside = self.objective(self.q[rows], rows, after, before)
        trial, _ = self._trial(rows, inside)
        followed = self.objective(trial, rows, after, after)
        better = followed.value < inside.value
        self._move(rows, trial, followed, better)
        if not better.all():
            stay, width = rows[~better], after[~better]
            self._move(stay, self.q[stay], self.objective(self.q[stay], stay, width, width), np.ones(len(stay), bool))

    def step(self, rows: NDArray[np.intp], residual: Array) -> None:
        """Try one damped Newton step of each row, and judge it."""
        here, width, was = self.q[rows], self.smoothing[self.stage[rows]], self.damping[rows]
        value, gradient = self.local.value[rows], self.local.gradient[rows]
        trial, weakest = self._trial(rows, Local(value, gradient, self.local.hessian[rows], self.local.size[rows]))
        new = self.objective(trial, rows, width, width)
        self.iterations[rows] += 1
        self.patience[rows] -= 1
        gained = value - new.value
        descent = np.maximum(np.einsum("rp,rp->r", gradient, here - trial), 0.0)  # a full step gains half of it
        noise = 1e-13 * np.abs(value)
        held = _held(trial, new.gradient, self.low, self.high, self.frozen)
        flatter = _residual(new.gradient, new.size, held) < residual
        lower = (gained > noise) & (gained > 1e-4 * descent) | (np.abs(gained) <= noise) & flatter
        accept = np.isfinite(new.value) & lower
        eased = np.where(gained > 0.25 * descent, was * 0.1, was)
        damping = np.where(accept, eased, np.maximum(was * 5.0, weakest))
        self.damping[rows] = np.where(damping < 0.1 * weakest, 0.0, damping)
        stuck = ~accept & (damping > 1e12) | (np.abs(trial - here) <= 2e-16 * (1.0 + np.abs(here))).all(axis=1)
        self.patience[rows[stuck]] = 0
        self.going[rows[stuck & (self.stage[rows] == self.last)]] = False
        self._move(rows, trial, new, accept)

    def _trial(self, rows: NDArray[np.intp], local: Local) -> tuple[Array, Array]:
        """Return where the damped Newton step of each row leads, inside the box, and its weakest curvature."""
        here = self.q[rows]
        held = _held(here, local.gradient, self.low, self.high, self.frozen)
        room = self.low - here, self.high - here
        step, weakest = _step(local.gradient, local.hessian, held, self.damping[rows], room)
        return np.clip(here + step, self.low, self.high), weakest

    def _move(self, rows: NDArray[np.intp], q: Array, local: Local, accepted: NDArray[np.bool_]) -> None:
        chosen = rows[accepted]
        self.q[chosen] = q[accepted]
        for name in Local.__dataclass_fields__:
            getattr(self.local, name)[chosen] = getattr(local, name)[accepted]


def _held(q: Array, gradient: Array, low: Array, high: Array, frozen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return (q <= low) & (gradient >= 0) | (q >= high) & (gradient <= 0) | frozen


def _residual(gradient: Array, size: Array, held: NDArray[np.bool_]) -> Array:
    cosine = np.abs(gradient) / np.where(size > 0, size, 1.0)
    largest: Array = np.where(held, 0.0, cosine).max(axis=1)
    return largest


def _step(
    gradient: Array, hessian: Array, held: NDArray[np.bool_], damping: Array, room: tuple[Array, Array]
) -> tuple[Array, Array]:
    """Return the damped Newton step (R, p) on the free coordinates, curvature taken by its magnitude.

    `room` (R, p) each: how far the box reaches below and above; the step stays inside. Also returned: the
    least curvature over the largest (R,): damping of that size shortens the step where it is longest, no more.
    """
    free = ~held
    h = np.where(free[:, :, None] & free[:, None, :], hessian, 0.0)
    diagonal = np.sqrt(np.abs(np.einsum("rii->ri", h)))
    diagonal = np.where(diagonal > 1e-140, diagonal, 1.0)
    curvature, axes = np.linalg.eigh(h / diagonal[:, :, None] / diagonal[:, None, :])
    slope = np.where(free, gradient, 0.0) / diagonal
    along = np.einsum("rji,rj->ri", axes, slope)
    top = np.maximum(np.abs(curvature).max(axis=1, keepdims=True), 1e-300)
    bend = np.maximum(np.abs(curvature), 1e-10 * top) + damping[:, None] * top
    step = np.einsum("rij,rj->ri", axes, -along / bend)
    below, above = room[0] * diagonal, room[1] * diagonal
    out = ((step < below) | (step > above)) & free
    beyond = np.flatnonzero(out.any(axis=1))
    if beyond.size:
        model = (axes[beyond] * bend[beyond, None, :]) @ axes[beyond].transpose(0, 2, 1)
        step[beyond] = _inside(model, slope[beyond], step[beyond], below[beyond], above[beyond])
    step = step / diagonal
    longest = np.abs(step).max(axis=1, keepdims=True)
    capped: Array = step * np.where(longest > MAX_STEP, MAX_STEP / np.maximum(longest, 1e-300), 1.0)
    ratio = np.abs(curvature) / top
    return capped, np.clip(np.where(ratio > 1e-14, ratio, 1.0).min(axis=1), 1e-7, 1e-2)


def newton_step(gradient: Array, hessian: Array, held: NDArray[np.bool_]) -> Array:
    """Return the undamped step (R, p) on the coordinates that are not held, at most MAX_STEP long."""
    anywhere = np.full_like(gradient, np.inf)
    return _step(gradient, hessian, held, np.zeros(len(gradient)), (-anywhere, anywhere))[0]


def _inside(model: Array, slope: Array, step: Array, below: Array, above: Array) -> Array:
    """Return the step of the convex model with every coordinate that would leave the box stopped at its edge.

    The others are solved for again with those stopped; clipping alone would bend the step off its valley.
    """
    size = step.shape[1]
    stopped = np.zeros_like(step, dtype=bool)
    for _ in range(size):
        out = ((step < below) | (step > above)) & ~stopped
        if not out.any():
            break
        stopped |= out
        edge = np.where(stopped, np.clip(step, below, above), 0.0)
        going = ~stopped
        matrix = np.where(going[:, :, None] & going[:, None, :], model, 0.0) + stopped[:, :, None] * np.eye(size)
        right = np.where(going, -slope - np.einsum("rij,rj->ri", model, edge), edge)
        step = np.asarray(np.linalg.solve(matrix, right[:, :, None])[:, :, 0], dtype=np.float64)
    return np.clip(step, below, above)
