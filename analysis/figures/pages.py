"""The pages that figures are saved for: a report's own, or the column of a paper."""

import re
from dataclasses import dataclass, replace

from scaling.analysis.figures.chart import Chart
from scaling.registry import choose

FONT = "DejaVu Sans"  # comes with matplotlib, so the same everywhere
TEXT_WIDTH = 6.5  # inches of a printed page's text, for which charts state their heights
LEAST_PANEL = 2.0  # inches of width that a panel with axes of its own needs
LEAST_HEIGHT = 0.75  # share of its height that a narrower panel keeps
INCHES = {"in": 1.0, "cm": 1 / 2.54, "mm": 1 / 25.4, "pt": 1 / 72.27}  # of a length, points as TeX counts them
NARROWEST, WIDEST = 1.5, 40.0  # inches of a figure


@dataclass(frozen=True)
class Page:
    """The page that figures are saved for: the width of a figure in inches, and the font of its text."""

    width: float = TEXT_WIDTH
    font: str = FONT

    def fit(self, chart: Chart) -> Chart:
        """The chart with as many panels in a row as a narrow page has room for, and a height to match."""
        if self.width >= TEXT_WIDTH:
            return chart
        chart = replace(chart, legend="below")
        if chart.matrix:
            return chart
        columns = max(1, min(chart.columns, int(self.width / LEAST_PANEL)))
        rows, before = -(-len(chart.panels) // columns), -(-len(chart.panels) // chart.columns)
        narrower = self.width / columns / (TEXT_WIDTH / chart.columns)
        panels = [
            panel
            if panel is None or k % columns or not panel.y.names
            else replace(panel, y=replace(panel.y, ticks=True))
            for k, panel in enumerate(chart.panels)
        ]
        return replace(
            chart,
            panels=tuple(panels),
            columns=columns,
            row_heights=chart.row_heights if columns == chart.columns else (),
            height=chart.height * rows / before * min(max(narrower, LEAST_HEIGHT), 1.0),
        )


PAGE = Page()


def page(width: str | None, font: str | None) -> Page:
    """The page of a width such as 3.25in, 8.3cm or 234pt, and an installed font; ValueError names a wrong one."""
    if font is not None:
        from matplotlib.font_manager import fontManager

        installed = dict.fromkeys(sorted({entry.name for entry in fontManager.ttflist}))
        choose("font", installed, font)
    return Page(TEXT_WIDTH if width is None else _inches(width), font or FONT)


def _inches(width: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+) ?(in|cm|mm|pt)", width.strip())
    if found is None:
        raise ValueError(f"--width {width}: give a number and one of {', '.join(INCHES)}, e.g. --width 3.25in")
    inches = float(found[1]) * INCHES[found[2]]
    if not NARROWEST <= inches <= WIDEST:
        raise ValueError(f"--width {width}: a figure is {NARROWEST:g} to {WIDEST:g} inches wide, e.g. --width 3.25in")
    return inches
