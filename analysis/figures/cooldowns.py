"""The figure of trunks and their cooldowns: runs of one size and recipe that leave one trunk at several lengths."""

import numpy as np

from scaling.analysis.figures.chart import (
    BLACK,
    GREY,
    Absent,
    Array,
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
from scaling.analysis.figures.elements import axis_of, words_of
from scaling.analysis.figures.training import NO_CURVES, loss_words
from scaling.analysis.schema.curves import CurveEntry
from scaling.analysis.schema.document import Results
from scaling.analysis.words import count

TITLE = "Trunks and their cooldowns"
MOST_TRUNKS = 6
CONSTANT = 0.995  # share of a run's peak rate at and above which its cooldown has not begun
WARM_UP = 0.05  # share of a trunk's tokens, which the axis of the loss leaves out


def cooldowns(results: Results) -> Chart | Absent:
    """Loss against tokens of each trunk and of the cooldowns that leave it, with the learning rate below."""
    found = trunks(results["curves"])
    if not found:
        why = "no two runs leave one trunk at different lengths (`hydra.sweeper.branches=true` plans such runs)"
        return Absent(TITLE, why if results["curves"] else NO_CURVES)
    shown = [
        found[k] for k in np.unique(np.linspace(0, len(found) - 1, min(len(found), MOST_TRUNKS)).round().astype(int))
    ]
    sizes = [branches[0]["params"] for branches in shown]
    scale = ColorScale(words_of(results, "params"), min(sizes), max(sizes))
    above: list[Mark] = [_key("trunk, before its cooldowns", GREY, 0.8), _key("cooldown", BLACK, 1.8)]
    below: list[Mark] = []
    losses: list[Array] = []
    for branches in shown:
        color = scale.color(branches[0]["params"])
        for k, curve in enumerate(branches):
            kept, leaves = _parts(curve)
            tokens, loss, rate = (array(curve[name]) for name in ("tokens", "loss", "learning_rate"))
            losses.append(loss[tokens >= WARM_UP * branches[0]["tokens"][-1]])
            text = f"{curve['run_id']}\n{count(curve['params'])} parameters\n{count(tokens[-1])} tokens"
            if k == 0:  # the longest, whose first steps are the trunk
                above.append(Line(tokens[kept], loss[kept], color, width=0.7, opacity=0.75, hover=text))
                below.append(Line(tokens[kept], rate[kept], color, width=0.9, hover=text))
            above.append(Line(tokens[leaves], loss[leaves], color, width=1.8, hover=text))
            below.append(Line(tokens[leaves], rate[leaves], color, width=1.8, hover=text))
        ends = _ends(branches, color)
        losses += [mark.y for mark in ends]
        above += ends
    farthest = max(branches[0]["tokens"][-1] for branches in shown)
    first = min(curve["tokens"][int(np.argmax(array(curve["tokens"]) > 0))] for branches in shown for curve in branches)
    x = (min(first * 4, farthest / 30), farthest * 1.15)
    panels = (
        Panel(
            Axis("", log=True, limits=x, ticks=False, counts=True),
            Axis(loss_words(results), log=True, limits=extent(np.concatenate(losses), log=True)),
            tuple(above),
        ),
        Panel(axis_of(results, "tokens", x), Axis("learning rate"), tuple(below)),
    )
    whose = f"{len(shown)} trunk{'s' if len(shown) > 1 else f', {count(sizes[0])} parameters'}"
    if len(shown) < len(found):
        whose += f" (of {len(found)}, evenly by size)"
    caption = (
        f"{sum(map(len, shown))} runs of {whose}: each cooldown starts from its trunk's "
        "weights and ends in a run of its own (Hägele et al. 2024). Lines: training loss; points: "
        "validation loss at the end."
    )
    return Chart(TITLE, caption, panels, 1, 5.2, (2.4, 1.0), scale=scale if len(shown) > 1 else None, matrix=True)


def trunks(curves: list[CurveEntry]) -> list[list[CurveEntry]]:
    """The curves of each trunk that runs of two lengths or more leave, longest first; trunks by rising size.

    Runs of one length, seeds of a stack among them, count once.
    """
    by_trunk: dict[str, dict[float, CurveEntry]] = {}
    for curve in curves:
        if "trunk" in curve and curve["tokens"] and _cools(curve):
            by_trunk.setdefault(curve["trunk"], {}).setdefault(curve["tokens"][-1], curve)
    several = [[of[length] for length in sorted(of, reverse=True)] for of in by_trunk.values() if len(of) > 1]
    return sorted(several, key=lambda branches: branches[0]["params"])


def _cools(curve: CurveEntry) -> bool:
    """Whether the learning rate is known and ends below its peak."""
    rate = array(curve.get("learning_rate", []))
    known = rate[np.isfinite(rate)]
    return len(known) > 0 and bool(known[-1] < CONSTANT * known.max())


def _parts(curve: CurveEntry) -> tuple[slice, slice]:
    """The points of a curve on its trunk, and those of its cooldown, which share the last one at a constant rate."""
    rate = array(curve.get("learning_rate", []))
    leaves = int(np.flatnonzero(rate >= CONSTANT * np.nanmax(rate))[-1])
    return slice(0, leaves + 1), slice(leaves, None)


def _ends(branches: list[CurveEntry], color: str) -> list[Points]:
    """The validation loss at the end of every run of a trunk."""
    found = []
    for curve in branches:
        scored = array(curve["val_loss"])
        known = np.flatnonzero(np.isfinite(scored))
        if len(known):
            found.append(
                (curve["tokens"][known[-1]], scored[known[-1]], f"{curve['run_id']}\nloss {scored[known[-1]]:.4f}")
            )
    if not found:
        return []
    tokens, losses, texts = zip(*found, strict=True)
    label = "validation loss at the end"
    return [Points(array(tokens), array(losses), color, size=4.6, front=True, label=label, hover=texts)]


def _key(label: str, color: str, width: float) -> Line:
    """A line without points, which the legend shows for lines of all colours."""
    return Line(array([]), array([]), color, width=width, label=label)
