"""Figures of one fit: the leading law's residuals, and its parameters over the bootstrap."""

import numpy as np

from scaling.analysis.figures.chart import (
    BLACK,
    BLUE,
    GREY,
    RED,
    Absent,
    Array,
    Axis,
    Bars,
    Chart,
    Mark,
    Panel,
    Points,
    Rule,
    array,
    extent,
    marker,
    ordered_colors,
    thin,
)
from scaling.analysis.figures.elements import NO_SURFACE, axis_of, leading_fit, run_texts, thinned_words, used_rows
from scaling.analysis.schema.document import Results
from scaling.analysis.schema.fits import NO_RESAMPLES, FittedEntry, no_interval
from scaling.analysis.words import flops_text, percent, share_text, symbol

HISTOGRAM_BINS = 30
WIDE = 4.0  # a parameter whose draws span a larger factor is drawn on a log axis


def residuals(results: Results) -> Chart | Absent:
    """Residuals of the leading law against params, tokens and compute, coloured by budget."""
    title = "Residuals"
    entry = leading_fit(results)
    if entry is None:
        return Absent(title, NO_SURFACE)
    rows = used_rows(results, entry)
    values = 100 * array(entry["residuals"])
    runs, study = results["observations"], results["isoflop"]
    drawn = thin(len(rows))
    rows, values = rows[drawn], values[drawn]
    number_of = np.array([-1 if runs["budget"][k] is None else runs["budget"][k] for k in rows])
    budgets = study["budgets"] if study is not None else []
    noise = entry["noise_sd_log"]
    seen = np.append(values, [100 * noise, -100 * noise] if noise else [])
    panels = []
    for name in ("params", "tokens", "flops"):
        xs = array(runs[name])[rows]
        marks: list[Mark] = [Rule(0.0, color=BLACK)]
        if noise:
            label = f"noise, ±{f'{100 * noise:.2g}%' if noise < 1 else share_text(noise, 0)}"
            marks += [
                Rule(100 * noise, dash="dash", label=label),
                Rule(-100 * noise, dash="dash", label=label),
            ]
        for k, color in zip([-1, *range(len(budgets))], [GREY, *ordered_colors(len(budgets))], strict=True):
            mine = number_of == k
            if mine.any():
                label = "in no budget" if k < 0 else flops_text(budgets[k]["budget_flops"])
                texts = tuple(
                    f"{text}\n{percent(value / 100, 2)}"
                    for text, value in zip(run_texts(results, rows[mine]), values[mine], strict=True)
                )
                shape = "circle" if k < 0 else marker(k)
                marks.append(Points(xs[mine], values[mine], color, shape, 3.4, opacity=0.8, label=label, hover=texts))
        y_label = "log residual, %" if name == "params" else ""
        panels.append(Panel(axis_of(results, name), Axis(y_label, limits=extent(seen, log=False)), tuple(marks)))
    caption = (
        f"Log of measured over predicted loss of the {entry['name']} law, in percent, for each run, coloured by "
        "budget. A law that holds leaves no trend." + thinned_words(results)
    )
    legend_rows = -(-(len(budgets) + 2) // 4)
    return Chart(title, caption, tuple(panels), 3, height=3.1 + 0.16 * legend_rows)


def pairs(results: Results) -> Chart | Absent:
    """Every pair of the leading law's parameters over its bootstrap, with histograms on the diagonal."""
    title = "Bootstrap of the parameters"
    entry = leading_fit(results)
    if entry is None:
        return Absent(title, NO_SURFACE)
    draws = entry["draws"]
    if not draws or len(draws["values"]) < 2:
        why = no_interval(entry) or "too few resamples converged"
        if why == NO_RESAMPLES:
            why = "no resamples were drawn; fit with more than 0 of them"
        return Absent(title, f"there is nothing to show: {why}")
    names, values = draws["names"], array(draws["values"])
    axes = [_parameter_axis(name, values[:, k]) for k, name in enumerate(names)]
    size = len(names)
    panels: list[Panel | None] = []
    for i in range(size):
        for j in range(size):
            if j > i:
                panels.append(None)
                continue
            x = _labelled(axes[j], symbol(names[j]) if i == size - 1 else "", ticks=i == size - 1)
            marks: tuple[Mark, ...]
            if i == j:
                marks = _histogram(values[:, j], entry, names[j], log=axes[j].log)
                panels.append(Panel(x, Axis("", ticks=False), marks, title=symbol(names[j])))
            else:
                best = Points(
                    array([entry["params"][names[j]]]),
                    array([entry["params"][names[i]]]),
                    RED,
                    "cross",
                    6.0,
                    label="the fit",
                    front=True,
                )
                cloud = Points(values[:, j], values[:, i], BLUE, size=1.8, opacity=0.25, label="one resample")
                panels.append(
                    Panel(x, _labelled(axes[i], symbol(names[i]) if j == 0 else "", ticks=j == 0), (cloud, best))
                )
    caption = (
        f"{draws['converged']} of {draws['drawn']} resamples of {draws['clusters']} runs, each refitted with the "
        f"{entry['name']} law ({entry['equation']}). Diagonal: histograms, dashed lines the "
        f"{results['settings']['level']:.0%} interval, red the fit."
    )
    return Chart(title, caption, tuple(panels), size, height=min(1.25 * size, 7.5), matrix=True)


def _parameter_axis(name: str, values: Array) -> Axis:
    log = bool((values > 0).all() and values.max() / values.min() > WIDE)
    low, high = np.quantile(values, [0.002, 0.998])
    if not high > low:
        low, high = (low / 2, high * 2) if log else (low - 1e-3 - abs(low) * 1e-3, high + 1e-3 + abs(high) * 1e-3)
    return Axis(symbol(name), log=log, limits=extent(np.array([low, high]), log=log, margin=0.06))


def _labelled(axis: Axis, label: str, *, ticks: bool) -> Axis:
    return Axis(label, axis.log, axis.limits, ticks=ticks)


def _histogram(values: Array, entry: FittedEntry, name: str, *, log: bool) -> tuple[Mark, ...]:
    low, high = (float(end) for end in np.quantile(values, [0.002, 0.998]))
    if not high > low:
        low, high = low - 1e-3 - abs(low) * 1e-3, high + 1e-3 + abs(high) * 1e-3
    edges = np.geomspace(low, high, HISTOGRAM_BINS) if log else np.linspace(low, high, HISTOGRAM_BINS)
    heights = np.histogram(values, edges)[0].astype(float)
    marks: list[Mark] = [Bars(edges, heights, BLUE)]
    best, interval = entry["params"][name], entry["intervals"].get(name)
    if best is not None:
        marks.append(Rule(best, upright=True, color=RED))
    if interval and interval["low"] is not None and interval["high"] is not None:
        ends = (interval["low"], interval["high"])
        marks += [Rule(end, upright=True, color=BLACK, dash="dash") for end in ends]
    return tuple(marks)
