"""The figure of whole curves: the loss along runs of each schedule, measured and predicted, a panel a family."""

import numpy as np

from scaling.analysis.figures.chart import (
    CATEGORY_COLORS,
    DASHES,
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
    marker,
)
from scaling.analysis.schema.whole_curves import CurveFamily, CurveStudy, PredictedRun
from scaling.analysis.words import count

TITLE = "Whole curves: schedules measured and predicted"
MOST_FAMILIES = 6
SHOWN_BELOW = 0.6  # share of a curve's points from its lowest loss up that the panel shows


def chart(found: CurveStudy) -> Chart | Absent:
    """A panel a family: points measured, lines predicted, held-out schedules filled."""
    families = found["families"]
    if not families:
        return Absent(TITLE, "no two runs differ in their schedule or length alone")
    drawn = [families[k] for k in np.unique(np.linspace(0, len(families) - 1, MOST_FAMILIES).round().astype(int))]
    names = list(dict.fromkeys(run["schedule"] for family in drawn for run in family["runs"]))
    panels = tuple(_panel(family, names) for family in drawn)
    left = f" {len(drawn)} of {len(families)} families are drawn." if len(drawn) < len(families) else ""
    caption = (
        "Points: losses measured, filled where the schedule was held out. Lines: the laws fitted without these "
        f"schedules, annealing solid and multi-power dashed. One run a schedule is drawn.{left}"
    )
    columns = min(len(panels), 2)
    return Chart(TITLE, caption, panels, columns, height=0.9 + 2.6 * -(-len(panels) // columns))


def _panel(family: CurveFamily, names: list[str]) -> Panel:
    marks: list[Mark] = []
    shown: dict[tuple[str, int], PredictedRun] = {}
    for run in family["runs"]:
        shown.setdefault((run["schedule"], run["steps"]), run)
    highest = max(float(np.quantile(run["measured"], SHOWN_BELOW)) for run in shown.values())
    lowest = min(min(run["measured"]) for run in shown.values())
    seen = [
        at for run in shown.values() for at, loss in zip(run["place"], run["measured"], strict=True) if loss <= highest
    ]
    for (schedule, _), run in shown.items():
        k = names.index(schedule)
        color, place = CATEGORY_COLORS[k % len(CATEGORY_COLORS)], array(run["place"])
        held = ", held out" if run["held_out"] else ", fitted"
        marks.append(
            Points(
                place,
                _below(array(run["measured"]), highest),
                color,
                marker(k),
                3.0,
                filled=run["held_out"],
                opacity=0.7,
                label=schedule + held,
                hover=tuple(f"{run['run_id']}\n{schedule}\nloss {one:.4f}" for one in run["measured"]),
            )
        )
        for (name, law), dash in zip(run["laws"].items(), DASHES, strict=False):
            marks.append(
                Line(place, _below(array(law["loss"]), highest), color, dash, 1.1, hover=f"{name}, {schedule}")
            )
    room = 0.05 * (highest - lowest)
    return Panel(
        Axis("steps", limits=extent(array(seen), log=False)),
        Axis(f"{family['measured']} loss, nats per token", limits=(lowest - room, highest + room)),
        tuple(marks),
        f"{count(family['params'])} parameters",
    )


def _below(values: Array, highest: float) -> Array:
    return np.where(values <= highest, values, np.nan)
