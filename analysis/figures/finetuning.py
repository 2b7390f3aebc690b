"""Figures of fine-tuned runs: the score against pretraining compute, and the data that pretraining was worth."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from scaling.analysis.figures.chart import (
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
    marker,
    ordered_colors,
)
from scaling.analysis.schema.finetuning import TunedCurve, TunedFamily, TunedPoint, TunedResults
from scaling.analysis.words import count, flops_text, sentence

Measure = Literal["score", "loss"]

WORDS: dict[str, str] = {"accuracy": "accuracy", "rouge_l": "ROUGE-L, F1", "bleu": "BLEU", "chrf": "chrF"}
SCRATCH = "the same shape from scratch"
HEIGHT, TRANSFER_HEIGHT = 5.4, 3.6  # inches of print


def downstream(results: TunedResults) -> Chart | Absent:
    """The score against pretraining compute, a curve a fine-tuning size, each with its control from scratch."""
    families = results["families"]
    if not any(family["points"] for family in families.values()):
        return Absent("After fine-tuning", "no run started from pretrained weights")
    metric = results["metric"]
    labels: dict[Measure, str] = {"score": WORDS.get(metric, metric), "loss": "loss, nats"}
    panels = [
        _panel(family, measure, words if not k else "", families, _title(name) if measure == "score" else "")
        for measure, words in labels.items()
        for k, (name, family) in enumerate(families.items())
    ]
    errors = [p["score_se"] for f in families.values() for p in f["points"] if p["score_se"] is not None]
    guess = f", where a uniform guess gives {1 / len(results['classes']):.3f}" if results["classes"] else ""
    common = (
        f"The score's standard error over documents, {np.median(errors):.2g}, is common to both arms: the table has "
        "that of their difference in loss."
        if errors
        else ""
    )
    caption = " ".join(
        [
            f"Task {results['task']}, scored on {results['val_examples']:,} examples{guess}. Lines follow the run of "
            "the lowest pretraining loss at each budget of exact FLOPs; pale: every run. Dashed: the same shapes from "
            "random weights, by the same recipe for the same fine-tuning FLOPs.",
            common,
            *(sentence(note) for note in results["notes"]),
        ]
    )
    return Chart("After fine-tuning", caption, tuple(panels), len(families), height=HEIGHT)


def _panel(family: TunedFamily, measure: Measure, words: str, families: Mapping[str, TunedFamily], title: str) -> Panel:
    every = [one[measure] for own in families.values() for one in own["points"]]
    every += [p["scratch"][measure] for own in families.values() for p in own["points"] if p["scratch"] is not None]
    sizes = sorted({curve["examples"] for own in families.values() for curve in own["curves"]})
    colors = ordered_colors(len(sizes))
    marks: list[Mark] = []
    for size, color in zip(sizes, colors, strict=True):
        own = [point for point in family["points"] if point["examples"] == size]
        marks.append(_points(own, measure, color, marker(sizes.index(size)), faint=True))
    for curve in family["curves"]:
        n = sizes.index(curve["examples"])
        marks += _curve(curve, measure, colors[n], marker(n))
    x = Axis("pretraining FLOPs" if not title else "", log=True, limits=_wide(family["points"]))
    return Panel(x, Axis(words, limits=extent(array(every), log=False, margin=0.05)), tuple(marks), title)


def _title(family: str) -> str:
    return family.replace("encoder_decoder", "encoder–decoder")


def _wide(points: Sequence[TunedPoint]) -> tuple[float, float]:
    flops = array([point["pretraining_flops"] for point in points] or [1.0, 10.0])
    return float(flops.min()) / 1.5, float(flops.max()) * 1.5


def _points(points: Sequence[TunedPoint], measure: Measure, color: str, shape: str, *, faint: bool) -> Points:
    x, y = array([p["pretraining_flops"] for p in points]), array([p[measure] for p in points])
    texts = tuple(
        f"{p['parent']}\n{count(p['params'])} parameters\n{flops_text(p['pretraining_flops'])}\n{p[measure]:.3f}"
        for p in points
    )
    if faint:
        return Points(x, y, color, shape, 2.6, opacity=0.35, hover=texts)
    return Points(x, y, color, shape, 4.4, hover=texts, front=True)


def _curve(curve: TunedCurve, measure: Measure, color: str, shape: str) -> list[Mark]:
    points, label = curve["points"], f"{curve['examples']:,} examples"
    x, y = array([p["pretraining_flops"] for p in points]), array([p[measure] for p in points])
    marks: list[Mark] = [
        Line(x, y, color, label=label),
        _points(points, measure, color, shape, faint=False),
    ]
    control = [(p["pretraining_flops"], scratch) for p in points if (scratch := p["scratch"]) is not None]
    if control:
        x, y = array([flops for flops, _ in control]), array([scratch[measure] for _, scratch in control])
        if len(x) == 1:  # a line has two ends
            x, y = array([x[0] / 1.2, x[0] * 1.2]), array([y[0], y[0]])
        marks.append(Line(x, y, color, "dash", width=1.1, label=SCRATCH))
    return marks


def transfer(results: TunedResults) -> Chart | Absent:
    """The examples that pretraining was worth, against the fine-tuning set, coloured by model size."""
    title = "Effective data transferred"
    points = [point for family in results["families"].values() for point in family["points"]]
    shown = [point for point in points if (point["transfer"]["transferred"] or 0) > 0]
    if not shown:
        whys = sorted({point["transfer"]["why"] for point in points if point["transfer"]["why"]})
        return Absent(title, whys[0] if whys else "pretraining was worth no examples in any run")
    sizes = [point["params"] for point in shown]
    scale = ColorScale("parameters, non-embedding", min(sizes), max(sizes))
    y = extent(array([point["transfer"]["transferred"] for point in shown]), log=True, margin=0.08)
    x = extent(array([point["examples"] for point in shown]), log=True, margin=0.08)
    panels = []
    for k, (name, family) in enumerate(results["families"].items()):
        own = [point for point in family["points"] if (point["transfer"]["transferred"] or 0) > 0]
        marks = [*_laws(family, scale), *_bounds_and_values(own, scale)]
        panels.append(
            Panel(
                Axis("fine-tuning examples D_F", log=True, limits=x, counts=True),
                Axis("transferred examples D_T" if not k else "", log=True, limits=y, counts=True),
                tuple(marks),
                _title(name),
            )
        )
    negative = sum(point["transfer"]["transferred"] is not None for point in points) - len(shown)
    untold = sum(point["transfer"]["transferred"] is None for point in points)
    caption = (
        "D_T = D_E − D_F: the control from scratch needs D_E examples for the loss that the pretrained run reaches "
        f"with D_F (Hernandez et al. 2021). Of {len(points)} runs {len(shown)} are drawn; {negative} have D_T at or "
        f"below 0, and for {untold} the scratch curve does not determine it. Lines, where the points give a law: "
        "D_T = k · D_F^α · N^β at the largest budget."
    )
    return Chart(title, caption, tuple(panels), len(panels), height=TRANSFER_HEIGHT, scale=scale)


def _bounds_and_values(points: Sequence[TunedPoint], scale: ColorScale) -> list[Mark]:
    marks: list[Mark] = []
    for status, shape, filled, label in (
        ("within", "circle", True, "measured"),
        ("at least", "up", False, "at least: the scratch curve ends above"),
        ("below", "down", False, "below: the scratch curve begins lower"),
    ):
        for point in points:
            found = point["transfer"]
            if found["status"] == status:
                text = f"{point['parent']}\n{count(point['params'])} parameters\n{status} {found['transferred']:,.0f}"
                place = array([point["examples"]]), array([found["transferred"]])
                color = scale.color(point["params"])
                marks.append(Points(*place, color, shape, 4.2, filled, opacity=0.85, label=label, hover=(text,)))
    return marks


def _laws(family: TunedFamily, scale: ColorScale) -> list[Mark]:
    law = family["transfer"][-1]["law"] if family["transfer"] else None
    if law is None:
        return []
    own = [p for p in family["points"] if p["budget_flops"] == family["transfer"][-1]["budget_flops"]]
    x = np.geomspace(min(p["examples"] for p in own), max(p["examples"] for p in own), 20)
    return [
        Line(x, law["k"] * x ** law["alpha"] * params ** law["beta"], scale.color(params), "dash", width=1.0)
        for params in sorted({p["params"] for p in own})
    ]


CHARTS: dict[str, Callable[[TunedResults], Chart | Absent]] = {"finetune": downstream, "transfer": transfer}
