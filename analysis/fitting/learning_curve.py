"""Learning curves: the recommended laws of one variable fitted to one curve, and their log mean."""

from collections.abc import Mapping
from dataclasses import dataclass

from numpy.typing import ArrayLike

from scaling.analysis.fitting.fit import HUBER, Fit, Loss, fit
from scaling.analysis.laws.jet import Array
from scaling.analysis.laws.log_mean import LEARNING_CURVE_LAWS, LogMean


@dataclass(frozen=True)
class LearningCurve:
    """The fits of the recommended laws, by the laws' names, and their log mean as a function of the variable."""

    fits: Mapping[str, Fit]

    def __call__(self, **x: ArrayLike) -> Array:
        """Return the log mean of the laws at values of the variable, broadcasting."""
        return LogMean(tuple(one.law for one in self.fits.values()))(**x)


def fit_learning_curve(
    x: Mapping[str, ArrayLike], y: ArrayLike, *, loss: Loss = HUBER, weights: ArrayLike | None = None
) -> LearningCurve:
    """Return the recommended laws fitted to one column x (n,) and positive y (n,); ValueError as for `fit`."""
    return LearningCurve({name: fit(name, x, y, loss=loss, weights=weights) for name in LEARNING_CURVE_LAWS})
