"""Charts on a screen: any chart as plotly traces and layouts, one plot a panel; its legend lies in `legends`.

All text that reaches plotly is escaped here: plotly reads a subset of HTML in names, labels and hover texts.
"""

import html
from collections.abc import Iterable
from typing import Any, TypedDict

import numpy as np

from scaling.analysis.figures import chart as charts
from scaling.analysis.figures.chart import Array, Axis, Band, Bars, Chart, Line, Panel, Points, Rule, Span
from scaling.analysis.figures.ticks import ticks
from scaling.analysis.words import raised, shorten

Json = dict[str, Any]  # of plotly's own making: traces and layouts have hundreds of keys, all optional

SYMBOLS = {
    "circle": "circle",
    "square": "square",
    "diamond": "diamond",
    "up": "triangle-up",
    "down": "triangle-down",
    "pentagon": "pentagon",
    "left": "triangle-left",
    "right": "triangle-right",
    "star": "star",
    "cross": "x-thin",
}
DASHES = {"solid": "solid", "dash": "8px,4px", "dot": "2px,3px", "dashdot": "8px,3px,2px,3px"}
SCREEN = 1.6  # pixels of a marker per point of print
INCH = 105  # pixels of a panel's height per inch of print
WIDTH, NARROW = 1030, 350  # pixels of a page's column, and of a narrow screen's, for which ticks are chosen
LEAST_HEIGHT, LABELS = 130, 46  # pixels of a panel, and of the labels below its plot
PIXELS = 96  # an inch of tick labels
DIGITS = 6  # of every number written


class Plot(TypedDict):
    """One panel for `figures.js`."""

    data: list[Json]  # plotly's traces
    layout: Json  # plotly's, and the gutter of a matrix
    title: str
    height: int  # pixels
    names: bool  # whether the y axis counts names, which need room


class Figure(TypedDict):
    """One chart for `figures.js`, panel by panel; null where a cell is empty."""

    columns: int
    matrix: bool
    panels: list[Plot | None]


def figure(chart: Chart) -> Figure:
    """Return a chart as JSON values: its panels, each with traces and layout."""
    rows = -(-len(chart.panels) // chart.columns)
    heights = chart.row_heights or (1.0,) * rows
    panels: list[Plot | None] = []
    for k, panel in enumerate(chart.panels):
        if panel is None:
            panels.append(None)
            continue
        height = round(max(heights[k // chart.columns] / sum(heights) * chart.height * INCH, LEAST_HEIGHT))
        if chart.matrix and panel.x.ticks:
            height += LABELS  # so that the plots of a matrix are equally tall
        panels.append(_panel(panel, height, _gutter(chart, k), min(WIDTH / chart.columns, NARROW)))
    return {"columns": chart.columns, "matrix": chart.matrix, "panels": panels}


def _gutter(chart: Chart, k: int) -> int | None:
    """Pixels to the left of the k-th panel of a matrix, so that x axes line up; None where each finds its own."""
    if not chart.matrix:
        return None
    longest = max((len(name) for panel in chart.panels if panel for name in panel.y.names), default=0)
    if longest:
        return _room_for(longest)
    return 62 if k % chart.columns == 0 else 12


def _room_for(characters: int) -> int:
    """Pixels that an axis and names of so many characters beside it take."""
    return round(34 + 6.3 * min(characters, 36))


def _panel(panel: Panel, height: int, gutter: int | None, width: float) -> Plot:
    shapes: list[Json] = []
    notes: list[Json] = []
    traces: list[Json] = []
    for mark in panel.marks:
        if isinstance(mark, Points):
            traces.append(_points(mark))
        elif isinstance(mark, Line):
            traces.append(_line(mark))
        elif isinstance(mark, Band):
            traces.append(_band(mark))
        elif isinstance(mark, Bars):
            traces.append(_bars(mark))
        elif isinstance(mark, Rule | Span):
            shapes.append(_shape(mark))
        else:
            notes.append(
                {
                    "x": _place(mark.x, panel.x),
                    "y": _place(mark.y, panel.y),
                    "text": text(mark.text),
                    "showarrow": False,
                    "font": {"size": 10, "color": mark.color},
                    "bgcolor": "rgba(255,255,255,0.85)",
                    "borderpad": 1,
                }
            )
    beside = 62 if gutter is None else gutter
    if gutter is None and panel.y.names and panel.y.ticks:
        beside = _room_for(max(len(name) for name in panel.y.names))
    layout: Json = {
        "xaxis": _axis(panel.x, charts.limits(panel, "x"), (width - beside) / PIXELS, across=True),
        "yaxis": _axis(panel.y, charts.limits(panel, "y"), (height - LABELS) / PIXELS, across=False),
        "shapes": shapes,
        "annotations": notes,
    }
    other = charts.other_scale(panel.y, charts.limits(panel, "y"))
    if other is not None:
        own = _axis(*other, (height - LABELS) / PIXELS, across=False)
        layout["yaxis2"] = own | {"overlaying": "y", "side": "right", "showgrid": False}
        traces.append(  # plotly draws no axis without a trace
            {"type": "scatter", "x": [None], "y": [None], "yaxis": "y2", "hoverinfo": "skip", "name": ""}
        )
    if gutter is not None:
        layout["gutter"] = gutter
        layout["yaxis"]["automargin"] = False
    named = bool(panel.y.names) and gutter is None
    return {"data": traces, "layout": layout, "title": text(panel.title), "height": height, "names": named}


def _axis(axis: Axis, limits: tuple[float, float], inches: float, *, across: bool) -> Json:
    major, labels, _ = ticks(axis, limits, inches, across=across)
    return {
        "type": "log" if axis.log else "linear",
        "title": {"text": text(axis.label)},
        "range": [_place(end, axis) for end in limits],
        "tickmode": "array",
        "tickvals": _numbers(major),
        "ticktext": [text(shorten(one, 36)) for one in labels],
        "exponentformat": "B" if axis.counts else "power",
        "showticklabels": axis.ticks,
        "ticks": "outside" if axis.ticks else "",
        "automargin": True,
    }


def _place(value: float, axis: Axis) -> float:
    """A place on an axis as plotly wants it for ranges and annotations: the decimal logarithm on a log axis."""
    return float(np.log10(value)) if axis.log else float(value)


def _points(mark: Points) -> Json:
    known = np.isfinite(mark.x) & np.isfinite(mark.y)
    hollow = not mark.filled
    symbol = SYMBOLS[mark.marker] + ("-open" if hollow and mark.marker != "cross" else "")
    edge = {"color": mark.color if mark.marker == "cross" else "white", "width": 2 if mark.marker == "cross" else 0.8}
    trace: Json = {
        "type": "scatter",
        "mode": "markers",
        "x": _numbers(mark.x[known]),
        "y": _numbers(mark.y[known]),
        "name": text(mark.label),
        "opacity": mark.opacity,
        "marker": {
            "color": mark.color,
            "symbol": symbol,
            "size": round(mark.size * SCREEN * (1.25 if mark.marker == "star" else 1), 1),
            **({"line": edge} if (mark.front and mark.filled) or mark.marker == "cross" else {}),
        },
    }
    trace |= _hover([one for one, keep in zip(mark.hover, known, strict=True) if keep] if mark.hover else [])
    for along, ends, middle in (("x", mark.x_range, mark.x), ("y", mark.y_range, mark.y)):
        if ends is not None and np.isfinite(ends[0][known]).any():
            trace[f"error_{along}"] = {
                "type": "data",
                "symmetric": False,
                "array": _numbers((ends[1] - middle)[known]),
                "arrayminus": _numbers((middle - ends[0])[known]),
                "width": 0,
                "thickness": 1.4,
                "color": mark.color,
            }
    return trace


def _line(mark: Line) -> Json:
    trace: Json = {
        "type": "scatter",
        "mode": "lines",
        "x": _numbers(mark.x),
        "y": _numbers(mark.y),
        "name": text(mark.label),
        "opacity": mark.opacity,
        "line": {"color": mark.color, "width": round(mark.width * 1.3, 2), "dash": DASHES[mark.dash]},
        "connectgaps": False,
    }
    return trace | _hover([mark.hover], single=True)


def _band(mark: Band) -> Json:
    known = np.isfinite(mark.low) & np.isfinite(mark.high)
    x, low, high = mark.x[known], mark.low[known], mark.high[known]
    red, green, blue = (int(mark.color[k : k + 2], 16) for k in (1, 3, 5))
    return {
        "type": "scatter",
        "mode": "lines",
        "x": _numbers([*x, *x[::-1]]),
        "y": _numbers([*high, *low[::-1]]),
        "fill": "toself",
        "fillcolor": f"rgba({red},{green},{blue},0.18)",
        "line": {"width": 0},
        "hoverinfo": "skip",
        "name": text(mark.label),
    }


def _bars(mark: Bars) -> Json:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": _numbers(mark.edges),
        "y": _numbers([*mark.heights, mark.heights[-1]]),
        "line": {"shape": "hv", "width": 1, "color": mark.color},
        "fill": "tozeroy",
        "hoverinfo": "skip",
        "name": "",
    }


def _shape(mark: Rule | Span) -> Json:
    if isinstance(mark, Span):
        return {
            "type": "rect",
            "x0": mark.low,
            "x1": mark.high,
            "yref": "paper",
            "y0": 0,
            "y1": 1,
            "layer": "below",
            "line": {"width": 0},
            "fillcolor": mark.color,
        }
    line = {"color": mark.color, "width": 1.2, "dash": DASHES[mark.dash]}
    if mark.upright:
        return {"type": "line", "x0": mark.at, "x1": mark.at, "yref": "paper", "y0": 0, "y1": 1, "line": line}
    return {"type": "line", "y0": mark.at, "y1": mark.at, "xref": "paper", "x0": 0, "x1": 1, "line": line}


def _hover(texts: list[str], *, single: bool = False) -> Json:
    if not texts or not any(texts):
        return {"hoverinfo": "skip"}
    shown = [text(one) for one in texts]
    return {"hoverinfo": "text", "hovertext": shown[0] if single else shown}


def text(words: str) -> str:
    """Escape text for plotly, line breaks kept and exponents raised."""
    return html.escape(raised(words), quote=False).replace("\n", "<br>")


def _numbers(values: Array | Iterable[float]) -> list[float | None]:
    return [float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None for value in values]
