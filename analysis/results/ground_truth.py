"""The check against known exponents: slices of the runs, fitted laws and isoFLOP minima beside the source's own law.

The runs of the most tokens give the exponent in N, those of the largest model the exponent in D: each is the slope of
the log of the loss above the known floor, with Student's interval of a regression. Where loss = floor + A / N^a
+ B / D^b bounds the larger term alone, as it does for associations, the sum is no exact law of the whole grid; the
slices and the powers of compute, N* ~ C^(b / (a + b)) and L* ~ C^(-a b / (a + b)), hold all the same.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from scaling.analysis.quantiles import t_quantile
from scaling.analysis.runs.observations import Observations
from scaling.analysis.schema.fits import Draws, FitEntry
from scaling.analysis.schema.ground_truth import GroundTruthSection, KnownExponent
from scaling.analysis.schema.intervals import NO_ENDS, Ends, Quantity
from scaling.analysis.schema.isoflop import IsoflopSection
from scaling.analysis.words import listed

Array = NDArray[np.float64]

COLUMNS = ("floor_nats", "params", "tokens", "least_loss_nats")  # after "truth."
LEAST_SLICE = 4  # sizes, or token counts, of a slice
SAME = 0.01  # relative difference of tokens that the rounding to whole batches explains
EXPONENTS: Mapping[str, tuple[Sequence[str], Sequence[str]]] = {  # factors of a law's exponents in N and in D
    "chinchilla": (["alpha"], ["beta"]),
    "gamma": (["alpha", "gamma"], ["beta", "gamma"]),
    "power_mean": (["alpha"], ["beta"]),
    "kaplan": (["alpha_N"], ["alpha_D"]),
}


def ground_truth_section(
    observations: Observations, fits: Sequence[FitEntry], isoflop: IsoflopSection | None, level: float
) -> GroundTruthSection | None:
    """The check; None where the runs are not all on sources of one known law."""
    table = observations.table
    names = [f"truth.{name}" for name in COLUMNS]
    if not set(names) <= set(table.columns) or table[names].isna().any(axis=None) or table[names].nunique().max() > 1:
        return None
    floor, a, b, least = (float(table[name].iloc[0]) for name in names)
    exponents = [*_slices(observations, floor, (a, b), level), *_laws(fits, (a, b), level), *_minima(isoflop, (a, b))]
    return {
        "law": f"loss = {floor:g} + A / N^{a:.4g} + B / D^{b:.4g} in its two limits",
        "floor": floor,
        "least_loss": least,
        "exponents": exponents,
        "words": _words(exponents),
    }


def _slices(
    observations: Observations, floor: float, known: tuple[float, float], level: float
) -> Iterator[KnownExponent]:
    from scipy.stats import linregress  # slow to import, and of few studies

    params, tokens, loss = (observations.column(name) for name in ("params", "tokens", "loss"))
    longest, largest = tokens >= tokens.max() * (1 - SAME), params == params.max()
    for symbol, x, rows, own, where in (
        ("N", params, longest, known[0], f"at {tokens.max():.3g} tokens"),
        ("D", tokens, largest, known[1], f"at {params.max():.3g} parameters"),
    ):
        rows = rows & (loss > floor)
        if len(np.unique(x[rows])) < LEAST_SLICE:
            continue
        line = linregress(np.log(x[rows]), np.log(loss[rows] - floor))
        half = float(line.stderr * t_quantile((1 + level) / 2, rows.sum() - 2))
        value = -float(line.slope)
        ends: Ends = {"low": value - half, "high": value + half}
        yield _entry(f"loss against {symbol}", f"{rows.sum()} runs {where}", own, value, ends)


def _laws(fits: Sequence[FitEntry], known: tuple[float, float], level: float) -> Iterator[KnownExponent]:
    for entry in fits:
        if entry["status"] == "refused" or entry["law"] not in EXPONENTS:
            continue
        for symbol, factors, own in zip("ND", EXPONENTS[entry["law"]], known, strict=True):
            values = np.array([entry["params"][name] for name in factors], dtype=float)
            if np.isfinite(values).all():
                ends = _ends(entry["draws"], factors, level)
                yield _entry(f"loss against {symbol}", f"the {entry['name']} law of all runs", own, values.prod(), ends)


def _ends(draws: Draws | None, factors: Sequence[str], level: float) -> Ends:
    """Percentiles of a product of parameters over the resamples."""
    if draws is None or not draws["values"]:
        return NO_ENDS
    rows = np.array(draws["values"], dtype=float)
    products = rows[:, [draws["names"].index(name) for name in factors]].prod(axis=1)
    low, high = np.nanquantile(products, [(1 - level) / 2, (1 + level) / 2])
    return {"low": float(low), "high": float(high)}


def _minima(isoflop: IsoflopSection | None, known: tuple[float, float]) -> Iterator[KnownExponent]:
    if isoflop is None:
        return
    a, b = known
    laws = isoflop["laws"][isoflop["used"]]
    known_of: dict[Quantity, tuple[str, float]] = {"params": ("N*", b / (a + b)), "loss": ("L*", -a * b / (a + b))}
    for name, (symbol, own) in known_of.items():
        law = laws[name]
        if law["exponent"] is not None:
            ends: Ends = law["interval"] or NO_ENDS
            yield _entry(f"{symbol} against C", "the isoFLOP minima", own, law["exponent"], ends)


def _entry(quantity: str, by: str, known: float, value: float, ends: Ends) -> KnownExponent:
    low, high = ends["low"], ends["high"]
    inside = None if low is None or high is None else bool(low <= known <= high)
    return {
        "quantity": quantity,
        "by": by,
        "known": known,
        "value": float(value),
        "low": low,
        "high": high,
        "inside": inside,
    }


def _words(exponents: Sequence[KnownExponent]) -> str:
    judged = [one for one in exponents if one["inside"] is not None]
    if not judged:
        return "no exponent with an interval: the known law is not checked"
    missed = [f"{one['quantity']} by {one['by']}" for one in judged if not one["inside"]]
    held = f"{len(judged) - len(missed)} of {len(judged)} intervals hold the known exponent"
    return held + (f"; outside: {listed(missed)}" if missed else "")
