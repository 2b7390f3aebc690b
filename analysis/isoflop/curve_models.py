"""Curve models of one budget's loss against log params, each with its minimum.

A parabola (Hoffmann et al. 2022, section 3.2) is biased where the true curve is not symmetric, more so on
wider grids; a cubic and an Akima spline (Akima 1970) stand beside it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scaling.analysis.schema.isoflop import CurveModel

Array = NDArray[np.float64]

REACH = 0.5  # of the grid's width beyond its ends: a drawn vertex further out is put there
GRID = 201  # points of the grid on which splines are minimised


@dataclass(frozen=True)
class Minima:
    """Minima of one curve model at one budget: entry 0 of the data, the rest of the redraws; NaN without a minimum."""

    log_params: Array  # (1 + draws,)
    loss: Array  # (1 + draws,)
    curve: Callable[[Array], Array]  # log params -> loss, of the data


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
    return Minima(x + centre, c + b * x + a * x**2, lambda at: c[0] + b[0] * (at - centre) + a[0] * (at - centre) ** 2)


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
    )


def akima(log_params: Array, losses: Array, weights: Array) -> Minima:
    """Lowest point of the Akima spline through the mean loss of each size; NaN where that is an end of the grid."""
    sizes, cell = np.unique(log_params, return_inverse=True)
    share = np.zeros((len(sizes), len(log_params)))
    share[cell, np.arange(len(log_params))] = weights
    means = share / share.sum(axis=1, keepdims=True) @ losses
    at = np.linspace(sizes[0], sizes[-1], GRID)
    values = akima_spline(sizes, means, at)
    lowest = values.argmin(axis=0)
    inside = (lowest > 0) & (lowest < GRID - 1)
    return Minima(
        np.where(inside, at[lowest], np.nan),
        np.where(inside, values.min(axis=0), np.nan),
        lambda x: akima_spline(sizes, means[:, :1], x)[:, 0],
    )


def akima_spline(x: Array, y: Array, at: Array) -> Array:
    """The spline of Akima 1970 through y (n, m) at rising x (n,), evaluated at (k,) points inside: (k, m)."""
    slope = np.diff(y, axis=0) / np.diff(x)[:, None]
    before = [3 * slope[0] - 2 * slope[1], 2 * slope[0] - slope[1]]
    after = [2 * slope[-1] - slope[-2], 3 * slope[-1] - 2 * slope[-2]]
    slope = np.concatenate([np.array(before), slope, np.array(after)])
    turn = np.abs(np.diff(slope, axis=0))
    left, right = turn[2:], turn[:-2]  # weights of the slopes left and right of each knot
    total = left + right
    flat = total <= 1e-9 * np.abs(turn).max(axis=0)
    knot = np.where(
        flat,
        (slope[1:-2] + slope[2:-1]) / 2,
        (left * slope[1:-2] + right * slope[2:-1]) / np.where(flat, 1, total),
    )
    k = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(x) - 2)
    width = (x[k + 1] - x[k])[:, None]
    t = (at - x[k])[:, None] / width
    values: Array = (
        (1 + 2 * t) * (1 - t) ** 2 * y[k]
        + t * (1 - t) ** 2 * width * knot[k]
        + t**2 * (3 - 2 * t) * y[k + 1]
        + t**2 * (t - 1) * width * knot[k + 1]
    )
    return values


def polynomial(x: Array, losses: Array, weights: Array, degree: int) -> Array:
    root = np.sqrt(weights)[:, None]
    design = np.vander(x, degree + 1, increasing=True)
    solution: Array = np.linalg.pinv(design * root) @ (losses * root)
    return solution


CURVES: Mapping[CurveModel, Callable[[Array, Array, Array], Minima]] = {
    "parabola": parabola,
    "cubic": cubic,
    "akima": akima,
}
LEAST_SIZES_OF: Mapping[CurveModel, int] = {"parabola": 3, "cubic": 5, "akima": 5}
