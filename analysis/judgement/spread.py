"""A predicted quantity and its interval: the spreads of parameters, of one run's noise and of the form, in logs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scaling.analysis.laws.law import Law
from scaling.analysis.schema.forecast import PredictedQuantity
from scaling.analysis.schema.numbers import number

Array = NDArray[np.float64]
OfLaw = Callable[[Law], ArrayLike]


@dataclass(frozen=True)
class Form:
    """One fitted law of params and tokens, and the law of all its draws: parameters of shape (R, 1); None without."""

    name: str
    point: Law
    draws: Law | None


@dataclass(frozen=True)
class Spread:
    """A quantity at m points with its interval, and the share of each source in the log half-width, (m,) each."""

    value: Array
    low: Array
    high: Array
    parameter: Array
    noise: Array
    form: Array


@np.errstate(all="ignore")  # draws without an optimum are 0, inf or nan, and leave an end without a number
def spread(
    forms: Sequence[Form],
    quantity: OfLaw,
    *,
    also: Sequence[float],
    noise_sd: float,
    factor: float,
    level: float,
    z: float,
) -> Spread:
    """Value of the first form, interval over all: parameter percentiles and noise times `factor`, and the form.

    They add in quadrature. The factor was calibrated without the form's spread, so it does not multiply that.
    `also` holds log gaps to ways that are no law. Without draws the interval is NaN.
    """
    lead, *others = forms
    value = np.atleast_1d(np.asarray(quantity(lead.point), dtype=float))
    middle = np.log(value)
    if lead.draws is None:
        nan = np.full_like(value, np.nan)
        return Spread(value, nan, nan, nan, nan, nan)
    draws = np.log(np.asarray(quantity(lead.draws), dtype=float).reshape(-1, len(value)))
    low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    elsewhere = [np.log(np.atleast_1d(np.asarray(quantity(form.point), dtype=float))) for form in others]
    gaps = np.array([*(other - middle for other in elsewhere), *(np.full_like(middle, gap) for gap in also)])
    form = z * np.sqrt((gaps**2).mean(axis=0)) if len(gaps) else np.zeros_like(value)
    noise = np.full_like(value, z * noise_sd)
    below = np.sqrt(factor**2 * (np.maximum(middle - low, 0) ** 2 + noise**2) + form**2)
    above = np.sqrt(factor**2 * (np.maximum(high - middle, 0) ** 2 + noise**2) + form**2)
    return Spread(value, np.exp(middle - below), np.exp(middle + above), (high - low) / 2, noise, form)


def predicted(found: Spread) -> PredictedQuantity:
    """The first point of a spread as documents hold it."""
    return {
        "value": float(found.value[0]),
        "low": number(found.low[0]),
        "high": number(found.high[0]),
        "parameter": number(found.parameter[0]),
        "noise": number(found.noise[0]),
        "form": number(found.form[0]),
    }
