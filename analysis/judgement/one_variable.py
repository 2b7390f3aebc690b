"""Prediction by a law of one variable: the loss at a size, a token count or a compute, from that alone."""

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from scaling.analysis.judgement.holdout import Z_LEVEL
from scaling.analysis.judgement.spread import Form, Spread, predicted, spread
from scaling.analysis.laws import LAWS
from scaling.analysis.laws.law import Law, build, from_columns
from scaling.analysis.laws.log_mean import LEARNING_CURVE_LAWS, LogMean
from scaling.analysis.schema.document import Results
from scaling.analysis.schema.fits import FittedEntry
from scaling.analysis.schema.forecast import Given, VariablePrediction

MEAN_WORDS = "the log mean of the laws recommended for learning curves"
SYMBOLS: Mapping[Given, str] = {"params": "N", "tokens": "D", "flops": "C"}


def one_variable_fit(results: Results, given: Given) -> FittedEntry | None:
    """The fitted law of one quantity with the lowest AICc; None without any."""
    fitted = [
        entry for entry in results["fits"] if entry["status"] != "refused" and entry["variables"] == [SYMBOLS[given]]
    ]
    return min(fitted, key=lambda entry: np.inf if entry["aicc"] is None else entry["aicc"], default=None)


def learning_curve_fits(results: Results, symbol: str) -> list[FittedEntry]:
    """The fits of the recommended laws of one variable; none unless all of them were fitted."""
    fitted = {entry["law"]: entry for entry in results["fits"] if entry["status"] != "refused"}
    found = [fitted[name] for name in LEARNING_CURVE_LAWS if name in fitted and fitted[name]["variables"] == [symbol]]
    return found if len(found) == len(LEARNING_CURVE_LAWS) else []


def value_of(results: Results, entries: Sequence[FittedEntry], value: float) -> Spread:
    """The log mean of laws of one variable at a value, with the interval of resamples, noise and disagreement."""
    laws = [LAWS[entry["law"]] for entry in entries]
    points = [build(law, entry["params"]) for law, entry in zip(laws, entries, strict=True)]
    drawn = [
        from_columns(law, np.array(entry["draws"]["values"], dtype=float))
        for law, entry in zip(laws, entries, strict=True)
        if entry["draws"]
    ]
    of_draws = LogMean(tuple(drawn)) if len(drawn) == len(laws) else None
    mean = Form("mean", cast(Law, LogMean(tuple(points))), cast("Law | None", of_draws))  # called as a law is
    members = [Form(entry["name"], point, None) for entry, point in zip(entries, points, strict=True)]
    return spread(
        [mean, *(members if len(members) > 1 else ())],
        lambda one: one(x=value),
        also=(),
        noise_sd=max(entry["noise_sd_log"] or 0.0 for entry in entries),
        factor=1.0,
        level=results["settings"]["level"],
        z=Z_LEVEL,
    )


def predict_variable(results: Results, entry: FittedEntry, given: Given, value: float) -> VariablePrediction:
    """The loss at a value of the law's variable, with the interval of its resamples and of one run's noise."""
    symbol = SYMBOLS[given]
    members = learning_curve_fits(results, symbol)
    entries = members or [entry]
    found = value_of(results, entries, value)
    least, most = results["range"][given]
    decades = max(float(np.log10(value / most)), float(np.log10(least / value)), 0.0)
    where = f"{decades:.2f} decades {'beyond' if value > most else 'below'} the data" if decades else "inside the data"
    return {
        "given": {given: value},
        "loss": predicted(found),
        "level": results["settings"]["level"],
        "law": " and ".join(one["name"] for one in entries),
        "decades_beyond": decades,
        "reach_decades": 0.0,
        "calibrated": False,
        "words": f"{where} in {symbol}; the interval is UNCALIBRATED (no roll-out tests a law of one variable)",
        "notes": [MEAN_WORDS] if members else [f"by the {entry['name']} law alone"],
    }
