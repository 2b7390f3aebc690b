"""Figures of the loss: the leading law's surface over params and tokens, and loss against each variable."""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from scaling.analysis.figures.chart import (
    BLACK,
    BLUE,
    ORANGE,
    PALE,
    RED,
    Absent,
    Array,
    Chart,
    Line,
    Mark,
    Panel,
    Points,
    Words,
    array,
    extent,
)
from scaling.analysis.figures.elements import (
    NO_SURFACE,
    axis_of,
    banded,
    interval_text,
    law_in_use,
    leading_fit,
    loss_axis,
    runs_by_budget,
    thinned_words,
    words_of,
)
from scaling.analysis.schema.document import Results
from scaling.analysis.schema.fits import FittedEntry
from scaling.analysis.words import count, flops_text

CONTOURS = 9
VARIABLES: Mapping[str, Literal["params", "tokens", "flops"]] = {"N": "params", "D": "tokens", "C": "flops"}


def contours(results: Results) -> Chart | Absent:
    """Iso-loss contours of the leading law in (params, tokens), with the runs and the efficient frontier."""
    title = "Loss surface"
    entry = leading_fit(results)
    surface = entry["surface"] if entry else None
    if entry is None or surface is None:
        return Absent(title, NO_SURFACE)
    params, tokens = array(surface["params"]), array(surface["tokens"])
    marks = _contour_lines(params, tokens, array(surface["loss"]))
    marks += _frontier(results, entry)
    marks += runs_by_budget(results, "params", "tokens")
    marks += _target(results)
    panel = Panel(
        axis_of(results, "params", _reach(results, params, "params")),
        axis_of(results, "tokens", _reach(results, tokens, "tokens")),
        tuple(marks),
    )
    caption = (
        f"Grey: lines of equal loss ({words_of(results, 'loss')}) of the {entry['name']} law. Red: where each loss "
        f"costs the least {words_of(results, 'flops')}. Dots: the runs, dark to pale by budget; grey: in no "
        "budget." + thinned_words(results)
    )
    return Chart(title, caption, (panel,), height=4.6)


def _contour_lines(params: Array, tokens: Array, loss: Array) -> list[Mark]:
    from contourpy import contour_generator

    marks: list[Mark] = []
    finder = contour_generator(np.log(params), np.log(tokens), loss.T)
    lows = np.log([params[0], tokens[0]])
    inset = 0.05 * np.log([params[-1] / params[0], tokens[-1] / tokens[0]])
    highs = lows + inset / 0.05 - inset
    levels = _levels(loss)
    decimals = next((d for d in range(6) if all(round(one, d) == one for one in levels)), 6)
    for level in levels:
        lines = [np.asarray(line) for line in finder.lines(level)]
        for line in lines:
            marks.append(Line(np.exp(line[:, 0]), np.exp(line[:, 1]), PALE, width=0.8, hover=f"loss {level:g}"))
        inner = [line[((line > lows + inset) & (line < highs)).all(axis=1)] for line in lines]
        inner = [line for line in inner if len(line)]
        if inner:
            longest = max(inner, key=len)
            x, y = longest[np.argmax(longest[:, 0])]
            marks.append(Words(float(np.exp(x)), float(np.exp(y)), f"{level:.{decimals}f}"))
    return marks


def _levels(loss: Array) -> list[float]:
    """Round losses, closer together where the surface is flat: about CONTOURS of them."""
    known = loss[np.isfinite(loss)]
    wanted = np.quantile(known, np.linspace(0.02, 0.96, CONTOURS))
    levels = set()
    for level, gap in zip(wanted, np.gradient(wanted), strict=True):
        unit = 10.0 ** np.floor(np.log10(max(gap, 1e-6)))
        step = unit * max(digit for digit in (1, 2, 5) if digit * unit <= max(gap, 1e-6) * 1.0001)
        levels.add(round(float(round(level / step) * step), 9))
    return sorted(levels)


def _frontier(results: Results, entry: FittedEntry) -> list[Mark]:
    optimum = entry["optimum"]
    if optimum is None:
        return []
    x, y, flops = (array(one) for one in (optimum["params"]["value"], optimum["tokens"]["value"], optimum["flops"]))
    inside = flops <= results["range"]["flops"][1] * 1.0001
    return [
        Line(
            x,
            y,
            RED,
            "dot",
            width=1.6,
            label="efficient frontier, extrapolated",
            hover="efficient frontier, extrapolated",
        ),
        Line(
            np.where(inside, x, np.nan),
            np.where(inside, y, np.nan),
            RED,
            width=2.0,
            label="efficient frontier",
            hover="efficient frontier",
        ),
    ]


def _reach(results: Results, grid: Array, name: Literal["params", "tokens"]) -> tuple[float, float]:
    """The surface's own range, and the target's interval unless that is farther than the data are wide."""
    target = results["forecast"]["at_target"]
    far = (target[name]["high"] or target[name]["value"]) * 1.2 if target else grid[-1]
    return float(grid[0]), float(far if grid[-1] < far < grid[-1] ** 2 / grid[0] else grid[-1])


def _target(results: Results) -> list[Mark]:
    target = results["forecast"]["at_target"]
    if not target:
        return []
    params, tokens = target["params"], target["tokens"]
    text = (
        f"optimum at {flops_text(target['flops'])}\n"
        f"{count(params['value'])} parameters {interval_text(params, count)}\n"
        f"{count(tokens['value'])} tokens {interval_text(tokens, count)}"
    )
    return [
        Points(
            array([params["value"]]),
            array([tokens["value"]]),
            ORANGE,
            "star",
            size=9.0,
            front=True,
            hover=(text,),
            label=f"optimum at the target, {flops_text(target['flops'])}",
            x_range=(array([params["low"]]), array([params["high"]])),
            y_range=(array([tokens["low"]]), array([tokens["high"]])),
        )
    ]


def loss_laws(results: Results) -> Chart | Absent:
    """Loss against params, tokens and compute on log axes, with the optimum's path and every law of one variable."""
    title = "Loss against parameters, tokens and compute"
    entry = leading_fit(results)
    seen = array(results["observations"]["loss"])
    if not any(results["range"][name] for name in VARIABLES.values()):
        return Absent(title, "the runs have neither parameters nor tokens nor compute")
    if not (seen > 0).all():
        return Absent(title, "a loss is not positive, and the axes are logarithmic")
    panels: list[Panel] = []
    for variable, name in VARIABLES.items():
        if not results["range"][name]:  # a quantity that the source lacks
            continue
        marks = runs_by_budget(results, name, "loss")
        marks += _optimum_path(entry, name)
        marks += _isoflop_loss(results) if name == "flops" else []
        marks += _one_variable(results, variable)
        shown = extent(array(results["range"][name]), log=True, margin=0.06)
        losses = extent(seen, log=True, margin=0.05)
        last = name == [one for one in VARIABLES.values() if results["range"][one]][-1]
        y = loss_axis(results, limits=losses, labelled=not panels, in_bits=last)
        panels.append(Panel(axis_of(results, name, shown), y, tuple(marks)))
    caption = (
        "Every run, dark to pale by budget (grey: in none), with the path of the compute-optimal allocation: the "
        "lowest loss to be had for each compute, against its size, tokens and FLOPs. Both axes are logarithmic."
        + _curveless_words(results)
        + thinned_words(results)
    )
    return Chart(title, caption, tuple(panels), len(panels), height=3.3)


def _curveless_words(results: Results) -> str:
    names = [
        entry["name"]
        for entry in results["fits"]
        if len(entry["variables"]) == 1 and entry["status"] != "refused" and not entry.get("curve")
    ]
    return f" Not drawn, as the results hold no curve of it: {', '.join(names)}." if names else ""


def _optimum_path(entry: FittedEntry | None, name: Literal["params", "tokens", "flops"]) -> list[Mark]:
    optimum = entry["optimum"] if entry else None
    if entry is None or optimum is None:
        return []
    label = f"{entry['name']} law along its optimum"
    if name == "flops":
        return banded(array(optimum["flops"]), optimum["loss"], RED, "solid", label)
    return [Line(array(optimum[name]["value"]), array(optimum["loss"]["value"]), RED, label=label, hover=label)]


def _isoflop_loss(results: Results) -> list[Mark]:
    law = law_in_use(results["isoflop"], "loss")
    if law is None:
        return []
    return banded(array(law["band"]["flops"]), law["band"], BLUE, "dash", "law through the isoFLOP minima")


def _one_variable(results: Results, variable: str) -> list[Mark]:
    marks: list[Mark] = []
    for entry in results["fits"]:
        curve = entry.get("curve")
        if entry["variables"] == [variable] and curve:
            marks += banded(array(curve["x"]), curve, BLACK, "dashdot", f"{entry['name']} law")
    return marks
