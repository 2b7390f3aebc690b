"""The three panels of Kaplan et al. 2020, figure 1: loss against parameters, tokens and compute, with power laws."""

from collections.abc import Mapping

import numpy as np

from scaling.analysis.figures.chart import (
    BLUE,
    GREY,
    RED,
    Absent,
    Chart,
    Line,
    Mark,
    Panel,
    Points,
    array,
    extent,
    thin,
)
from scaling.analysis.figures.elements import axis_of, loss_axis, run_texts, thinned_words
from scaling.analysis.schema.curves import FrontierEntry, FrontierVariable
from scaling.analysis.schema.document import Results
from scaling.analysis.words import count, scientific

TITLE = "Loss against parameters, data and compute"
SYMBOLS: Mapping[FrontierVariable, str] = {"params": "N", "tokens": "D", "flops": "C"}
HEADS: Mapping[FrontierVariable, str] = {"params": "ample data", "tokens": "ample size", "flops": "all runs"}


def kaplan(results: Results) -> Chart | Absent:
    """Every run's loss, the frontier that no smaller run beats, and the power law through its ample points."""
    section = results.get("frontiers")
    if section is None:
        return Absent(TITLE, "the results hold no frontier of the losses: fit the data again")
    names = list(section["by"])
    seen = extent(array(results["observations"]["loss"]), log=True, margin=0.06)
    panels = [
        Panel(
            axis_of(results, name, extent(array(results["range"][name]), log=True, margin=0.06)),
            loss_axis(results, limits=seen, labelled=name == names[0], in_bits=name == names[-1]),
            (*_runs(results, name), *_points(entry, name), *_line(entry)),
            title=_law_words(name, entry),
        )
        for name, entry in section["by"].items()
    ]
    ratio, factor = section["optimal_tokens_per_param"], section["factor"]
    rule = (
        f"{section['basis']}, so only the panel of compute has a law"
        if ratio is None
        else f"Data are ample from {factor:g} times the {ratio:.3g} tokens per parameter of the compute optimum "
        f"({section['basis']}), the size is below 1/{factor:g} of them; neither is endless, so these exponents are "
        "not those of the surface law's terms"
    )
    caption = (
        "Marked: runs that none of fewer parameters, tokens or FLOPs beats (means over seeds). Each line is a power "
        f"law without a floor through the filled points (Kaplan et al. 2020). {rule}. "
        f"{_counts(section['by'])}{thinned_words(results)}"
    )
    return Chart(TITLE, caption, tuple(panels), len(panels), height=3.4)


def _runs(results: Results, name: FrontierVariable) -> list[Mark]:
    runs = results["observations"]
    rows = thin(len(runs["row"]))
    x, y = array(runs[name])[rows], array(runs["loss"])[rows]
    return [Points(x, y, GREY, size=2.6, opacity=0.5, label="run", hover=run_texts(results, rows))]


def _points(entry: FrontierEntry, name: FrontierVariable) -> list[Mark]:
    x, y, ample = array(entry["x"]), array(entry["loss"]), np.array(entry["ample"], dtype=bool)
    counts = [
        "" if params is None or tokens is None else f"{count(params)} parameters\n{count(tokens)} tokens\n"
        for params, tokens in zip(entry["params"], entry["tokens"], strict=True)
    ]
    texts = np.array(
        [
            f"{words}loss {loss:.4f}, {runs} run{'s' if runs > 1 else ''}"
            for words, loss, runs in zip(counts, entry["loss"], entry["runs"], strict=True)
        ],
        dtype=object,
    )
    marks: list[Mark] = []
    for kept, filled, label in (
        (ample, True, "on the frontier"),
        (~ample, False, "on it, not ample"),
    ):
        if kept.any():
            hover = tuple(texts[kept].tolist())
            marks.append(Points(x[kept], y[kept], BLUE, "circle", 4.6, filled, label=label, hover=hover, front=True))
    return marks


def _line(entry: FrontierEntry) -> list[Mark]:
    law = entry["law"]
    if law is None:
        return []
    used = array(entry["x"])[np.array(entry["ample"], dtype=bool)]
    ends = np.array([used.min(), used.max()])
    drawn = (law["scale"] / ends) ** law["exponent"]
    return [Line(ends, drawn, RED, "dash", 1.6, label="power law", hover=f"exponent {law['exponent']:.3f}")]


def _law_words(name: FrontierVariable, entry: FrontierEntry) -> str:
    """The law as Kaplan et al. write it, or the reason why there is none."""
    law, head = entry["law"], HEADS[name]
    if law is None:
        return f"{head}\nno law"
    scale = scientific(law["scale"], 2) if name == "flops" else count(law["scale"])
    interval = law["interval"]
    return (
        f"{head}\nL = ({SYMBOLS[name]}/{scale})^−{law['exponent']:.3f}\n"
        f"({interval['low']:.3f} to {interval['high']:.3f})"
    )


def _counts(by: Mapping[FrontierVariable, FrontierEntry]) -> str:
    """The number of points behind each law, and the reasons of laws that are missing."""
    used = [
        f"{SYMBOLS[name]}: {sum(entry['ample'])} of {len(entry['ample'])}" for name, entry in by.items() if entry["law"]
    ]
    missing = [f"No law in {SYMBOLS[name]}: {entry['why']}." for name, entry in by.items() if entry["law"] is None]
    points = [f"Points of the frontier behind each law: {', '.join(used)}."] if used else []
    return " ".join([*points, *missing])
