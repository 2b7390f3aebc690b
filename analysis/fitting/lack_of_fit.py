"""Lack of fit: the tests of whether a law's residuals are noise, at the least-squares fit that begins at its optimum.

Fisher's F of columns added to the law's tangent is the classical test: columns that name the cells of repeats measure
the law against pure error. The rank version of von Neumann's ratio (Bartels 1982) finds residuals that follow each
other along a variable, whatever their distribution. Legend: n observations, k free parameters, q added columns.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import qr
from scipy.special import betainc

from scaling.analysis.fitting.checks import check
from scaling.analysis.fitting.fit import Fit
from scaling.analysis.fitting.misfit import Loss, pose
from scaling.analysis.fitting.newton import minimise
from scaling.analysis.laws.jet import Array
from scaling.analysis.quantiles import f_tail

EXACT = 1e-6  # of the residual, relative or in scaled units: below, rounding and the search's end are its reason
RANK = 1e-9  # columns that stand out of the others by less than this share of the largest count as none
LEAST_IN_ORDER = 10  # residuals that a rank test takes


@dataclass(frozen=True)
class AddedColumns:
    """Fisher's F of added columns, its degrees of freedom, and the probability of as large an F under the law."""

    F: float
    freedom: float
    noise_freedom: float
    probability: float


@dataclass(frozen=True)
class LeastSquares:
    """A law at its least squares: residuals and tangent, both times the roots of the observations' weights."""

    residuals: Array  # (n,)
    tangent: Array  # (n, k)
    weights: Array  # (n,)

    @property
    def is_exact(self) -> bool:
        """Whether the law passes through all observations, so that no noise is left to test."""
        return bool(np.abs(self.residuals).max() <= EXACT * np.sqrt(self.weights.max()))

    def added(self, columns: Array, share: float = 1.0) -> AddedColumns | None:
        """Return Fisher's F of columns (n, q) beside the tangent; None where they leave no noise, or add nothing.

        `share` is that of independent observations: both degrees of freedom shrink by it.
        """
        law = _span(self.tangent)
        both = _span(np.concatenate([law, columns * np.sqrt(self.weights)[:, None]], axis=1))
        freedom, noise_freedom = both.shape[1] - law.shape[1], len(self.residuals) - both.shape[1]
        if self.is_exact or freedom < 1 or noise_freedom < 1:
            return None
        before, after = (_squares_beside(self.residuals, basis) for basis in (law, both))
        if after <= noise_freedom * EXACT**2 * self.weights.max():  # repeats that are all alike measure no noise
            return None
        F = max(before - after, 0.0) / freedom / (after / noise_freedom)
        freedoms = freedom * share, noise_freedom * share
        return AddedColumns(F, *freedoms, float(f_tail(F, *freedoms)))


def least_squares(
    fit: Fit, x: Mapping[str, ArrayLike], y: ArrayLike, weights: ArrayLike | None = None
) -> LeastSquares | None:
    """Return a fitted law at the least squares nearest its optimum, on the scale of its loss; None without any."""
    law, squares = type(fit.law), Loss("mse", on=fit.loss.on)
    _, columns, observed, weight = check(law, x, y, squares, weights)
    posed = pose(law, columns, observed, squares, weight, fit.origin)
    with np.errstate(all="ignore"):  # a trial may overflow: then worth infinity, and not taken
        ends = minimise(posed, fit.start[None], *posed.bounds, frozen=posed.frozen, smoothing=np.zeros(1))
        residuals, tangent = posed.linearised(ends.q, np.zeros(1, dtype=np.intp))
    free, root = ~(ends.held[0] | posed.frozen), np.sqrt(weight)
    moving = tangent[0][free].T
    if not (np.isfinite(residuals).all() and np.isfinite(moving).all()):
        return None
    return LeastSquares(residuals[0] * root, moving * root[:, None], weight)


def probability_in_order(residuals: Array) -> float | None:
    """Return the probability that noise follows itself as much as residuals in this order (n,); None of too few.

    Ranks' ratio of von Neumann, whose null distribution Bartels 1982 approximates by a beta distribution on 0 to 4.
    """
    n = len(residuals)
    if n < LEAST_IN_ORDER:
        return None
    ranks = pd.Series(residuals).rank().to_numpy(float)
    ratio = float((np.diff(ranks) ** 2).sum() / ((ranks - ranks.mean()) ** 2).sum())
    shape = 5 * n * (n + 1) * (n - 1) ** 2 / (2 * (n - 2) * (5 * n**2 - 2 * n - 9)) - 0.5
    return float(betainc(shape, shape, ratio / 4))


def indicators(labels: NDArray[np.intp]) -> Array:
    """Return a column for every label, 1 at its observations, (n, labels)."""
    return np.asarray(np.unique(labels)[None, :] == labels[:, None], dtype=float)


def _span(columns: Array) -> Array:
    """An orthonormal basis of the span of columns (n, q), each taken at unit length."""
    size = np.linalg.norm(columns, axis=0)
    scaled = columns[:, size > 0] / size[size > 0]
    left, upper, _ = qr(scaled, mode="economic", pivoting=True)
    values = np.abs(np.diag(upper))
    basis: Array = left[:, values > RANK * values.max(initial=0.0)]
    return basis


def _squares_beside(residuals: Array, basis: Array) -> float:
    beside = residuals - basis @ (basis.T @ residuals)
    return float(beside @ beside)
