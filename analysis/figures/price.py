"""Figures of the price of models: loss against each price with its Pareto front, and the optimum with tokens served."""

from typing import Literal

import numpy as np

from scaling.analysis.figures.chart import (
    BLACK,
    BLUE,
    CATEGORY_COLORS,
    GREY,
    PALE,
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
    array,
    extent,
    marker,
)
from scaling.analysis.figures.elements import banded, words_of
from scaling.analysis.schema import intervals
from scaling.analysis.schema.document import Results
from scaling.analysis.schema.prices import PriceFront, PriceMeasure, PriceName
from scaling.analysis.words import count, flops_text, number

# A panel a price, in the order of a model's life.
PANELS: tuple[PriceName, ...] = ("train_flops", "bytes", "memory", "prefill", "token")
COLUMNS = 3
# Quantities drawn against tokens served, with label and colour.
SERVED: tuple[tuple[Literal["params", "tokens"], str, str], ...] = (("params", "N*", BLUE), ("tokens", "D*", RED))


def prices(results: Results) -> Chart | Absent:
    """Loss against training FLOPs, stored bytes, memory and latency, a panel each, with Pareto fronts."""
    title = "Loss against what it costs"
    found = results.get("prices")
    if found is None:
        return Absent(title, "fewer than two of these runs have a profile; `scaling profile runs/STUDY` measures them")
    shown = [name for name in PANELS if name in found["measures"]]
    panels = tuple(
        _panel(name, found["measures"][name], found["run_id"], "" if k % COLUMNS else words_of(results, "loss"))
        for k, name in enumerate(shown)
    )
    words = found["words"]
    elsewhere = found["elsewhere"]
    caption = (
        "Lines: Pareto fronts, the lowest loss that each price buys. bf16 and int8: the loss of the weights read back "
        f"from that format. Seconds and memory: {found['machine']}. Prefill: {words['prefill']}. A token: "
        f"{words['token']}."
        + (f" {elsewhere} runs were profiled on another machine; theirs are left out." if elsewhere else "")
    )
    rows = -(-len(panels) // COLUMNS)
    empty = (None,) * (rows * COLUMNS - len(panels)) if len(panels) > COLUMNS else ()
    return Chart(title, caption, (*panels, *empty), min(COLUMNS, len(panels)), height=0.9 + 2.5 * rows)


def _panel(name: PriceName, measure: PriceMeasure, runs: list[str], label: str) -> Panel:
    marks: list[Mark] = [_staircase(measure["front"])]
    for k, (series, own) in enumerate(measure["series"].items()):
        price, loss = array(own["price"]), array(own["loss"])
        spell = flops_text if name == "train_flops" else number if name in ("prefill", "token") else count
        marks.append(
            Points(
                price,
                loss,
                CATEGORY_COLORS[k],
                marker(k),
                4.2,
                label=series if series else "",
                hover=tuple(
                    f"{run}\n{spell(x)}\nloss {y:.4f}" if np.isfinite(x) and np.isfinite(y) else run
                    for run, x, y in zip(runs, price, loss, strict=True)
                ),
                front=True,
            )
        )
    counts = name in ("bytes", "memory")
    return Panel(Axis(measure["label"], log=True, counts=counts), Axis(label), tuple(marks))


def _staircase(front: PriceFront) -> Line:
    """The front as steps: the lowest loss at a price holds until a dearer run has a lower one."""
    price, loss = array(front["price"]), array(front["loss"])
    x, y = np.repeat(price, 2)[1:], np.repeat(loss, 2)[:-1]
    return Line(x, y, BLACK, width=1.2, label="Pareto front")


def serving(results: Results) -> Chart | Absent:
    """The cheapest N and D of one loss, and their saving, against tokens served."""
    title = "Cheapest model when served tokens are paid for"
    found = results.get("serving")
    if found is None:
        return Absent(title, "no fitted law of parameters and tokens has a compute optimum")
    x = array(found["served"])
    usual = found["usual"]
    panels = []
    for name, label, color in SERVED:
        at = usual[name]
        marks: list[Mark] = [
            Rule(at, dash="dash", label="training-optimal"),
            *banded(x, found[name], color, "solid", f"{label}, serving included"),
        ]
        limits = extent(_shown(found[name], at), log=True, margin=0.08)
        panels.append(
            Panel(_served_axis(), Axis(words_of(results, name), log=True, limits=limits, counts=True), tuple(marks))
        )
    saving = found["saving"]
    share: intervals.Band = {
        "value": _percent(saving["value"]),
        "low": None if saving["low"] is None else _percent(saving["low"]),
        "high": None if saving["high"] is None else _percent(saving["high"]),
    }
    marks = [Rule(0.0, color=PALE), *banded(x, share, GREY, "solid", "saved of training and serving")]
    panels.append(Panel(_served_axis(), Axis("saved of the total, %", limits=_within(share)), tuple(marks)))
    caption = (
        f"For a loss of {found['loss']:.4g} nats per token, that of the {found['law']} law's optimum at "
        f"{flops_text(found['flops'])}: {found['words']}. Bands: {results['settings']['level']:.0%} intervals of the "
        "law's parameters alone. Far right lie ratios of tokens to parameters that no run here has seen "
        f"({number(results['range']['tokens_per_param'][0])} to {number(results['range']['tokens_per_param'][1])})."
    )
    return Chart(title, caption, tuple(panels), len(panels), height=3.2)


def _percent(shares: list[float | None]) -> list[float | None]:
    return [None if share is None else 100 * share for share in shares]


def _within(share: intervals.Band) -> tuple[float, float]:
    low, high = extent(_shown(share, 0.0), log=False)
    return low, min(high, 102.0)


def _served_axis() -> Axis:
    return Axis("tokens served", log=True, counts=True)


def _shown(band: intervals.Band, rule: float) -> Array:
    value = array(band["value"])
    found = np.concatenate([value, array(band["low"], value), array(band["high"], value), [rule]])
    shown: Array = found[np.isfinite(found)]
    return shown
