"""Treatments on one loss axis: the loss at their optima against compute, and differences at equal cells."""

from collections.abc import Mapping

import numpy as np

from scaling.analysis.figures.chart import (
    CATEGORY_COLORS,
    GREY,
    Absent,
    Axis,
    Band,
    Chart,
    Line,
    Mark,
    Panel,
    Points,
    Rule,
    array,
    extent,
    marker,
    ordered_colors,
)
from scaling.analysis.figures.elements import axis_of, interval_text, words_of
from scaling.analysis.schema.document import Results
from scaling.analysis.schema.treatments import TreatmentEntry, TreatmentPair
from scaling.analysis.words import count, flops_text, scientific

TITLE = "Treatments at equal compute"


def treatments(results: Results) -> Chart | Absent:
    """One line a treatment; beside it, a panel a pair, every shape's difference at every budget."""
    found = results["comparison"]
    if found is None:
        return Absent(TITLE, "all these runs were treated alike")
    paired = [pair for pair in found["pairs"] if pair["difference"]["cells"]]
    panels = [*_losses(results, found["treatments"]), *(_differences(results, pair) for pair in paired)]
    if not panels:
        return Absent(TITLE, "no treatment has an isoFLOP minimum, and no two share a shape at one budget")
    caption = (
        f"{' '.join(pair['verdict'] for pair in found['pairs'])} Loss: minima of each one's own isoFLOP parabolas "
        f"with {found['level']:.0%} intervals and the power law through them; an open marker lies on its grid's edge, "
        "and no law goes through it. Differences: at one shape and budget; below zero the first on the axis is better. "
        "Each treatment is judged with the learning rate that its recipe gives it, tuned for it or not."
    )
    columns = min(len(panels), 2)
    return Chart(TITLE, caption, tuple(panels), columns, height=0.5 + 3.1 * -(-len(panels) // columns))


def _losses(results: Results, parts: Mapping[str, TreatmentEntry]) -> list[Panel]:
    marks: list[Mark] = []
    for k, (name, one) in enumerate(parts.items()):
        marks += _treatment(name, one, CATEGORY_COLORS[k % len(CATEGORY_COLORS)], marker(k))
    points = [mark for mark in marks if isinstance(mark, Points)]
    if not points:
        return []
    shown = np.concatenate([np.concatenate([mark.y, *(mark.y_range or ())]) for mark in points])
    compute = np.concatenate([mark.x for mark in points])
    x = axis_of(results, "flops", extent(compute, log=True, margin=0.08))
    return [Panel(x, Axis(words_of(results, "loss"), log=True, limits=extent(shown, log=True)), tuple(marks))]


def _treatment(name: str, one: TreatmentEntry, color: str, shape: str) -> list[Mark]:
    marks: list[Mark] = []
    known = [budget for budget in one["budgets"] if budget["value"] is not None]
    law = one["law"]
    if law["exponent"] is not None:
        flops = array(law["band"]["flops"])
        used = [one["budgets"][k]["flops"] for k in law["budgets"]]
        drawn = (flops >= 0.8 * min(used)) & (flops <= 1.25 * max(used))
        value = array(law["band"]["value"])
        if law["band"]["low"] is not None:
            low, high = array(law["band"]["low"]), array(law["band"]["high"], value)
            marks.append(Band(flops[drawn], low[drawn], high[drawn], color))
        marks.append(Line(flops[drawn], value[drawn], color, hover=name))
    for inside in (True, False):
        own = [budget for budget in known if (not budget["edge"]) == inside]
        if not own:
            continue
        texts = tuple(
            f"{name}, {flops_text(b['flops'])}\nloss at the optimum {b['value']:.4f} "
            f"{interval_text(b, lambda value: f'{value:.4f}')}"
            for b in own
        )
        low, high = (array([b[end] for b in own]) for end in ("low", "high"))
        label = name if inside else f"{name}, on its grid's edge"
        x, y = array([b["flops"] for b in own]), array([b["value"] for b in own])
        between = (low, high) if inside else None
        marks.append(Points(x, y, color, shape, 5.0, inside, label=label, hover=texts, y_range=between, front=True))
    return marks


def _differences(results: Results, pair: TreatmentPair) -> Panel:
    first, second = pair["names"]
    cells, mean = pair["cells"], pair["difference"]["mean_nats"]
    flops, params, difference = (array(one) for one in (cells["flops"], cells["params"], cells["difference"]))
    marks: list[Mark] = [Rule(0.0, color=GREY)]
    budgets = np.unique(flops)
    for k, (budget, color) in enumerate(zip(budgets, ordered_colors(len(budgets)), strict=True)):
        own = flops == budget
        texts = tuple(
            f"{count(n)} parameters, {flops_text(budget)}\n{second} − {first}: {d:+.4f} nats".replace("-", "−")
            for n, d in zip(params[own], difference[own], strict=True)
        )
        look = (color, marker(k), 4.5)
        label = f"{scientific(budget, 2)} FLOPs"
        marks.append(Line(params[own], difference[own], color, width=0.9, opacity=0.6, hover=label))
        marks.append(Points(params[own], difference[own], *look, label=label, hover=texts, front=True))
    if mean is not None:
        marks.append(Rule(mean, dash="dash", label="mean over cells"))
    y = Axis(f"loss of {second} − {first}, nats")
    return Panel(axis_of(results, "params"), y, tuple(marks))
