"""The content of a figure, free of any drawing library: panels of marks on labelled axes, drawn by `paper` and `web`.

No figure fits: a figure shows numbers that a document holds, in other units at most. Text is plain text, never markup;
the two renderers escape it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Column: TypeAlias = Sequence[float | None] | Sequence[Sequence[float | None]]  # numbers of a document

# Okabe and Ito 2008: distinct under all common kinds of colour blindness. Yellow is left out: too pale on white.
BLACK, BLUE, ORANGE, GREEN, RED, SKY, PURPLE = (
    "#000000",
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#56B4E9",
    "#CC79A7",
)
GREY, PALE = "#767676", "#B4B4B4"
CATEGORY_COLORS = (BLUE, RED, GREEN, PURPLE, ORANGE, SKY, BLACK)
MARKERS = ("circle", "square", "diamond", "up", "down", "pentagon", "left", "right")
DASHES = ("solid", "dash", "dot", "dashdot")
# Viridis (Smith and van der Walt 2015) from dark to light, sampled; without the palest tenth, which fades on paper.
VIRIDIS = (
    (68, 1, 84),
    (72, 35, 116),
    (64, 67, 135),
    (52, 94, 141),
    (41, 120, 142),
    (32, 144, 140),
    (34, 167, 132),
    (68, 190, 112),
    (121, 209, 81),
    (170, 220, 50),
)
MOST_POINTS = 3_000  # of one set, drawn; more are thinned evenly, which the caption states


@dataclass(frozen=True)
class Axis:
    """An axis: its label with counting convention and unit, its scale, and names for categories 0, 1, …"""

    label: str
    log: bool = False
    limits: tuple[float, float] | None = None
    names: tuple[str, ...] = ()
    ticks: bool = True  # whether tick labels are written
    counts: bool = False  # ticks as 100M, 1B rather than powers of ten
    other: tuple[str, float] | None = None  # label of a second scale on the other side, and its factor


@dataclass(frozen=True)
class Points:
    """Markers at (x, y), each with an optional interval either way: (lows, highs), NaN where there is none."""

    x: Array
    y: Array
    color: str
    marker: str = "circle"
    size: float = 4.0  # diameter in points of print
    filled: bool = True
    opacity: float = 1.0
    label: str = ""
    hover: tuple[str, ...] = ()
    x_range: tuple[Array, Array] | None = None
    y_range: tuple[Array, Array] | None = None
    front: bool = False  # drawn over lines


@dataclass(frozen=True)
class Line:
    """A line through (x, y), broken at NaN."""

    x: Array
    y: Array
    color: str
    dash: str = "solid"
    width: float = 1.4
    opacity: float = 1.0
    label: str = ""
    hover: str = ""


@dataclass(frozen=True)
class Band:
    """The area between low and high over x."""

    x: Array
    low: Array
    high: Array
    color: str
    label: str = ""


@dataclass(frozen=True)
class Bars:
    """A histogram: heights between consecutive edges."""

    edges: Array
    heights: Array
    color: str


@dataclass(frozen=True)
class Rule:
    """A straight line across the panel at one value of x (upright) or y."""

    at: float
    upright: bool = False
    color: str = GREY
    dash: str = "solid"
    label: str = ""


@dataclass(frozen=True)
class Span:
    """A shaded range of x across the panel's whole height."""

    low: float
    high: float
    label: str = ""
    color: str = "#EFEFEF"


@dataclass(frozen=True)
class Words:
    """A few words on the panel at (x, y)."""

    x: float
    y: float
    text: str
    color: str = "#404040"


Mark: TypeAlias = Points | Line | Band | Bars | Rule | Span | Words


@dataclass(frozen=True)
class Panel:
    """One pair of axes with marks, drawn in order."""

    x: Axis
    y: Axis
    marks: tuple[Mark, ...]
    title: str = ""


@dataclass(frozen=True)
class ColorScale:
    """A continuous colour code, logarithmic, from the darkest at `low` to the palest at `high`."""

    label: str
    low: float
    high: float
    counts: bool = True  # ticks as 100M, 1B rather than powers of ten

    def color(self, value: float) -> str:
        """The colour of a value."""
        if self.high <= self.low:
            return viridis(0.4)
        return viridis(math.log(value / self.low) / math.log(self.high / self.low))


@dataclass(frozen=True)
class Chart:
    """A figure: panels row by row in a grid (None leaves a cell empty), a caption, and a code of its colours."""

    title: str
    caption: str
    panels: tuple[Panel | None, ...]
    columns: int = 1
    height: float = 3.6  # inches of print, at 6.5 inches width
    row_heights: tuple[float, ...] = ()
    scale: ColorScale | None = None
    below: str = ""  # a label that all x axes share
    matrix: bool = False  # columns share their x axis, so they stay side by side on a narrow screen
    legend: str = "below"  # or "right"


@dataclass(frozen=True)
class Absent:
    """A figure that these results cannot fill, and the reason in words."""

    title: str
    why: str


@dataclass
class Legend:
    """Labels in the order of their first marks, each with that mark."""

    entries: dict[str, Mark] = field(default_factory=dict)

    @classmethod
    def of(cls, chart: Chart) -> "Legend":
        """Collect a chart's labels."""
        found = cls()
        for panel in chart.panels:
            for mark in panel.marks if panel else ():
                label = getattr(mark, "label", "")
                if label:
                    found.entries.setdefault(label, mark)
        return found


def viridis(fraction: float) -> str:
    """The colour at a fraction from 0 (dark) to 1 (pale)."""
    place = min(max(fraction, 0.0), 1.0) * (len(VIRIDIS) - 1)
    k = min(int(place), len(VIRIDIS) - 2)
    mixed = [round(a + (b - a) * (place - k)) for a, b in zip(VIRIDIS[k], VIRIDIS[k + 1], strict=True)]
    return "#{:02x}{:02x}{:02x}".format(*mixed)


def ordered_colors(count: int) -> list[str]:
    """Colours for `count` ordered things, dark to pale."""
    return [viridis(k / max(count - 1, 1)) for k in range(count)]


def marker(k: int) -> str:
    """The marker of the k-th of several things."""
    return MARKERS[k % len(MARKERS)]


def array(values: Column | None, like: Array | None = None) -> Array:
    """Numbers of a document as an array, null as NaN; all NaN, shaped `like`, where there are none."""
    if values is None:
        assert like is not None
        return np.full(len(like), np.nan)
    return np.array(values, dtype=float)


def other_scale(axis: Axis, limits: tuple[float, float]) -> tuple[Axis, tuple[float, float]] | None:
    """The second scale of an axis between these limits, as an axis with limits of its own; None without one."""
    if axis.other is None:
        return None
    label, factor = axis.other
    return Axis(label, log=axis.log), (limits[0] * factor, limits[1] * factor)


def thin(count: int) -> NDArray[np.intp]:
    """Positions of the drawn ones of `count` points: all, or MOST_POINTS evenly."""
    return np.unique(np.linspace(0, count - 1, min(count, MOST_POINTS)).round().astype(np.intp))


def limits(panel: Panel, along: str) -> tuple[float, float]:
    """The ends of a panel's axis: as declared, else around its lines, points and their intervals."""
    axis = panel.x if along == "x" else panel.y
    if axis.limits is not None:
        return axis.limits
    parts = [np.array([])]
    for mark in panel.marks:
        if isinstance(mark, Points | Line):
            parts.append(mark.x if along == "x" else mark.y)
        if isinstance(mark, Points):
            parts += (mark.x_range if along == "x" else mark.y_range) or ()
        if isinstance(mark, Bars):
            parts.append(mark.edges if along == "x" else np.array([0.0, *mark.heights]))
        if isinstance(mark, Rule) and mark.upright == (along == "x"):
            parts.append(np.array([mark.at]))
    found = np.concatenate(parts)
    known = found[np.isfinite(found) & ((found > 0) | (not axis.log))]
    return extent(known, log=axis.log) if len(known) else (1.0, 10.0)


def extent(values: Array, *, log: bool, margin: float = 0.04) -> tuple[float, float]:
    """Limits around finite values with a margin, for an axis that must not follow its bands."""
    shown = values[np.isfinite(values) & ((values > 0) | (not log))]
    low, high = float(shown.min()), float(shown.max())
    if log:
        room = max((high / low) ** margin, 1.02)
        return low / room, high * room
    room = margin * (high - low) or abs(high) * margin or 1.0
    return low - room, high + room
