"""Figures of a study's health: normalised loss curves, noise scales beside batches, losses between seeds."""

from collections.abc import Mapping

import numpy as np

from scaling.analysis.figures.chart import (
    BLUE,
    GREY,
    RED,
    Absent,
    Array,
    Axis,
    Band,
    Chart,
    ColorScale,
    Line,
    Mark,
    Panel,
    Points,
    Rule,
    Span,
    array,
    extent,
    marker,
    ordered_colors,
)
from scaling.analysis.figures.elements import axis_of, words_of
from scaling.analysis.schema.document import Results
from scaling.analysis.schema.health import Collapse, NoiseScaleRuns
from scaling.analysis.words import count, flops_text, sentence

EXTRA_FROM = {"value": "value", "low": "high", "high": "low"}  # the share is largest at the least noise scale


def collapse(results: Results) -> Chart | Absent:
    """Normalised loss against the share of the run, and the curves' spread beside the seed noise."""
    title = "Scaling collapse"
    found = results["health"]["collapse"]
    if "runs" not in found:
        return Absent(title, found["why"])
    x, runs = array(found["x"]), found["runs"]
    normalised = array(runs["normalised"])
    scale = ColorScale(words_of(results, "params"), min(runs["params"]), max(runs["params"]))
    left = _cooldown(found)
    for k, run in enumerate(runs["run_id"]):
        text = f"{run}\n{count(runs['params'][k])} parameters\n{flops_text(runs['flops'][k])}"
        departs = not found["holds"] and k in found["departing"]
        dash, label = ("dash", "departs") if departs else ("solid", "")
        color = scale.color(runs["params"][k])
        left.append(Line(x, normalised[k], color, dash, width=1.6 if departs else 1.1, label=label, hover=text))
    shown = x >= found["compared_from"]  # before, curves differ by more than the axes need hold
    right = _cooldown(found)
    spread = 100 * array(found["spread"])[shown]
    right.append(Line(x[shown], spread, BLUE, label="spread of the curves", hover="spread"))
    if found["seed_noise"] is not None:
        label = f"seed noise of one model ({found['seed_degrees_of_freedom']} degrees of freedom)"
        noise = 100 * array(found["seed_noise"])[shown]
        right.append(Line(x[shown], noise, RED, "dash", label=label, hover="seed noise"))
    right.append(Rule(100 * found["allowed"], dash="dot", label="allowed for a collapse"))
    label = f"(L − E) / (L at the end − E), {found['kind']} loss"
    share = Axis("share of the run's compute", limits=(0.0, 1.0))
    panels = (
        Panel(share, Axis(label, log=True, limits=extent(normalised[:, shown], log=True)), tuple(left)),
        Panel(share, Axis("sd over curves, % of mean"), tuple(right)),
    )
    averaged = ", losses averaged over fortieths of the run" if found["kind"] == "training" else ""
    caption = (
        f"{found['verdict']} The best run of every budget whose minimum lies inside its sizes{averaged} "
        f"(Qiu et al. 2025). {sentence(found['floor']['weak'])}"
    ).rstrip()
    return Chart(title, caption, panels, 2, height=3.6, scale=scale)


def _cooldown(found: Collapse) -> list[Mark]:
    start = found["cooldown_from"]
    return [] if start is None else [Span(start, 1.0, "learning rate falls")]


def noise_scale(results: Results) -> Chart | Absent:
    """The noise scale of every run, its batch beside it, against the loss; and the price of the batch against size."""
    title = "Gradient noise scale and batch"
    found = results["health"]["noise_scale"]
    if "runs" not in found:
        return Absent(title, found["why"])
    tokens, extra = _noise_quantities(found["runs"])
    limits = [extent(np.concatenate(list(one.values())), log=True) for one in (tokens, extra)]
    left, right = _noise_marks(results, found["runs"], tokens, extra, limits[0][1], limits[1][0])
    y = Axis("noise scale and batch, tokens", log=True, limits=limits[0], counts=True)
    panels = (
        Panel(Axis(words_of(results, "loss")), y, tuple(left)),
        Panel(
            axis_of(results, "params"),
            Axis("extra tokens, batch / noise scale", log=True, limits=limits[1]),
            (Rule(1.0, dash="dot", label="batch = noise scale"), *right),
        ),
    )
    caption = (
        f"{found['verdict']} Noise scales are tr(Σ) / |G|² over the later half of each run before its cooldown, each "
        f"averaged by itself, with {found['level']:.0%} bootstrap intervals (to the axis's end where G may "
        "be zero). A batch B takes 1 + B / B_noise times the fewest tokens (McCandlish et al. 2018); the noise "
        "scale is plain gradient descent's, to which an adaptive optimizer's critical batch need only be near."
    )
    return Chart(title, caption, panels, 2, height=3.8)


def _noise_quantities(runs: NoiseScaleRuns) -> tuple[dict[str, Array], dict[str, Array]]:
    """Noise scale and batch in tokens, and the batch as a share of the noise scale; NaN for numbers not finite."""
    tokens = {
        "value": array(runs["value"]),
        "low": array(runs["low"]),
        "high": array(runs["high"]),
        "batch": array(runs["batch"]),
    }
    with np.errstate(divide="ignore"):
        extra = {name: tokens["batch"] / tokens[other] for name, other in EXTRA_FROM.items()}
    return tokens, {name: np.where(np.isfinite(one), one, np.nan) for name, one in extra.items()} | {"one": np.ones(1)}


def _noise_marks(
    results: Results,
    runs: NoiseScaleRuns,
    tokens: Mapping[str, Array],
    extra: Mapping[str, Array],
    top: float,
    bottom: float,
) -> tuple[list[Mark], list[Mark]]:
    """The runs by budget in tokens against loss, and as shares against size; open intervals end at `top`, `bottom`."""
    loss, params = array(runs["loss"]), array(runs["params"])
    high, least = np.nan_to_num(tokens["high"], nan=top), np.nan_to_num(extra["low"], nan=bottom)
    groups = _by_budget(results, runs)
    grey = [GREY] if "in no budget" in groups else []
    left: list[Mark] = []
    right: list[Mark] = []
    for k, (label, rows) in enumerate(groups.items()):
        color, shape = [*grey, *ordered_colors(len(groups) - len(grey))][k], marker(k)
        texts = tuple(
            f"{runs['run_id'][i]}\n{count(params[i])} parameters\nnoise scale {_tokens(tokens['value'][i])}\n"
            f"batch {_tokens(tokens['batch'][i])}\n{runs['measured_steps'][i]} steps measured"
            for i in rows
        )
        for marks, x, y, ends, legend in (
            (left, loss, tokens["value"], (tokens["low"], high), label),
            (right, params, extra["value"], (least, extra["high"]), ""),
        ):
            between = (ends[0][rows], ends[1][rows])
            marks.append(
                Points(x[rows], y[rows], color, shape, 4.2, label=legend, hover=texts, y_range=between, front=True)
            )
        batch = "the runs' batches" if k == 0 else ""
        left.append(
            Points(loss[rows], tokens["batch"][rows], color, shape, 3.4, filled=False, hover=texts, label=batch)
        )
    return left, right


def _tokens(value: float) -> str:
    return f"{count(value)} tokens" if np.isfinite(value) else "perhaps infinite"


def _by_budget(results: Results, runs: NoiseScaleRuns) -> dict[str, list[int]]:
    """The numbers of the measured runs by their budget, in words; runs in no budget first."""
    table, study = results["observations"], results["isoflop"]
    budgets = study["budgets"] if study is not None else []
    number = dict(zip(table["run_id"], table["budget"], strict=True))
    own = [-1 if (k := number.get(run_id)) is None else int(k) for run_id in runs["run_id"]]
    groups: dict[str, list[int]] = {}
    for i in sorted(range(len(own)), key=own.__getitem__):
        label = "in no budget" if own[i] < 0 else flops_text(budgets[own[i]]["budget_flops"])
        groups.setdefault(label, []).append(i)
    return groups


def seed_noise(results: Results) -> Chart | Absent:
    """The standard deviation between seeds of every repeated setting against its size, pooled, and its trend."""
    title = "Seed noise of the final loss"
    found = results["health"]["seed_noise"]
    if "cells" not in found:
        return Absent(title, found["why"])
    cells, pooled, trend = found["cells"], found["pooled"], found["trend"]
    params, sd = array(cells["params"]), array(cells["sd_nats"])
    ends = extent(params, log=True, margin=0.15)
    across = np.array(ends)
    marks: list[Mark] = [
        Band(across, _flat(pooled["low"]), _flat(pooled["high"]), BLUE),
        Line(across, _flat(pooled["sd_nats"]), BLUE, "dash", label="pooled, with its interval", hover="pooled"),
    ]
    if trend is not None and trend["told"]:
        line = trend["line"]
        label = f"trend with size, N^{trend['slope']:.2f}".replace("-", "−")
        marks.append(Line(array(line["params"]), array(line["sd_nats"]), RED, label=label, hover=label))
    scale = ColorScale(words_of(results, "flops"), min(cells["flops"]), max(cells["flops"]), counts=False)
    beside = _apart(params, float(np.log(ends[1] / ends[0])))
    low, high = array(cells["low"]), array(cells["high"])
    for k, (n, c, runs) in enumerate(zip(params, cells["flops"], cells["runs"], strict=True)):
        text = f"{count(n)} parameters\n{flops_text(c)}\n{runs} seeds\n{sd[k]:.2g} nats"
        marks.append(
            Points(
                beside[[k]],
                sd[[k]],
                scale.color(c),
                size=4.2,
                label="one size and budget, with its chi-square interval" if k == 0 else "",
                hover=(text,),
                y_range=(low[[k]], high[[k]]),
                front=True,
            )
        )
    y = Axis("sd of the final loss between seeds, nats", log=True)
    caption = (
        f"{found['verdict']} Intervals of {found['level']:.0%} take losses about their setting's mean as normal; "
        "points of one size are drawn side by side."
    )
    panel = Panel(axis_of(results, "params", ends), y, tuple(marks))
    return Chart(title, caption, (panel,), 1, height=3.4, scale=scale)


def _apart(params: Array, width: float) -> Array:
    """Sizes with equal ones moved a little apart, on an axis of this width in logs."""
    _, size, counts = np.unique(params, return_inverse=True, return_counts=True)
    place = np.array([int((size[:k] == own).sum()) for k, own in enumerate(size)])
    moved: Array = params * np.exp(0.012 * width * (place - (counts[size] - 1) / 2))
    return moved


def _flat(value: float) -> Array:
    return np.full(2, value)
