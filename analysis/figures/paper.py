"""Charts on paper: any chart drawn with matplotlib on a given figure, and saved as png, svg and pdf, reproducibly.

Uses figures and canvases alone, never pyplot's state; the style holds inside a context and leaves no trace.
"""

import multiprocessing
import textwrap
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any
from unittest import mock

import matplotlib as mpl
from fontTools import subset
from fontTools.subset import Options
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure, FigureBase
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter

from scaling.analysis.figures import chart as charts
from scaling.analysis.figures.chart import (
    Absent,
    Axis,
    Chart,
    Legend,
    Panel,
)
from scaling.analysis.figures.pages import FONT, PAGE, Page
from scaling.analysis.figures.paper_marks import draw_mark, handle, plain
from scaling.analysis.figures.ticks import ticks
from scaling.analysis.words import shorten

FONT_SIZE = 9.0
PAD = 0.07  # inches around every axes
LEAST_LABEL = 14  # characters in a line of an axis label: "non-embedding" is one word
CHARACTER = 0.075  # inches that a character of an axis label takes, on average
STYLE: Any = {
    "font.family": FONT,
    "font.size": FONT_SIZE,
    "axes.titlesize": FONT_SIZE,
    "axes.labelsize": FONT_SIZE,
    "xtick.labelsize": FONT_SIZE,
    "ytick.labelsize": FONT_SIZE,
    "legend.fontsize": FONT_SIZE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.5,
    "axes.titlelocation": "left",
    "axes.unicode_minus": True,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "legend.columnspacing": 1.4,
    "legend.labelspacing": 0.35,
    "text.parse_math": False,
    "text.usetex": False,
    "svg.hashsalt": "scaling",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
}
CANVASES: Any = {  # format -> canvas, and the metadata of time and program that are left out
    "png": (FigureCanvasAgg, ("Software",)),
    "svg": (FigureCanvasSVG, ("Date", "Creator")),
    "pdf": (FigureCanvasPdf, ("CreationDate", "Creator", "Producer")),
}
LAYOUT_TABLES = ("GSUB", "GPOS", "GDEF", "kern")  # ligatures and kerning of a TrueType font
DOTS_PER_INCH = 200  # of a png
LEAST_CHARTS = 4  # for each process that draws: it starts in a second, the time of two charts


def draw(chart: Chart, figure: FigureBase, on: Page = PAGE) -> None:
    """Draw a chart on an empty figure or subfigure of a page."""
    with mpl.rc_context(_style(on)):
        if isinstance(figure, Figure) and figure.get_layout_engine() is None:
            figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=PAD, h_pad=PAD, wspace=0.03, hspace=0.03))
        rows = -(-len(chart.panels) // chart.columns)
        grid = figure.add_gridspec(rows, chart.columns, height_ratios=chart.row_heights or None)
        around = 0.25 if chart.matrix and chart.columns > 1 else 0.6  # inches that labels take beside a panel
        width, height = on.width / chart.columns - around, (chart.height - 0.5) / rows - around
        drawn = []
        for k, panel in enumerate(chart.panels):
            if panel is None:
                continue
            axes = figure.add_subplot(grid[k // chart.columns, k % chart.columns])
            share = chart.row_heights[k // chart.columns] / sum(chart.row_heights) * rows if chart.row_heights else 1.0
            drawn += _draw_panel(panel, axes, width, height * share)
        if chart.below:
            figure.supxlabel(plain(chart.below, int(on.width / CHARACTER)), fontsize=FONT_SIZE)
        if chart.scale is not None:
            _draw_scale(chart.scale, figure, drawn)
        _draw_legend(chart, figure, on)
        if isinstance(figure, Figure):
            _lay_out(figure, drawn)


def draw_panel(chart: Chart, panel: Panel, axes: Axes) -> None:
    """Draw one panel of a chart on given axes, with its legend and the chart's code of colours beside them."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    box = axes.get_window_extent().transformed(figure.dpi_scale_trans.inverted())
    with mpl.rc_context({"text.parse_math": False}):
        _draw_panel(panel, axes, box.width, box.height)
        if chart.scale is not None:
            _draw_scale(chart.scale, axes.figure, [axes])
        entries = Legend.of(replace(chart, panels=(panel,))).entries
        if entries:
            axes.legend([handle(mark) for mark in entries.values()], [plain(label) for label in entries])


def save(chart: Chart, stem: Path, on: Page = PAGE) -> list[Path]:
    """Write stem.png, stem.svg and stem.pdf for a page."""
    chart = on.fit(chart)
    figure = Figure(figsize=(on.width, chart.height), dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    draw(chart, figure, on)
    paths = {kind: stem.with_suffix(f".{kind}") for kind in CANVASES}
    with mpl.rc_context(_style(on)):
        figure.set_layout_engine("none")  # laid out once, the same in every format
        # Canvases write directly: savefig would draw everything a second time to find its size.
        with mock.patch.object(subset, "Options", _options_of_bare_fonts):
            for kind, (canvas, unwanted) in CANVASES.items():
                write = getattr(canvas(figure), f"print_{kind}")
                write(paths[kind], metadata=dict.fromkeys(unwanted))
    return list(paths.values())


def _options_of_bare_fonts(**given: Any) -> Any:
    """The options of an embedded font without LAYOUT_TABLES.

    A pdf places every glyph itself, and to read these tables takes an eighth of the time of all figures.
    """
    options = Options(**given)
    options.drop_tables = [*options.drop_tables, *LAYOUT_TABLES]
    return options


def save_all(
    found: Mapping[str, Chart | Absent], folder: Path, on: Page = PAGE, at_once: int = 1
) -> dict[str, list[Path]]:
    """Write every chart that is not absent to folder/NAME.png, .svg and .pdf; returns the files by name.

    `at_once` processes draw. More than one import the program's main module, which must start nothing when imported.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {name: chart for name, chart in found.items() if isinstance(chart, Chart)}
    stems = [folder / name for name in drawn]
    at_once = min(at_once, len(drawn) // LEAST_CHARTS)
    if at_once < 2:
        return dict(zip(drawn, map(save, drawn.values(), stems, repeat(on)), strict=True))
    with ProcessPoolExecutor(at_once, multiprocessing.get_context("spawn")) as pool:
        return dict(zip(drawn, pool.map(save, drawn.values(), stems, repeat(on)), strict=True))


def save_png(chart: Chart, path: Path) -> None:
    """Write one png, whatever the path is called."""
    figure = Figure(figsize=(PAGE.width, chart.height), dpi=DOTS_PER_INCH)
    canvas: Any = FigureCanvasAgg(figure)
    draw(chart, figure)
    with mpl.rc_context(STYLE):
        canvas.print_png(path, metadata={"Software": None})


def _style(on: Page) -> Any:
    """The style of a page; signs that its font lacks come from FONT."""
    return STYLE | {"font.family": list(dict.fromkeys([on.font, FONT]))}


def _lay_out(figure: Figure, drawn: list[Axes]) -> None:
    """Place everything, and once more where an axis label came out too long and had to be broken."""
    figure.draw_without_rendering()
    broken = False
    for axes in drawn:
        for own, side in ((axes.xaxis, "width"), (axes.yaxis, "height")):
            label = own.label.get_window_extent()
            taken, room = (getattr(box, side) for box in (label, axes.get_window_extent()))
            text = own.label.get_text()
            leaves = label.y1 > figure.bbox.height or label.x1 > figure.bbox.width or min(label.x0, label.y0) < 0
            if text and (taken > room * 1.15 or leaves):
                longest = max(len(line) for line in text.splitlines())
                width = max(int(longest * room / taken * 1.1), 10)
                own.set_label_text("\n".join(_words_wrapped(text, width)))
                broken = True
    if broken:
        figure.draw_without_rendering()


def _words_wrapped(text: str, width: int) -> list[str]:
    """Lines of whole words, of so many characters where no word is longer."""
    return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False, break_long_words=False)


def _draw_panel(panel: Panel, axes: Axes, width: float, height: float) -> list[Axes]:
    """Draw a panel on axes; returns them, and those of a second scale where the panel has one."""
    axes.set_xscale("log" if panel.x.log else "linear")
    axes.set_yscale("log" if panel.y.log else "linear")
    for mark in panel.marks:
        draw_mark(mark, axes)
    if panel.title:
        lines = panel.title.splitlines()  # a title of several lines is broken as it should be
        axes.set_title("\n".join(map(plain, lines)) if len(lines) > 1 else plain(panel.title, int(width / CHARACTER)))
    _draw_axis(panel.x, charts.limits(panel, "x"), axes, "x", width)
    limits = charts.limits(panel, "y")
    _draw_axis(panel.y, limits, axes, "y", height)
    other = charts.other_scale(panel.y, limits)
    if other is None:
        return [axes]
    twin = axes.twinx()
    twin.set_yscale("log" if panel.y.log else "linear")
    twin.spines["right"].set_visible(True)
    _draw_axis(*other, twin, "y", height)
    twin.grid(visible=False)
    return [axes, twin]


def _draw_axis(axis: Axis, limits: tuple[float, float], axes: Axes, along: str, inches: float) -> None:
    own = axes.xaxis if along == "x" else axes.yaxis
    (axes.set_xlim if along == "x" else axes.set_ylim)(*limits)
    own.set_label_text(plain(axis.label, max(int(inches / CHARACTER), LEAST_LABEL)))
    major, labels, minor = ticks(axis, limits, inches, across=along == "x")
    own.set_major_locator(FixedLocator(major))
    own.set_major_formatter(FixedFormatter([plain(shorten(label, 36)) if axis.ticks else "" for label in labels]))
    own.set_minor_locator(FixedLocator(minor))
    own.set_minor_formatter(NullFormatter())
    own.grid(False, which="minor")
    if not axis.ticks:
        own.set_tick_params(which="both", length=0)


def _draw_scale(scale: charts.ColorScale, figure: FigureBase, axes: list[Axes]) -> None:
    high = scale.high if scale.high > scale.low else scale.low * 1.01
    colors = ListedColormap([charts.viridis(k / 255) for k in range(256)])
    bar = figure.colorbar(
        ScalarMappable(LogNorm(scale.low, high), colors), ax=axes, aspect=30, pad=0.015, fraction=0.05
    )
    bar.outline.set_visible(False)
    bar.ax.grid(False)
    axis = Axis(scale.label, log=True, counts=scale.counts)
    _draw_axis(axis, (scale.low, high), bar.ax, "y", 2.4)


def _draw_legend(chart: Chart, figure: FigureBase, on: Page) -> None:
    entries = Legend.of(chart).entries
    if not entries:
        return
    handles = [handle(mark) for mark in entries.values()]
    labels = [plain(label, int(76 * on.width / PAGE.width) if chart.legend == "below" else 28) for label in entries]
    longest = max(len(line) for label in labels for line in label.splitlines())
    if chart.legend == "right":
        figure.legend(handles, labels, loc="outside right upper")
    else:
        columns = max(1, min(len(entries), int(on.width / (0.45 + CHARACTER * longest))))
        figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def empty(title: str, why: str, on: FigureBase | Axes) -> None:
    """Write the reason of an absent figure on the figure itself, or on axes."""
    with mpl.rc_context(STYLE):
        place: Any = {"transform": on.transAxes} if isinstance(on, Axes) else {}
        on.text(0.5, 0.5, plain(f"{title}: {why}", 70), ha="center", va="center", color="#404040", **place)
