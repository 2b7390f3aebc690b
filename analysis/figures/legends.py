"""The legend of a chart on a screen: its labels and its colour code, as plain entries for a template."""

from dataclasses import dataclass
from typing import Literal

from scaling.analysis.figures.chart import Band, Bars, Chart, Legend, Line, Mark, Points, Span, viridis
from scaling.analysis.figures.web import DASHES, text
from scaling.analysis.words import count, scientific


@dataclass(frozen=True)
class LegendEntry:
    """A label with the look of its first mark."""

    label: str
    kind: Literal["points", "area", "line"]
    color: str
    dash: str  # pattern of an SVG stroke
    marker: str
    filled: bool
    key: str  # the label as plotly's traces bear it
    switch: bool  # whether a click hides the traces


@dataclass(frozen=True)
class Ramp:
    """A colour code: its label, its ends in words, and colours from low to high."""

    label: str
    low: str
    high: str
    colors: list[str]


def legend(chart: Chart) -> list[LegendEntry]:
    """Return a chart's labels, each with the shape, colour and dash of its first mark."""
    return [_entry(label, mark) for label, mark in Legend.of(chart).entries.items()]


def scale(chart: Chart) -> Ramp | None:
    """Return a chart's colour code."""
    if chart.scale is None:
        return None
    colors = [viridis(k / 8) for k in range(9)]
    spell = count if chart.scale.counts else scientific
    return Ramp(chart.scale.label, spell(chart.scale.low), spell(chart.scale.high), colors)


def _entry(label: str, mark: Mark) -> LegendEntry:
    return LegendEntry(
        label=label,
        kind="points" if isinstance(mark, Points) else "area" if isinstance(mark, Band | Span | Bars) else "line",
        color=mark.color,
        dash=DASHES[getattr(mark, "dash", "solid")].replace("px", ""),
        marker=getattr(mark, "marker", ""),
        filled=getattr(mark, "filled", True),
        key=text(label),
        switch=isinstance(mark, Points | Line | Band | Bars),
    )
