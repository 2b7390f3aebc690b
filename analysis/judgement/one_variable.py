"""Prediction by a law of one variable: the loss at a size, a token count or a compute, from that alone."""

from collections.abc import Mapping

import numpy as np

from scaling.analysis.judgement.holdout import Z_LEVEL
from scaling.analysis.judgement.spread import Form, predicted, spread
from scaling.analysis.laws import LAWS
from scaling.analysis.laws.law import build, from_columns
from scaling.analysis.schema.document import Results
from scaling.analysis.schema.fits import FittedEntry
from scaling.analysis.schema.forecast import Given, VariablePrediction

SYMBOLS: Mapping[Given, str] = {"params": "N", "tokens": "D", "flops": "C"}


def one_variable_fit(results: Results, given: Given) -> FittedEntry | None:
    """The fitted law of one quantity with the lowest AICc; None without any."""
    fitted = [
        entry for entry in results["fits"] if entry["status"] != "refused" and entry["variables"] == [SYMBOLS[given]]
    ]
    return min(fitted, key=lambda entry: np.inf if entry["aicc"] is None else entry["aicc"], default=None)


def predict_variable(results: Results, entry: FittedEntry, given: Given, value: float) -> VariablePrediction:
    """The loss at a value of the law's variable, with the interval of its resamples and of one run's noise."""
    law, symbol = LAWS[entry["law"]], SYMBOLS[given]
    draws = entry["draws"]
    drawn = from_columns(law, np.array(draws["values"], dtype=float)) if draws else None
    found = spread(
        [Form(entry["name"], build(law, entry["params"]), drawn)],
        lambda one: one(**{law.variables[0]: value}),
        also=(),
        noise_sd=entry["noise_sd_log"] or 0.0,
        factor=1.0,
        level=results["settings"]["level"],
        z=Z_LEVEL,
    )
    least, most = results["range"][given]
    decades = max(float(np.log10(value / most)), float(np.log10(least / value)), 0.0)
    where = f"{decades:.2f} decades {'beyond' if value > most else 'below'} the data" if decades else "inside the data"
    return {
        "given": {given: value},
        "loss": predicted(found),
        "level": results["settings"]["level"],
        "law": entry["name"],
        "decades_beyond": decades,
        "reach_decades": 0.0,
        "calibrated": False,
        "words": f"{where} in {symbol}; the interval is UNCALIBRATED (no roll-out tests a law of one variable)",
        "notes": [f"by the {entry['name']} law alone"],
    }
