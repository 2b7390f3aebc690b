"""Figures that judge an answer: roll-outs, the multiverse of defensible choices, influence of single runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from scaling.analysis.figures.chart import (
    BLACK,
    BLUE,
    CATEGORY_COLORS,
    DASHES,
    GREY,
    RED,
    Absent,
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
from scaling.analysis.figures.elements import words_of
from scaling.analysis.results.run_words import run_words
from scaling.analysis.schema.document import Results
from scaling.analysis.schema.judgement import CHOICES, ChoicesSection, Predicted, PredictionScore, RefitEntry
from scaling.analysis.words import bounded, count, flops_text, number, percent

MOST_INFLUENTIAL = 15


@dataclass(frozen=True)
class Scored:
    """A panel of roll-outs: one score of one predicted quantity."""

    quantity: Predicted
    score: Literal["rmse", "bias", "coverage"]
    label: str


SCORED = (
    Scored("loss", "rmse", "rms error, %"),
    Scored("loss", "bias", "bias, %"),
    Scored("loss", "coverage", "inside the interval, %"),
    Scored("params", "bias", "error of N*, %"),
)


def rollout(results: Results) -> Chart | Absent:
    """The predictions of every law, fitted to the smaller budgets, for the larger: error, bias, coverage, and N*."""
    title = "Roll-out: small budgets predict large ones"
    holdout = results["holdout"]
    if holdout is None or not holdout["predictions"]:
        why = (
            "no hold-out was asked for"
            if results["settings"]["holdout"] is None
            else "no budgets could be held out and scored"
        )
        if results["settings"]["bootstrap"] == 0:
            why = "no resamples were drawn, so no prediction has an interval to score"
        return Absent(title, why)
    predictions = holdout["predictions"]
    laws = list(dict.fromkeys(one["law"] for one in predictions))
    level = 100 * results["settings"]["level"]
    farthest = 1.1 * max(one["horizon_decades"] for one in predictions)
    panels = []
    for scored in SCORED:
        marks: list[Mark] = []
        if scored.score != "rmse":
            marks.append(Rule(level if scored.score == "coverage" else 0.0, color=BLACK, dash="dash"))
        for k, law in enumerate(laws):
            marks += _scores(predictions, law, scored, k)
        limits = (-4.0, 104.0) if scored.score == "coverage" else None
        if scored.score == "rmse":
            errors = [one["rmse"] for one in predictions if one["quantity"] == "loss" and one["rmse"] is not None]
            limits = (0.0, 115 * max(errors, default=0.01))
        panels.append(
            Panel(
                Axis("decades of compute beyond the training budgets", limits=(0.0, farthest)),
                Axis(scored.label, limits=limits),
                tuple(marks),
            )
        )
    caption = (
        "Each law fitted to all budgets up to one, tested on each larger budget; points of one fit are joined. "
        "The rms error and bias are of the log loss, the error of N* of its log at the isoFLOP minima. Dashed: no "
        f"bias, and the {level:g}% that an honest interval covers."
    )
    return Chart(title, caption, tuple(panels), 2, height=5.0)


def _scores(predictions: Sequence[PredictionScore], law: str, scored: Scored, k: int) -> list[Mark]:
    marks: list[Mark] = []
    mine = [
        (one, score)
        for one in predictions
        if one["law"] == law and one["quantity"] == scored.quantity and (score := one[scored.score]) is not None
    ]
    color = CATEGORY_COLORS[k % len(CATEGORY_COLORS)]
    for trained_to in dict.fromkeys(one["trained_to_flops"] for one, _ in mine):
        group = sorted(
            ((one, score) for one, score in mine if one["trained_to_flops"] == trained_to),
            key=lambda pair: pair[0]["horizon_decades"],
        )
        x, y = array([one["horizon_decades"] for one, _ in group]), array([100 * score for _, score in group])
        texts = tuple(
            f"{law}\nfitted to {one['n_trained']} runs up to {flops_text(one['trained_to_flops'])}\n"
            f"tested on {one['n_tested']} at {flops_text(one['tested_at_flops'])}\n{percent(score)}"
            for one, score in group
        )
        marks.append(Line(x, y, color, tuple(DASHES)[k % 4], width=0.7, opacity=0.5))
        marks.append(Points(x, y, color, marker(k), 4.5, label=law, hover=texts, opacity=0.85))
    return marks


def choices(results: Results) -> Chart | Absent:
    """The multiverse: N* at the target under every combination of defensible choices, sorted, choices below."""
    title = "How much of the answer is choice"
    found = results["choices"]
    if found is None:
        return Absent(title, _undecided(results))
    own = found["rows"][0]
    answered = [(params, row) for row in found["rows"] if (params := row["params"]) is not None]
    if not answered:
        return Absent(title, "no refit gave an answer")
    sizes, rows = zip(*sorted(answered, key=lambda pair: pair[0]), strict=True)
    place = next((k for k, row in enumerate(rows) if row is own), None)
    options = [(choice, option) for choice in CHOICES for option in dict.fromkeys(row[choice] for row in found["rows"])]
    y = array(sizes)
    x = np.arange(len(rows), dtype=float)
    converged = np.array([row["status"] == "converged" for row in rows])
    texts = tuple(_choice_text(row, params) for params, row in zip(sizes, rows, strict=True))
    above: list[Mark] = [*_own_interval(results, found)]
    for kept, filled, label in (
        (converged, True, "a refit"),
        (~converged, False, "a refit that did not converge"),
    ):
        if kept.any():
            above.append(
                Points(
                    x[kept],
                    y[kept],
                    BLUE,
                    filled=filled,
                    size=4.5,
                    label=label,
                    hover=tuple(np.array(texts)[kept].tolist()),
                )
            )
    if place is not None:
        above.append(
            Points(
                x[[place]],
                y[[place]],
                RED,
                "star",
                9.0,
                label="the analysis of this report",
                hover=(texts[place],),
                front=True,
            )
        )
    below: list[Mark] = []
    for row, (choice, option) in enumerate(options):
        at = x[[one[choice] == option for one in rows]]
        shade = BLACK if CHOICES.index(choice) % 2 == 0 else GREY
        below.append(Points(at, np.full(len(at), float(row)), shade, "square", 2.6))
    across = (-1.0, float(len(rows)))
    shown = np.concatenate([y, [mark.at for mark in above if isinstance(mark, Rule)]])
    panels = (
        Panel(
            Axis("", limits=across, ticks=False),
            Axis(
                f"N* at the target: {words_of(results, 'params')}",
                log=True,
                limits=extent(shown, log=True, margin=0.12),
                counts=True,
            ),
            tuple(above),
        ),
        Panel(
            Axis("refits, from the smallest N* to the largest", limits=across, ticks=False),
            Axis(
                "",
                limits=(len(options) - 0.4, -0.6),
                names=tuple(
                    option if choice in ("counting", "loss") else f"{choice}: {option}" for choice, option in options
                ),
            ),
            tuple(below),
        ),
    )
    return Chart(
        title,
        _choices_caption(found),
        panels,
        1,
        2.6 + 0.2 * len(options),
        (2.2, 0.2 * len(options) + 0.3),
        matrix=True,
    )


def _own_interval(results: Results, found: ChoicesSection) -> list[Mark]:
    target = results["forecast"]["at_target"]
    if not target or target["flops"] != found["target_flops"]:
        return []
    low, high = target["params"]["low"], target["params"]["high"]
    whose = "headline's" if "members" in target else "its"
    label = f"{whose} {target['level']:.0%} interval"
    return [Rule(end, color=RED, dash="dash", label=label) for end in (low, high) if end is not None]


def _choice_text(row: RefitEntry, params: float) -> str:
    picked = "\n".join(f"{choice}: {row[choice]}" for choice in CHOICES)
    status = row["status"].replace("_", " ")
    return f"{picked}\n{row['n']} runs, {status}\nN* {count(params)}, exponent {number(row['exponent'])}"


def _choices_caption(found: ChoicesSection) -> str:
    spread = found["spread"]
    decided = sorted(spread["by_choice"].items(), key=lambda item: -item[1]["ratio"])
    parts = [f"{name} ×{bounded(one['ratio'])}" for name, one in decided if one["options"] > 1]
    assert spread["params"] is not None
    least, most = spread["params"]
    return (
        f"The {found['law']} law's N* at {flops_text(found['target_flops'])}, refitted under every combination of "
        f"reasonable choices ({spread['answered']} of {spread['analyses']} gave an optimum): from {count(least)} to "
        f"{count(most)} parameters. "
        + (f"Between the options of one choice the median answer moves by: {', '.join(parts)}." if parts else "")
    )


def influence(results: Results) -> Chart | Absent:
    """The runs whose removal moves N* at the target most."""
    title = "Influence of single runs"
    found = results["influence"]
    if found is None:
        return Absent(title, _undecided(results))
    runs = [
        (run["run"], run["params"], run["change"])
        for run in found["runs"]
        if run["params"] is not None and run["change"] is not None
    ][:MOST_INFLUENTIAL]
    if not runs:
        return Absent(title, "no run could be left out and the law refitted")
    marks: list[Mark] = [Rule(0.0, upright=True, color=BLACK)]
    labels = tuple(run_words(results, run, among=[other for other, _, _ in runs]) for run, _, _ in runs)
    for row, (run, params, relative) in enumerate(runs):
        change = 100 * relative
        text = f"without {run}: N* {count(params)} ({percent(relative, 2)})"
        marks.append(Line(array([0.0, change]), array([row, row]), BLUE if change > 0 else RED, width=3.0, opacity=0.5))
        marks.append(
            Points(
                array([change]),
                array([row]),
                BLUE if change > 0 else RED,
                "up" if change > 0 else "down",
                5.0,
                hover=(text,),
                front=True,
            )
        )
    panel = Panel(
        Axis("change of N* at the target when the run is left out, %"),
        Axis("run left out", limits=(len(runs) - 0.5, -0.5), names=labels),
        tuple(marks),
    )
    caption = (
        f"The {found['law']} law refitted without one run at a time; the {len(runs)} runs that move N* at "
        f"{flops_text(found['target_flops'])} ({count(found['params'])} with all runs) most."
    )
    return Chart(title, caption, (panel,), height=0.9 + 0.2 * len(runs))


def _undecided(results: Results) -> str:
    if results["settings"]["bootstrap"] == 0:
        return "a point fit alone was asked for (no resamples)"
    return "no fitted law of parameters and tokens has a compute optimum"
