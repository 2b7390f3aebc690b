"""Curve models of one budget's loss against log params, each with its minimum.

A parabola (Hoffmann et al. 2022, section 3.2) through sizes far from the minimum is biased where the true curve is not
symmetric; a cubic through the sizes near it and an Akima spline (Akima 1970; Porian et al. 2024) follow the curve.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

REACH = 0.5  # of the sizes' width beyond their ends: a drawn vertex further out is put there
GRID = 401  # points of the grid on which splines are minimised
LEAST_SIZES_OF_CUBIC = 6  # below, a cubic leaves too little to judge it by, and the parabola stands in
LEAST_SIZES_OF_AKIMA = 5
STRAIGHT = 1e-9  # of the largest turn between chords: less is none
ONE_SIZE = 0.01  # log params within which sizes are one: digitised and rounded counts differ so


@dataclass(frozen=True)
class Minima:
    """Minima of one curve model at one budget: entry 0 of the data, the rest of the redraws; NaN without a minimum."""

    log_params: Array  # (1 + draws,)
    loss: Array  # (1 + draws,)
    curve: Callable[[Array], Array]  # log params -> loss, of the data
    span: tuple[float, float]  # log params between which the curve was fitted


def parabola(log_params: Array, losses: Array, weights: Array) -> Minima:
    """Vertex of the least-squares parabola in log params; `losses` (n, m) holds the data and the draws."""
    centre = log_params.mean()
    (c, b, a) = polynomial(log_params - centre, losses, weights, 2)
    beyond = REACH * np.ptp(log_params)
    with np.errstate(divide="ignore", invalid="ignore"):
        x = np.where(
            a > 0,
            np.clip(-b / (2 * a), log_params[0] - centre - beyond, log_params[-1] - centre + beyond),
            np.nan,
        )
    return Minima(
        x + centre,
        c + b * x + a * x**2,
        lambda at: c[0] + b[0] * (at - centre) + a[0] * (at - centre) ** 2,
        (log_params[0], log_params[-1]),
    )


def cubic(log_params: Array, losses: Array, weights: Array) -> Minima:
    """Local minimum of the least-squares cubic; NaN where there is none inside the sizes tried."""
    centre = log_params.mean()
    (d, c, b, a) = polynomial(log_params - centre, losses, weights, 3)
    with np.errstate(divide="ignore", invalid="ignore"):
        # The root of 3ax^2 + 2bx + c where the slope rises, in the form that stays finite as a -> 0.
        x = -c / (b + np.sqrt(np.where(b**2 - 3 * a * c > 0, b**2 - 3 * a * c, np.nan)))
    x = np.where((x >= log_params[0] - centre) & (x <= log_params[-1] - centre), x, np.nan)
    return Minima(
        x + centre,
        d + c * x + b * x**2 + a * x**3,
        lambda at: np.polyval([a[0], b[0], c[0], d[0]], at - centre),
        (log_params[0], log_params[-1]),
    )


def akima(log_params: Array, losses: Array, weights: Array) -> Minima:
    """Lowest point of the Akima spline through the mean loss of each size; NaN where that is an end of the grid.

    A spline overshoots between sizes that lie close and differ by noise. A minimum is NaN, too, where it lies further
    below the lowest mean than the higher of the means beside that lies above it.
    """
    sizes, share = _one_each(log_params, weights)
    means = share @ losses
    at = np.linspace(sizes[0], sizes[-1], GRID)
    values = AkimaSpline(sizes, means)(at)
    lowest, least = values.argmin(axis=0), values.min(axis=0)
    draws, best = np.arange(means.shape[1]), means.argmin(axis=0)
    beside = np.maximum(means[np.maximum(best - 1, 0), draws], means[np.minimum(best + 1, len(sizes) - 1), draws])
    inside = (lowest > 0) & (lowest < GRID - 1) & (least >= 2 * means[best, draws] - beside)
    spline = AkimaSpline(sizes, means[:, 0])
    return Minima(
        np.where(inside, at[lowest], np.nan),
        np.where(inside, least, np.nan),
        spline,
        (sizes[0], sizes[-1]),
    )


class AkimaSpline:
    """The cubic spline of Akima 1970 through values (s, m) or (s,) at rising x (s,); scipy's is slow to import.

    Slopes at the points weigh the chords on either side by the turn of those beyond, chords at the ends extended.
    """

    def __init__(self, x: Array, y: Array) -> None:
        wide = (slice(None), *(None,) * (y.ndim - 1))
        self.x, self.y, self.width = x, y, np.diff(x)[wide]
        chord = np.diff(y, axis=0) / self.width
        left, right = 2 * chord[0] - chord[1], 2 * chord[-1] - chord[-2]
        ends = np.stack([2 * left - chord[0], left]), np.stack([right, 2 * right - chord[-1]])
        chords = np.concatenate([ends[0], chord, ends[1]])
        turn = np.abs(np.diff(chords, axis=0))
        whole = turn[2:] + turn[:-2]
        bends = whole > STRAIGHT * whole.max()
        share = turn[:-2] / np.where(bends, whole, 1.0)
        self.slope = np.where(
            bends, chords[1:-2] + share * (chords[2:-1] - chords[1:-2]), (chords[3:] + chords[:-3]) / 2
        )
        self.bend = (3 * chord - 2 * self.slope[:-1] - self.slope[1:]) / self.width
        self.twist = (self.slope[:-1] + self.slope[1:] - 2 * chord) / self.width**2

    def __call__(self, at: Array) -> Array:
        """Values at points (g,) between the first x and the last, (g, m) or (g,)."""
        k = np.clip(np.searchsorted(self.x, at, side="right") - 1, 0, len(self.x) - 2)
        off = (at - self.x[k]).reshape(-1, *(1,) * (self.y.ndim - 1))
        found: Array = self.y[k] + off * (self.slope[k] + off * (self.bend[k] + off * self.twist[k]))
        return found


def _one_each(log_params: Array, weights: Array) -> tuple[Array, Array]:
    """The sizes (s,), those within ONE_SIZE of their smallest as one, and the share of each run in its size (s, n)."""
    distinct = np.unique(log_params)
    starts = [distinct[0]]
    for size in distinct:
        if size - starts[-1] > ONE_SIZE:
            starts.append(size)
    cell = np.searchsorted(starts, log_params, side="right") - 1
    share = np.zeros((len(starts), len(log_params)))
    share[cell, np.arange(len(log_params))] = weights
    share /= share.sum(axis=1, keepdims=True)
    return share @ log_params, share


def mean(minima: Sequence[Minima]) -> Minima:
    """Log mean over curve models of their minima, each draw over the models that have a minimum in it."""
    log_params, loss = (np.array([getattr(one, name) for one in minima]) for name in ("log_params", "loss"))
    known = np.isfinite(log_params)
    count = np.where(known.any(axis=0), known.sum(axis=0), np.nan)
    return Minima(
        np.where(known, log_params, 0.0).sum(axis=0) / count,
        np.where(known, loss, 0.0).sum(axis=0) / count,
        lambda at: np.mean([one.curve(at) for one in minima], axis=0),
        (max(one.span[0] for one in minima), min(one.span[1] for one in minima)),
    )


def polynomial(x: Array, losses: Array, weights: Array, degree: int) -> Array:
    root = np.sqrt(weights)[:, None]
    design = np.vander(x, degree + 1, increasing=True)
    solution: Array = np.linalg.pinv(design * root) @ (losses * root)
    return solution
