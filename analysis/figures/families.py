"""Figures of several groups of runs side by side, each group by its own results document.

Losses of different predictions or texts never share an axis; losses of one measure under different treatments do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from scaling.analysis.figures.chart import (
    CATEGORY_COLORS,
    Absent,
    Array,
    Axis,
    Chart,
    Line,
    Mark,
    Panel,
    Points,
    array,
    extent,
    limits,
    marker,
    ordered_colors,
)
from scaling.analysis.figures.elements import NO_STUDY, axis_of, interval_text, law_in_use
from scaling.analysis.figures.isoflop import ESTIMATORS, curves_panel
from scaling.analysis.runs.budgets import distinct, nearest
from scaling.analysis.schema.document import Results
from scaling.analysis.schema.isoflop import EstimateEntry, IsoflopSection
from scaling.analysis.words import count, flops_text, percent, scientific

Parts = Mapping[str, Results]  # by the group's name
Grown = Literal["params", "tokens", "loss"]

MOST_COLUMNS = 3
GROWTH: Mapping[Grown, str] = {
    "params": "N*",
    "tokens": "D*",
    "loss": "loss, as a share of the group's own first",
}


@dataclass(frozen=True)
class TrustedMinimum:
    """A minimum that the laws in compute go through."""

    flops: float
    estimate: EstimateEntry

    def value(self, quantity: Grown) -> float:
        """The quantity at the minimum."""
        found = self.estimate[quantity]["value"]
        assert found is not None
        return found


def curves(parts: Parts) -> Chart | Absent:
    """A panel a group, with its own loss axis: runs, isoFLOP curves and minima, one colour a budget throughout."""
    one_axis = one_measure(parts)
    title = "IsoFLOP curves, all on one loss axis" if one_axis else "IsoFLOP curves, each group on its own loss axis"
    studied = {name: study for name, results in parts.items() if (study := results["isoflop"]) is not None}
    if not studied:
        return Absent(title, NO_STUDY)
    shared = shared_budgets(studied)
    colors = ordered_colors(len(shared))
    panels = []
    for name, study in studied.items():
        places = [nearest(budget["budget_flops"], shared) for budget in study["budgets"]]
        looks = [(colors[k], marker(k), f"{scientific(shared[k], 2)} FLOPs") for k in places]
        panels.append(curves_panel(parts[name], study, looks, title=name, in_bits=False))
    if one_axis:
        lows, highs = zip(*(limits(panel, "y") for panel in panels), strict=True)
        panels = [replace(panel, y=replace(panel.y, limits=(min(lows), max(highs)))) for panel in panels]
    without = [name for name in parts if name not in studied]
    how = {ESTIMATORS[study["used"]][0] for study in studied.values()}
    axes = (
        "One panel a group, all with one loss axis, since these losses measure the same thing."
        if one_axis
        else "One panel a group, each with a loss axis of its own, since these losses measure different things: "
        "compare where the minima lie and how they move, not how low."
    )
    caption = (
        f"{axes} Curves: {' or '.join(sorted(how))}; stars: minima; an "
        "open star lies on its grid's edge, and no number rests on it."
        + (f" Not drawn, without budgets of enough sizes: {', '.join(without)}." if without else "")
    )
    columns = min(len(panels), MOST_COLUMNS)
    rows = -(-len(panels) // columns)
    return Chart(title, caption, tuple(panels), columns, height=0.7 + 3.0 * rows)


def growth(parts: Parts) -> Chart | Absent:
    """The quantities that groups may be compared by, against compute: N*, D*, and each loss as a share of its first."""
    title = "How the optimum moves with compute"
    found = {name: own for name, results in parts.items() if (own := trusted_minima(results))}
    if not found:
        return Absent(title, "no group has a minimum that a law in compute may go through")
    first = parts[next(iter(found))]
    panels = []
    for quantity, label in GROWTH.items():
        marks: list[Mark] = []
        for k, (name, minima) in enumerate(found.items()):
            color = CATEGORY_COLORS[k % len(CATEGORY_COLORS)]
            marks += _law(parts[name], minima, quantity, color) + _minima(name, minima, quantity, color, marker(k))
        log = quantity != "loss"
        shown = np.concatenate([mark.y for mark in marks if isinstance(mark, Points)] or [np.array([0.9, 1.0])])
        panels.append(
            Panel(
                axis_of(first, "flops"),
                Axis(label, log=log, limits=extent(shown, log=log, margin=0.35 if log else 0.1), counts=log),
                tuple(marks),
            )
        )
    caption = (
        f"Minima inside their grids with {first['settings']['level']:.0%} intervals, and the power laws through them; "
        "a minimum without an interval is not drawn. N* and D* count alike in every group. The loss at the optimum is "
        "divided by that of the same group at its smallest budget drawn: its fall is compared, its height is not."
    )
    return Chart(title, caption, tuple(panels), len(panels), height=3.4)


def one_measure(parts: Parts) -> bool:
    """Whether every group's loss measures the same thing, so that they may share an axis."""
    first = next(iter(parts.values()))["comparison"]
    return first is not None and set(first["treatments"]) == set(parts)


def shared_budgets(studied: Mapping[str, IsoflopSection]) -> list[float]:
    """The compute of every budget of any group, FLOPs, ascending."""
    return distinct(budget["budget_flops"] for study in studied.values() for budget in study["budgets"])


def trusted_minima(results: Results) -> list[TrustedMinimum]:
    """The minima in use that the laws in compute go through, ascending."""
    study = results["isoflop"]
    if study is None:
        return []
    used = study["used"]
    budgets = [study["budgets"][k] for k in study["laws"][used]["params"]["budgets"]]
    return [TrustedMinimum(budget["budget_flops"], budget["estimates"][used]) for budget in budgets]


def _minima(name: str, minima: Sequence[TrustedMinimum], quantity: Grown, color: str, shape: str) -> list[Mark]:
    if quantity == "loss" and len(minima) < 2:
        return []  # nothing to be compared with
    values = array([one.value(quantity) for one in minima])
    unit = values[0] if quantity == "loss" else 1.0
    ends = [one.estimate[quantity] for one in minima]
    texts = tuple(
        f"{name}, {flops_text(one.flops)}\n"
        + (
            f"{percent(value / unit - 1)} of its loss at {flops_text(minima[0].flops)}"
            if quantity == "loss"
            else f"{count(value)} {interval_text(one.estimate[quantity], count)}"
        )
        for one, value in zip(minima, values, strict=True)
    )
    within = None if quantity == "loss" else (array([one["low"] for one in ends]), array([one["high"] for one in ends]))
    flops = array([one.flops for one in minima])
    return [
        Points(flops, values / unit, color, shape, 5.0, label=name, hover=texts, y_range=within, front=True),
    ]


def _law(results: Results, minima: Sequence[TrustedMinimum], quantity: Grown, color: str) -> list[Mark]:
    law = law_in_use(results["isoflop"], quantity)
    if law is None:
        return []
    at: Array = np.geomspace(minima[0].flops, minima[-1].flops, 31)
    unit = minima[0].value("loss") if quantity == "loss" else 1.0
    return [Line(at, (law["floor"] + law["coefficient"] * at ** law["exponent"]) / unit, color, width=1.2)]
