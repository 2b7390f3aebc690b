"""Elements of several figures: axes, the leading fit, runs, lines with their bands, intervals in words."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from scaling.analysis.figures.chart import (
    GREY,
    MOST_POINTS,
    Array,
    Axis,
    Band,
    Line,
    Mark,
    Points,
    array,
    marker,
    ordered_colors,
    thin,
)
from scaling.analysis.schema import intervals
from scaling.analysis.schema.document import Results, RunQuantity
from scaling.analysis.schema.fits import FittedEntry
from scaling.analysis.schema.intervals import Ends, Quantity
from scaling.analysis.schema.isoflop import IsoflopSection, PowerLawEntry
from scaling.analysis.words import count, flops_text

NO_STUDY = "no compute budget holds enough runs of different sizes; `notes` in the results state what was found"
NO_SURFACE = "no law of parameters and tokens was fitted"


def words_of(results: Results, name: RunQuantity) -> str:
    """The convention and unit of a quantity, for an axis."""
    return results["conventions"][name]


def axis_of(results: Results, name: RunQuantity, limits: tuple[float, float] | None = None) -> Axis:
    """The logarithmic axis of params, tokens or flops, named by its convention."""
    return Axis(words_of(results, name), log=True, limits=limits, counts=name in ("params", "tokens"))


def loss_axis(
    results: Results,
    *,
    log: bool = True,
    limits: tuple[float, float] | None = None,
    labelled: bool = True,
    in_bits: bool = True,
) -> Axis:
    """The axis of the runs' loss, with bits per byte on its other side where all runs have as many bytes to a token."""
    factor = bits_of(results) if in_bits else None
    other = None if factor is None else ("bits per byte", factor)
    return Axis(words_of(results, "loss") if labelled else "", log=log, limits=limits, other=other)


def bits_of(results: Results) -> float | None:
    """Bits per byte of a nat per token; None where the runs do not state it, or not the same one."""
    ratio = results.get("bytes_per_token")
    return None if ratio is None else 1 / (math.log(2) * ratio)


def leading_fit(results: Results) -> FittedEntry | None:
    """The fit that the forecast rests on, or the first of params and tokens that was not refused."""
    forms = results["forecast"]["forms"]
    fits = {entry["name"]: entry for entry in results["fits"] if entry["status"] != "refused"}
    if forms and forms[0] in fits:
        return fits[forms[0]]
    return next((entry for entry in fits.values() if set(entry["variables"]) == {"N", "D"}), None)


def law_in_use(study: IsoflopSection | None, quantity: Quantity) -> PowerLawEntry | None:
    """The power law of a quantity through the minima in use; None without one."""
    laws = study["laws"].get(study["used"]) if study is not None else None
    law = laws[quantity] if laws is not None else None
    return None if law is None or law["exponent"] is None else law


def used_rows(results: Results, entry: FittedEntry) -> NDArray[np.intp]:
    """Positions in the observations of a fit's residuals."""
    rows, used = results["observations"]["row"], entry.get("rows")
    if used is None:
        return np.arange(len(rows))
    place = {row: k for k, row in enumerate(rows)}
    return np.array([place[row] for row in used if row in place], dtype=np.intp)


def run_texts(results: Results, rows: Sequence[int] | NDArray[np.intp]) -> tuple[str, ...]:
    """The words of a pointer over a run, a line each: name, params, tokens, flops, loss."""
    runs = results["observations"]

    def text(k: int | np.intp) -> str:
        params, tokens, flops = (runs[name][k] for name in ("params", "tokens", "flops"))
        counts = [
            "" if params is None else f"{count(params)} parameters\n",
            "" if tokens is None else f"{count(tokens)} tokens\n",
            "" if flops is None else f"{flops_text(flops)}\n",
        ]
        return f"{runs['run_id'][k]}\n{''.join(counts)}loss {runs['loss'][k]:.4f}"

    return tuple(text(k) for k in rows)


def thinned_words(results: Results) -> str:
    """A sentence for a caption where not every run is drawn."""
    total = len(results["observations"]["row"])
    return f" {MOST_POINTS:,} of {total:,} runs are drawn, evenly through the table." if total > MOST_POINTS else ""


def runs_by_budget(results: Results, x: RunQuantity, y: RunQuantity, *, labels: bool = False) -> list[Mark]:
    """The runs at two of their columns, one colour and marker a budget, grey in none."""
    runs, study = results["observations"], results["isoflop"]
    budgets = study["budgets"] if study is not None else []
    drawn = thin(len(runs["row"]))
    number_of = np.array([-1 if k is None else k for k in runs["budget"]])
    xs, ys = array(runs[x]), array(runs[y])
    marks: list[Mark] = []
    for k, color in zip([-1, *range(len(budgets))], [GREY, *ordered_colors(len(budgets))], strict=True):
        rows = drawn[number_of[drawn] == k]
        if len(rows) == 0:
            continue
        label = "" if not labels else "in no budget" if k < 0 else flops_text(budgets[k]["budget_flops"])
        shape = "circle" if k < 0 else marker(k)
        marks.append(
            Points(
                xs[rows],
                ys[rows],
                color,
                shape,
                3.2,
                opacity=0.45 if k < 0 else 0.85,
                label=label,
                hover=run_texts(results, rows),
            )
        )
    return marks


def banded(x: Array, band: intervals.Band, color: str, dash: str, label: str) -> list[Mark]:
    """A line with its interval."""
    value = array(band["value"])
    low, high = array(band["low"], value), array(band["high"], value)
    marks: list[Mark] = []
    if np.isfinite(low).any():
        marks.append(Band(x, low, high, color))
    return [*marks, Line(x, value, color, dash, label=label, hover=label)]


def ends(one: Ends) -> tuple[Array, Array]:
    """A single point's interval, as arrays."""
    return array([one["low"]]), array([one["high"]])


def interval_text(one: Ends, spell: Callable[[float], str]) -> str:
    """An interval in words, or the words that there is none."""
    if one["low"] is None or one["high"] is None:
        return "(no interval)"
    return f"({spell(one['low'])} to {spell(one['high'])})"
