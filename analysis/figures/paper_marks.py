"""Marks on paper: each kind drawn on matplotlib's axes, and as the key of a legend; text that the font can show."""

import functools
import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.font_manager import findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.typing import LineStyleType

from scaling.analysis.figures.chart import Band, Bars, Line, Mark, Points, Rule, Span, Words
from scaling.analysis.figures.pages import FONT
from scaling.analysis.words import raised

MARKERS = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "up": "^",
    "down": "v",
    "pentagon": "p",
    "left": "<",
    "right": ">",
    "star": "*",
    "cross": "x",
}
DASHES: dict[str, LineStyleType] = {
    "solid": "-",
    "dash": (0, (5, 2)),
    "dot": (0, (1.2, 1.6)),
    "dashdot": (0, (5, 1.6, 1.2, 1.6)),
}


def draw_mark(mark: Mark, axes: Axes) -> None:
    if isinstance(mark, Points):
        _draw_points(mark, axes)
    elif isinstance(mark, Line):
        axes.plot(
            mark.x,
            mark.y,
            color=mark.color,
            linestyle=DASHES[mark.dash],
            linewidth=mark.width,
            alpha=mark.opacity,
            solid_capstyle="round",
        )
    elif isinstance(mark, Band):
        known = np.isfinite(mark.low) & np.isfinite(mark.high)
        axes.fill_between(mark.x, mark.low, mark.high, where=known, color=mark.color, alpha=0.18, linewidth=0)
    elif isinstance(mark, Bars):
        axes.stairs(mark.heights, mark.edges, fill=True, color=mark.color, alpha=0.55)
    elif isinstance(mark, Rule):
        line = axes.axvline if mark.upright else axes.axhline
        line(mark.at, color=mark.color, linestyle=DASHES[mark.dash], linewidth=0.9, zorder=1.5)
    elif isinstance(mark, Span):
        axes.axvspan(mark.low, mark.high, color=mark.color, linewidth=0, zorder=0)
    else:
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85}
        axes.annotate(
            plain(mark.text),
            (mark.x, mark.y),
            color=mark.color,
            ha="center",
            va="center",
            fontsize=8,
            bbox=box,
            annotation_clip=True,
            zorder=2.5,
        )


def _draw_points(mark: Points, axes: Axes) -> None:
    for along, ends in (("x", mark.x_range), ("y", mark.y_range)):
        if ends is None:
            continue
        known = np.isfinite(ends[0]) & np.isfinite(ends[1]) & np.isfinite(mark.x) & np.isfinite(mark.y)
        place = {
            "x": (mark.y[known], ends[0][known], ends[1][known]),
            "y": (mark.x[known], ends[0][known], ends[1][known]),
        }
        lines = axes.hlines if along == "x" else axes.vlines
        lines(*place[along], color=mark.color, linewidth=1.1, alpha=mark.opacity, zorder=3 if mark.front else 2)
    edge: Any = {"edgecolors": "white" if mark.filled and mark.front else mark.color}
    if mark.marker == "cross":
        edge = {}
    axes.scatter(
        mark.x,
        mark.y,
        s=mark.size**2 * (2.2 if mark.marker == "star" else 1.0),
        marker=MARKERS[mark.marker],
        c=mark.color if mark.filled or mark.marker == "cross" else "white",
        alpha=mark.opacity,
        linewidths=1.6 if mark.marker == "cross" else 0.7 if mark.filled else 1.1,
        zorder=3.2 if mark.front else 2.2,
        rasterized=len(mark.x) > 400,
        **edge,
    )


def handle(mark: Mark) -> Any:
    if isinstance(mark, Points):
        return Line2D(
            [],
            [],
            linestyle="none",
            marker=MARKERS[mark.marker],
            color=mark.color,
            alpha=max(mark.opacity, 0.6),
            markersize=max(mark.size, 4),
            markerfacecolor=mark.color if mark.filled else "white",
        )
    if isinstance(mark, Band | Span | Bars):
        return Patch(color=mark.color, alpha=0.18 if isinstance(mark, Band) else 1.0, linewidth=0)
    assert not isinstance(mark, Words)
    width = mark.width if isinstance(mark, Line) else 0.9
    return Line2D([], [], color=mark.color, linestyle=DASHES[mark.dash], linewidth=width)


@functools.cache
def _glyphs() -> frozenset[int]:
    return frozenset(get_font(findfont(FONT)).get_charmap())


def plain(text: str, width: int = 0) -> str:
    """Text with raised exponents and ? for signs that the font lacks, wrapped to `width` characters where given."""
    text = raised(text)
    shown = "".join(c if ord(c) in _glyphs() and c.isprintable() else " " if c.isspace() else "?" for c in text)
    if shown.startswith("_"):  # matplotlib takes a leading underscore for a private label
        shown = " " + shown
    return "\n".join(textwrap.wrap(shown, width, break_on_hyphens=False)) if width else shown
