"""What several figures take from a results document: axes, the leading fit, runs, lines with their bands."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.figures.chart import (
    GREY,
    MOST_POINTS,
    Array,
    Axis,
    Band,
    Line,
    Mark,
    Points,
    Results,
    array,
    marker,
    ordered_colors,
    thin,
)
from analysis.words import count, flops_text

NO_STUDY = "no compute budget holds enough runs of different sizes; `notes` in the results say what was found"
NO_SURFACE = "no law of parameters and tokens was fitted"


def words_of(results: Results, name: str) -> str:
    """The convention and unit of a quantity, for an axis."""
    return str(results["conventions"][name])


def axis_of(results: Results, name: str, limits: tuple[float, float] | None = None) -> Axis:
    """The logarithmic axis of params, tokens or flops, named by its convention."""
    return Axis(words_of(results, name), log=True, limits=limits, counts=name in ("params", "tokens"))


def leading_fit(results: Results) -> Results | None:
    """The fit that the forecast rests on, or the first of params and tokens that was not refused."""
    forms = results["forecast"]["forms"]
    fits: dict[str, Results] = {entry["name"]: entry for entry in results["fits"] if entry["status"] != "refused"}
    if forms and forms[0] in fits:
        return fits[forms[0]]
    return next((entry for entry in fits.values() if set(entry["variables"]) == {"N", "D"}), None)


def used_rows(results: Results, entry: Results) -> NDArray[np.intp]:
    """Positions in the observations of a fit's residuals."""
    rows = results["observations"]["row"]
    if entry.get("rows") is None:
        return np.arange(len(rows))
    place = {row: k for k, row in enumerate(rows)}
    return np.array([place[row] for row in entry["rows"] if row in place], dtype=np.intp)


def run_texts(results: Results, rows: Sequence[int] | NDArray[np.intp]) -> tuple[str, ...]:
    """What a pointer over a run says, a line each: name, params, tokens, flops, loss."""
    runs = results["observations"]
    return tuple(
        f"{runs['run_id'][k]}\n{count(runs['params'][k])} parameters\n{count(runs['tokens'][k])} tokens\n"
        f"{flops_text(runs['flops'][k])}\nloss {runs['loss'][k]:.4f}"
        for k in rows
    )


def thinned_words(results: Results) -> str:
    """A sentence for a caption where not every run is drawn."""
    total = len(results["observations"]["row"])
    return f" {MOST_POINTS:,} of {total:,} runs are drawn, evenly through the table." if total > MOST_POINTS else ""


def runs_by_budget(results: Results, x: str, y: str, *, labels: bool = False) -> list[Mark]:
    """The runs at two of their columns, one colour and marker a budget, grey in none."""
    runs = results["observations"]
    budgets = (results["isoflop"] or {}).get("budgets", [])
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


def banded(x: Array, band: Mapping[str, Any], color: str, dash: str, label: str) -> list[Mark]:
    """A line with its interval."""
    value = array(band["value"])
    low, high = array(band["low"], value), array(band["high"], value)
    marks: list[Mark] = []
    if np.isfinite(low).any():
        marks.append(Band(x, low, high, color))
    return [*marks, Line(x, value, color, dash, label=label, hover=label)]


def ends(one: Mapping[str, Any]) -> tuple[Array, Array]:
    """A single point's interval, as arrays."""
    return array([one["low"]]), array([one["high"]])
