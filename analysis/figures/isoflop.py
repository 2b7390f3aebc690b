"""Figures of the isoFLOP study: loss curves by budget with their minima, and the minima by curve model."""

from collections.abc import Mapping, Sequence

import numpy as np

from scaling.analysis.figures.chart import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    RED,
    Absent,
    Axis,
    Chart,
    Line,
    Mark,
    Panel,
    Points,
    array,
    extent,
    marker,
    ordered_colors,
)
from scaling.analysis.figures.elements import (
    NO_STUDY,
    axis_of,
    ends,
    interval_text,
    loss_axis,
    run_texts,
    words_of,
)
from scaling.analysis.isoflop.curve_models import LEAST_SIZES_OF_CUBIC
from scaling.analysis.schema.document import Results
from scaling.analysis.schema.isoflop import CurveModel, EstimateEntry, IsoflopSection
from scaling.analysis.words import count, flops_text, scientific, sentence

ESTIMATORS: Mapping[CurveModel, tuple[str, str, str]] = {  # name in the results -> words, colour, marker
    "parabola": ("parabola", BLUE, "circle"),
    "cubic": ("local cubic", GREEN, "square"),
    "akima": ("Akima spline", PURPLE, "diamond"),
    "mean": ("mean of cubic and Akima", ORANGE, "pentagon"),
    "surface": ("fitted surface", RED, "up"),
}
MINIMUM, EDGE_MINIMUM = "minimum", "minimum on the grid's edge"


def curves(results: Results) -> Chart | Absent:
    """Loss against params, one colour a compute budget, with each curve and its minimum."""
    title = "IsoFLOP curves"
    study = results["isoflop"]
    if study is None:
        return Absent(title, NO_STUDY)
    budgets, used = study["budgets"], study["used"]
    colors = ordered_colors(len(budgets))
    looks = [(colors[k], marker(k), flops_text(budget["budget_flops"])) for k, budget in enumerate(budgets)]
    panel = curves_panel(results, study, looks)
    level = results["settings"]["level"]
    caption = (
        f"Runs grouped by {words_of(results, 'flops')}, the {ESTIMATORS[used][0]} through each group, and "
        f"its minimum (star; bars: {level:.0%} interval). An open star is a minimum on its grid's edge, which no "
        "number rests on. "
        f"{sentence(study['why'])}"
    )
    return Chart(title, caption, (panel,), height=4.2, legend="right" if len(budgets) > 3 else "below")


def curves_panel(
    results: Results,
    study: IsoflopSection,
    looks: Sequence[tuple[str, str, str]],
    title: str = "",
    *,
    in_bits: bool = True,
) -> Panel:
    """Every budget's runs, curve and minimum, with a colour, marker and label a budget, and bits per byte beside."""
    budgets, used = study["budgets"], study["used"]
    marks: list[Mark] = []
    minima: list[Mark] = []
    for budget, (color, shape, label) in zip(budgets, looks, strict=True):
        texts = run_texts(results, budget["observations"])
        marks.append(
            Points(array(budget["params"]), array(budget["loss"]), color, shape, label=label, hover=texts, opacity=0.9)
        )
        estimate = budget["estimates"].get(used)
        if estimate is None:
            continue
        curve = estimate["curve"]
        marks.append(Line(array(curve["params"]), array(curve["loss"]), color, hover=f"{label}\n{ESTIMATORS[used][0]}"))
        minima += _minimum(estimate, color, f"{label}: minimum of the {ESTIMATORS[used][0]}")
    seen = np.concatenate([array(budget["loss"]) for budget in budgets])
    return Panel(
        axis_of(results, "params"),
        loss_axis(results, log=False, limits=extent(seen, log=False, margin=0.06), in_bits=in_bits),
        (*marks, *_keys(minima), *minima),
        title=title,
    )


def _minimum(estimate: EstimateEntry, color: str, words: str) -> list[Mark]:
    params, loss = estimate["params"], estimate["loss"]
    if params["value"] is None or loss["value"] is None:
        return []
    inside = not estimate["edge"]
    text = f"{words}\n{count(params['value'])} parameters {interval_text(params, count)}\nloss {loss['value']:.4f}"
    return [
        Points(
            array([params["value"]]),
            array([loss["value"]]),
            color,
            "star",
            size=8.0,
            filled=inside,
            front=True,
            x_range=ends(params) if inside else None,
            y_range=ends(loss) if inside else None,
            hover=(text,),
            label=MINIMUM if inside else EDGE_MINIMUM,
        )
    ]


def _keys(minima: Sequence[Mark]) -> list[Mark]:
    """Empty black marks, which the legend shows for the minima of all colours."""
    there = {mark.label for mark in minima if isinstance(mark, Points)}
    return [
        Points(array([]), array([]), BLACK, "star", size=8.0, filled=label == MINIMUM, label=label)
        for label in (MINIMUM, EDGE_MINIMUM)
        if label in there
    ]


def estimators(results: Results) -> Chart | Absent:
    """The minimum of every budget by every curve model, side by side."""
    title = "Minima by curve model"
    study = results["isoflop"]
    if study is None:
        return Absent(title, NO_STUDY)
    names = [name for name in ESTIMATORS if any(name in budget["estimates"] for budget in study["budgets"])]
    words = tuple(ESTIMATORS[name][0] for name in names)
    columns = min(2, len(study["budgets"]))
    panels = []
    for k, budget in enumerate(study["budgets"]):
        marks: list[Mark] = []
        for row, name in enumerate(names):
            estimate = budget["estimates"].get(name)
            if estimate is None or estimate["params"]["value"] is None:
                continue
            _, color, shape = ESTIMATORS[name]
            found = estimate["params"]
            text = f"{ESTIMATORS[name][0]}: {count(estimate['params']['value'])} {interval_text(found, count)}"
            marks.append(
                Points(
                    array([found["value"]]),
                    array([row]),
                    color,
                    shape,
                    size=5.5,
                    filled=not estimate["edge"],
                    x_range=ends(found),
                    hover=(text,),
                    front=True,
                )
            )
        grid = array(budget["params"])
        panels.append(
            Panel(
                Axis(
                    "",
                    log=True,
                    limits=(grid.min() / 1.1, grid.max() * 1.1),
                    counts=True,
                ),
                Axis("", limits=(len(names) - 0.5, -0.5), names=words, ticks=k % columns == 0),
                tuple(marks),
                title=f"C = {scientific(budget['budget_flops'])}",
            )
        )
    caption = (
        f"The loss-minimising size at each budget by each curve model, with {results['settings']['level']:.0%} "
        "intervals, over the range of sizes that was trained; open where the minimum lies on the grid's edge. C: "
        f"{words_of(results, 'flops')}. "
        f"Intervals: {study['noise']['words']}."
    )
    if min(len(set(budget["params"])) for budget in study["budgets"]) < LEAST_SIZES_OF_CUBIC:
        caption += " With so few sizes a spline follows every single loss, so its minimum is no check of the others'."
    rows = -(-len(panels) // columns)
    return Chart(title, caption, tuple(panels), columns, 0.6 + 1.25 * rows, below=words_of(results, "params"))
