"""Figures of training curves: by model size, and the envelope of the lowest loss at each compute."""

from typing import Literal

import numpy as np

from scaling.analysis.figures.chart import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PALE,
    RED,
    Absent,
    Axis,
    Chart,
    ColorScale,
    Line,
    Mark,
    Panel,
    Points,
    array,
    extent,
)
from scaling.analysis.figures.elements import axis_of, banded, law_in_use, words_of
from scaling.analysis.schema.document import Results
from scaling.analysis.words import count, flops_text

AXES: tuple[Literal["flops", "tokens"], ...] = ("flops", "tokens")
NO_CURVES = "the source holds no training curves, only final losses"


def curves(results: Results) -> Chart | Absent:
    """Training loss against compute and tokens, coloured by model size."""
    title = "Training curves"
    found = results["curves"]
    if not found:
        return Absent(title, NO_CURVES)
    sizes = [curve["params"] for curve in found]
    scale = ColorScale(words_of(results, "params"), min(sizes), max(sizes))
    panels = []
    for name in AXES:
        marks: list[Mark] = []
        for curve in found:
            color, text = (
                scale.color(curve["params"]),
                f"{curve['run_id']}\n{count(curve['params'])} parameters",
            )
            marks.append(Line(array(curve[name]), array(curve["loss"]), color, width=0.8, opacity=0.8, hover=text))
        for curve in found:
            scored = array(curve["val_loss"])
            if np.isfinite(scored).any():
                last = int(np.flatnonzero(np.isfinite(scored))[-1])
                text = f"{curve['run_id']}\nvalidation loss {scored[last]:.4f}"
                marks.append(
                    Points(
                        array(curve[name])[[last]],
                        scored[[last]],
                        scale.color(curve["params"]),
                        size=4.2,
                        front=True,
                        label="validation loss at the end",
                        hover=(text,),
                    )
                )
        y = Axis(loss_words(results) if name == "flops" else "", log=True)
        panels.append(Panel(axis_of(results, name), y, tuple(marks)))
    caption = f"{len(found)} runs, thinned evenly in log compute; dark to pale by size."
    return Chart(title, caption, tuple(panels), 2, height=3.6, scale=scale)


def envelope(results: Results) -> Chart | Absent:
    """The lowest loss that any curve reaches at each compute, and the size of the run that reaches it."""
    title = "Envelope of the training curves"
    found = results["envelope"]
    if found is None:
        why = NO_CURVES if not results["curves"] else "too few runs are under way at the same compute"
        return Absent(title, why)
    flops, loss, params = array(found["flops"]), array(found["loss"]), array(found["params"])
    interior = np.array(found["interior"], dtype=bool)
    texts = tuple(
        f"{run}\n{flops_text(c)}\n{count(n)} parameters\nloss {y:.4f}"
        for run, c, n, y in zip(found["run_id"], flops, params, loss, strict=True)
    )
    left: list[Mark] = [
        Line(array(curve["flops"]), array(curve["loss"]), PALE, width=0.6, opacity=0.7, hover=curve["run_id"])
        for curve in results["curves"]
    ]
    right: list[Mark] = []
    for kept, color, filled, label in (
        (interior, BLUE, True, "lowest loss, a middle size"),
        (~interior, ORANGE, False, "lowest loss, the smallest or largest under way"),
    ):
        if not kept.any():
            continue
        hover = tuple(np.array(texts, dtype=object)[kept].tolist())
        shape = "circle" if filled else "square"
        left.append(Points(flops[kept], loss[kept], color, shape, 3.4, filled, label=label, hover=hover, front=True))
        right.append(Points(flops[kept], params[kept], color, shape, 3.4, filled, label=label, hover=hover, front=True))
    hull = np.array(found["hull"], dtype=int)
    left.append(Line(flops[hull], loss[hull], BLACK, "dash", width=1.2, label="lower hull of log loss"))
    ends = np.array([flops.min(), flops.max()])
    for (name, law), color, dash in zip(found["laws"].items(), (BLUE, GREEN), ("solid", "dashdot"), strict=False):
        interval = law["interval"]
        words = f" ({interval['low']:.2f} to {interval['high']:.2f})" if interval else ""
        label = f"{name}: N* ∝ C^{law['exponent']:.2f}{words}"
        right.append(Line(ends, law["coefficient"] * ends ** law["exponent"], color, dash, label=label, hover=label))
    through = law_in_use(results["isoflop"], "params")
    if through is not None:
        right += banded(array(through["band"]["flops"]), through["band"], RED, "dot", "isoFLOP minima, for comparison")
    y = extent(np.concatenate([loss, *(array(curve["loss"]) for curve in results["curves"])]), log=True)
    panels = (
        Panel(
            axis_of(results, "flops", extent(flops, log=True)),
            Axis(loss_words(results), log=True, limits=y),
            tuple(left),
        ),
        Panel(
            axis_of(results, "flops", extent(flops, log=True)),
            axis_of(results, "params", extent(params, log=True, margin=0.3)),
            tuple(right),
        ),
    )
    caption = " ".join(
        ["The lowest loss of any run in bins of compute (Hoffmann et al. 2022, approach 1), and which size reached it."]
        + [f"{warning[:1].upper()}{warning[1:]}." for warning in found["warnings"]]
    )
    return Chart(title, caption, panels, 2, height=4.0)


def loss_words(results: Results) -> str:
    """The loss of a training curve, for an axis: the training loss where the runs' own is a validation loss."""
    return words_of(results, "loss").replace("validation", "training")
