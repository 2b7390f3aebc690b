"""The figure of a search over learning rate: the loss at each cell with its parabola, its minimum, the law's choice."""

import numpy as np

from scaling.analysis.figures.chart import (
    BLUE,
    GREEN,
    GREY,
    RED,
    Absent,
    Array,
    Axis,
    Chart,
    Line,
    Mark,
    Panel,
    Points,
    Rule,
    Span,
    array,
)
from scaling.analysis.schema.tuning import JudgedCell, TuneResults
from scaling.analysis.words import count, flops_text

TITLE = "Loss against learning rate, by size and budget"
SHOWN_ABOVE = 0.25  # nats above a panel's lowest loss: points beyond do not bear on the minimum


def chart(document: TuneResults) -> Chart | Absent:
    """One panel a cell, a row a budget; all of a row on one scale of loss."""
    cells = document["cells"]
    budgets = sorted({cell["budget_flops"] for cell in cells})
    rows = [sorted((c for c in cells if c["budget_flops"] == b), key=lambda c: c["params"]) for b in budgets]
    if not any(point["loss"] is not None for cell in cells for point in cell["points"]):
        return Absent(TITLE, "every run diverged")
    columns = max(map(len, rows))
    panels: list[Panel | None] = []
    for row in rows:
        panels += [*(_panel(cell) for cell in row), *([None] * (columns - len(row)))]
    noise = document["noise_nats"]
    caption = " ".join(
        [
            "Each panel is one size at one budget. The star is the minimum of the parabola through the lowest loss and "
            f"its neighbours, the grey band its {document['level']:.0%} interval (Fieller 1954)",
            *([f"from the {noise:.2g} nats by which losses near it scatter"] if noise is not None else []),
        ]
    )
    return Chart(TITLE, caption + ".", tuple(panels), columns, height=0.9 + 2.1 * len(rows))


def _panel(cell: JudgedCell) -> Panel:
    found = cell["learning_rate"]
    arm = [point for point in cell["points"] if point["arm"] == "learning_rate"]
    known = [point for point in arm if point["loss"] is not None]
    x, y = array([p["learning_rate"] for p in known]), array([p["loss"] for p in known])
    low, high = _limits(np.append(y, found["curve"]["loss"] if found["curve"] else []))
    rates = array([p["learning_rate"] for p in arm])
    ends = (float(rates.min()) / 1.5, float(rates.max()) * 1.5)
    marks: list[Mark] = []
    if found["low"] is not None and found["high"] is not None:
        marks.append(Span(max(found["low"], ends[0]), min(found["high"], ends[1]), "interval of the minimum"))
    marks.append(Rule(found["recipe"], True, GREY, "dot", "recipe searched from"))
    marks.append(Rule(found["law"], True, GREEN, "dash", "law fitted to the minima"))
    if found["curve"] is not None:
        marks.append(Line(array(found["curve"]["x"]), _inside(found["curve"]["loss"], high), BLUE, label="parabola"))
    shown = y <= high
    texts = tuple(f"{p['run_id']}\nlearning rate {p['learning_rate']:.3g}\nloss {p['loss']:.4f}" for p in known)
    hover = tuple(text for text, inside in zip(texts, shown, strict=True) if inside)
    marks.append(Points(x[shown], y[shown], BLUE, hover=hover, label="run"))
    top = high - 0.04 * (high - low)
    above = x[~shown]
    if len(above):
        marks.append(Points(above, np.full(len(above), top), BLUE, "up", filled=False, label="run above the axis"))
    diverged = array([p["learning_rate"] for p in arm if p["loss"] is None])
    if len(diverged):
        marks.append(Points(diverged, np.full(len(diverged), top), RED, "cross", label="diverged"))
    if found["value"] is not None and found["curve"] is not None:
        at = np.interp(found["value"], found["curve"]["x"], found["curve"]["loss"])
        marks.append(Points(array([found["value"]]), array([at]), RED, "star", 6.0, label="minimum", front=True))
    title = f"{count(cell['params'])} parameters, {flops_text(cell['budget_flops'])}"
    return Panel(
        Axis("learning rate", log=True, limits=ends),
        Axis("loss, nats per token", limits=(low, high)),
        tuple(marks),
        title,
    )


def _limits(losses: Array) -> tuple[float, float]:
    if not len(losses):
        return 0.0, 1.0
    low = float(losses.min())
    room = max(min(float(losses.max()) - low, SHOWN_ABOVE), 1e-3)
    return low - 0.12 * room, low + 1.12 * room


def _inside(values: list[float], high: float) -> Array:
    found = array(values)
    return np.where(found <= high, found, np.nan)
