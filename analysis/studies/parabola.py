"""The minimum of a measured curve in one setting, with its interval: a parabola in the setting's logarithm."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from scaling.analysis.quantiles import t_quantile

Array = NDArray[np.float64]

NEAREST = 5  # points about the lowest that the parabola goes through: further off, losses rise faster than a square
LEAST = 3
# A point's weight: one over the squares of a seed's worth of noise and of this share of its height above the lowest,
# where a learning-rate curve is no parabola any more. Assumed; the noise itself is measured on the points.
NEAR_NATS, SHARE_OF_EXCESS = 3e-3, 0.25


@dataclass(frozen=True)
class Curve:
    """Losses at rising logarithms of a setting, and the parabola c + b u + a u² through the lowest of them, where
    u = log setting - centre; coefficients are NaN where fewer than three losses are known.
    """

    x: Array  # (n,) log of the setting, the runs that have a loss
    loss: Array  # (n,) nats
    limit: float | None  # log of the lowest setting that diverged above the best one
    centre: float
    coefficients: Array  # (3,) c, b, a
    spread: Array  # (3, 3) their covariance for noise of 1 nat in every loss
    squares: float  # of the weighted residuals, nats²
    expected: float  # of `squares`, for noise of 1 nat
    variance: float  # of `squares` for such noise, halved

    @property
    def curved(self) -> bool:
        """Whether the parabola has a minimum at all."""
        return bool(self.coefficients[2] > 0)

    @property
    def at(self) -> float:
        """Log of the setting at the minimum; NaN without one."""
        return self.centre - self.coefficients[1] / (2 * self.coefficients[2]) if self.curved else float("nan")

    @property
    def edge(self) -> Literal["low", "high", ""]:
        """The side on which the search must go on; empty where the minimum lies among the settings tried."""
        if len(self.x) < 2:
            return "low" if self.limit is not None else ""
        lowest = int(self.loss.argmin())
        if lowest == 0 or self.at <= self.x[0]:
            return "low"
        if lowest == len(self.x) - 1 or self.at >= self.x[-1]:
            return "" if self.limit is not None else "high"
        return ""

    @property
    def bounded(self) -> bool:
        """Whether the minimum lies strictly among the settings tried."""
        return self.curved and bool(self.x[0] < self.at < self.x[-1])

    def standard_error(self, noise: float) -> float:
        """The standard error of the minimum's log setting, by the delta method; `noise` in nats, of `pooled_noise`."""
        _, b, a = self.coefficients
        slope = np.array([0.0, -1 / (2 * a), b / (2 * a**2)])
        return float(noise * np.sqrt(slope @ self.spread @ slope))

    def interval(self, noise: float, freedom: float, level: float) -> tuple[float, float] | None:
        """Log settings between which the parabola's slope may be zero (Fieller 1954); None when unbounded.

        Unlike the delta method's, this interval has no end where the curvature itself may be zero.
        """
        _, b, a = self.coefficients
        t2 = float(t_quantile((1 + level) / 2, freedom)) ** 2 * noise**2
        v_bb, v_ab, v_aa = self.spread[1, 1], self.spread[1, 2], self.spread[2, 2]
        # (b + 2au)² <= t² var(b + 2au), a quadratic in u.
        p, q, r = 4 * (a**2 - t2 * v_aa), 4 * (a * b - t2 * v_ab), b**2 - t2 * v_bb
        if not (self.curved and p > 0):
            return None
        root = np.sqrt(max(q**2 - 4 * p * r, 0.0))
        return self.centre + (-q - root) / (2 * p), self.centre + (-q + root) / (2 * p)


def fit_curve(settings: Sequence[float], losses: Sequence[float | None]) -> Curve:
    """Fit the parabola to the lowest loss and its nearest neighbours; a loss of None is a run that diverged."""
    order = np.argsort(settings, kind="stable")
    x_all = np.log(np.array(settings, dtype=float)[order])
    y_all = np.array([np.nan if losses[i] is None else losses[i] for i in order], dtype=float)
    known = np.isfinite(y_all)
    x, y = x_all[known], y_all[known]
    best = x[y.argmin()] if len(x) else -np.inf
    above = x_all[~known & (x_all > best)]
    limit = float(above.min()) if len(above) else None
    if len(np.unique(x)) < LEAST:
        nothing = np.full(3, np.nan)
        return Curve(x, y, limit, 0.0, nothing, np.full((3, 3), np.nan), 0.0, 0.0, 0.0)
    near = np.argsort(abs(x - best), kind="stable")[:NEAREST]
    centre = float(x[near].mean())
    design = np.vander(x[near] - centre, 3, increasing=True)
    weights = 1 / (1 + (SHARE_OF_EXCESS / NEAR_NATS * (y[near] - y.min())) ** 2)
    solve = np.linalg.inv(design.T @ (design * weights[:, None])) @ design.T * weights  # losses to coefficients
    coefficients = solve @ y[near]
    squares = float((weights * (y[near] - design @ coefficients) ** 2).sum())
    # The weights are no claim about the noise, which every loss has alike: its effect on the fit follows from them.
    residual = np.eye(len(near)) - design @ solve
    form = residual.T @ (residual * weights[:, None])
    spare = len(near) > 3
    moments = (float(np.trace(form)), float(np.trace(form @ form))) if spare else (0.0, 0.0)
    return Curve(x, y, limit, centre, coefficients, solve @ solve.T, squares, *moments)


def pooled_noise(curves: Sequence[Curve]) -> tuple[float, float]:
    """Standard deviation of a loss about its parabola near the minimum, nats, and its degrees of freedom.

    Over all curves, by moments (Satterthwaite 1946). The spread holds seed noise and the misfit of a parabola; (NaN, 0)
    when no curve has a point to spare.
    """
    expected = sum(curve.expected for curve in curves)
    if not expected:
        return np.nan, 0.0
    noise = float(np.sqrt(sum(curve.squares for curve in curves) / expected))
    return noise, expected**2 / sum(curve.variance for curve in curves)
