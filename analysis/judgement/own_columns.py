"""Prediction at values of a law's own columns: the loss, or the law's own output, there."""

from collections.abc import Mapping

import numpy as np

from scaling.analysis.judgement.holdout import Z_LEVEL
from scaling.analysis.judgement.one_variable import MEAN_WORDS, learning_curve_fits, value_of
from scaling.analysis.judgement.spread import predicted
from scaling.analysis.laws import LAWS
from scaling.analysis.laws.law import build, from_columns
from scaling.analysis.schema.document import Results
from scaling.analysis.schema.fits import FittedEntry
from scaling.analysis.schema.forecast import ColumnPrediction
from scaling.analysis.schema.numbers import number


def predict_columns(results: Results, at: Mapping[str, float]) -> list[ColumnPrediction]:
    """Predict by every fitted law whose variables are exactly those given, in the document's order.

    ValueError, in one line, for values that are not finite and where no law has these variables.
    """
    for name, value in at.items():
        if not np.isfinite(value):
            raise ValueError(f"--at {name}={value:g}: give a finite number")
    (only,) = at if len(at) == 1 else ("",)
    fitted = [entry for entry in results["fits"] if entry["status"] != "refused"]
    found = [_predicted(results, entry, at) for entry in fitted if set(entry["variables"]) == set(at)]
    if not found:
        known = "; ".join(f"{entry['name']} takes {', '.join(entry['variables'])}" for entry in fitted)
        raise ValueError(f"no fitted law takes just {', '.join(at)}: {known or 'these results hold no fit'}")
    curve = learning_curve_fits(results, only)
    return [_mean(results, curve, at), *found] if curve else found


def _mean(results: Results, curve: list[FittedEntry], at: Mapping[str, float]) -> ColumnPrediction:
    """The log mean of the recommended laws of one variable."""
    own = _predicted(results, curve[0], at)
    one = predicted(value_of(results, curve, *at.values()))
    name = f"{MEAN_WORDS}: {', '.join(entry['name'] for entry in curve)}"
    return {**own, "law": name, "value": one["value"], "low": one["low"], "high": one["high"]}


@np.errstate(all="ignore")  # far from its runs a law may overflow, and an interval then has no end
def _predicted(results: Results, entry: FittedEntry, at: Mapping[str, float]) -> ColumnPrediction:
    """One law's value, with the interval of its resamples and of one run's noise."""
    law, level, draws = LAWS[entry["law"]], results["settings"]["level"], entry["draws"]
    x = {own: at[given] for own, given in zip(law.variables, entry["variables"], strict=True)}
    value = float(np.asarray(build(law, entry["params"])(**x)))
    low = high = np.nan
    if draws:
        values = np.asarray(from_columns(law, np.array(draws["values"], dtype=float))(**x), dtype=float).ravel()
        least, most = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
        low, high = _with_noise(entry, value, float(least), float(most))
    outside = [
        f"{name} = {given:.4g} lies outside the {ends[0]:.4g} to {ends[1]:.4g} that the data hold"
        for name, given in at.items()
        if (ends := entry.get("columns", {}).get(name)) is not None and not ends[0] <= given <= ends[1]
    ]
    return {
        "given": dict(at),
        "law": entry["name"],
        "output": entry.get("output", "loss"),
        "value": value,
        "low": number(low),
        "high": number(high),
        "level": level,
        "words": "the interval is UNCALIBRATED (no roll-out tests a law of these columns)" if draws else "no resamples",
        "notes": outside,
    }


def _with_noise(entry: FittedEntry, value: float, low: float, high: float) -> tuple[float, float]:
    """The ends with one run's noise added in quadrature: by factors where the fit is, else by differences."""
    if entry["loss"]["on"] == "log":
        noise = Z_LEVEL * (entry["noise_sd_log"] or 0.0)
        below, above = np.hypot(np.log(value / low), noise), np.hypot(np.log(high / value), noise)
        return float(value * np.exp(-below)), float(value * np.exp(above))
    noise = Z_LEVEL * (entry.get("noise_sd") or 0.0)
    return float(value - np.hypot(value - low, noise)), float(value + np.hypot(high - value, noise))


def describe_columns(predicted: ColumnPrediction) -> str:
    """A prediction in one line."""
    ends = predicted["low"], predicted["high"]
    interval = "[no interval]" if None in ends else f"[{ends[0]:.4g}, {ends[1]:.4g}]"
    found = f"{predicted['output']} {predicted['value']:.4g} {interval} by {predicted['law']}"
    return "; ".join([found, predicted["words"], *predicted["notes"]])
