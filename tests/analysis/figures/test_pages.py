"""Pages of figures: the width and the font of a paper's column."""

import io
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
from fontTools import subset
from fontTools.subset import Options
from fontTools.ttLib import TTFont
from matplotlib.image import imread

from scaling.analysis.figures import paper
from scaling.analysis.figures.chart import Axis, Chart, Panel, Points
from scaling.analysis.figures.pages import FONT, TEXT_WIDTH, Page, page

POINTS = (Points(np.array([1.0, 2.0]), np.array([0.0, 1.0]), "#0072B2", label="runs"),)
NAMED = Axis("", limits=(-0.5, 1.5), names=("one", "two"))
HIDDEN = Axis("", limits=(-0.5, 1.5), names=("one", "two"), ticks=False)
CHART = Chart("t", "c", (Panel(Axis("x"), NAMED, POINTS), Panel(Axis("x"), HIDDEN, POINTS)), 2, 2.0, legend="right")


@pytest.mark.parametrize(("text", "inches"), [("3.25in", 3.25), ("8.255 cm", 3.25), ("240pt", 3.3209)])
def test_a_width_has_the_unit_of_a_journal(text: str, inches: float) -> None:
    assert page(text, None).width == pytest.approx(inches, rel=1e-4)


@pytest.mark.parametrize(
    ("width", "font", "message"),
    [
        ("3", None, r"--width 3: give a number and one of in, cm, mm, pt, e\.g\. --width 3\.25in"),
        ("wide", None, "--width wide: give a number"),
        ("3in and more", None, "give a number"),
        ("900cm", None, r"--width 900cm: a figure is 1\.5 to 40 inches wide"),
        ("1mm", None, "is 1.5 to 40 inches wide"),
        (None, "Dejavu Serf", "unknown font 'Dejavu Serf': did you mean 'DejaVu Serif'"),
    ],
)
def test_an_impossible_page_is_refused(width: str | None, font: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        page(width, font)


def test_a_narrow_page_has_fewer_panels_a_row_and_names_beside_each_row() -> None:
    assert Page().fit(CHART) == CHART
    narrow = Page(3.25).fit(CHART)
    assert (narrow.columns, narrow.legend) == (1, "below")
    assert narrow.height == pytest.approx(2 * CHART.height)
    assert [panel.y.ticks for panel in narrow.panels if panel] == [True, True]
    assert Page(4.5).fit(CHART).columns == 2


def test_figures_are_saved_in_the_width_and_the_font_of_a_page(tmp_path: Path) -> None:
    for on in (Page(), page("3.25in", "DejaVu Serif")):
        png, svg, pdf = paper.save(CHART, tmp_path / f"{on.font}", on)
        assert imread(png).shape[1] == round(on.width * paper.DOTS_PER_INCH)
        assert f'width="{on.width * 72:g}pt"' in svg.read_text()
        assert on.font.replace(" ", "").encode() in pdf.read_bytes()
    assert (Page().width, Page().font) == (TEXT_WIDTH, FONT)


def test_a_pdf_embeds_truetype_fonts_without_tables_of_layout(tmp_path: Path) -> None:
    *_, pdf = paper.save(CHART, tmp_path / "chart")
    streams = re.findall(rb"/Length1 \d+.*?stream\r?\n(.*?)\r?\nendstream", pdf.read_bytes(), re.DOTALL)
    fonts = [TTFont(io.BytesIO(zlib.decompress(stream))) for stream in streams]
    assert fonts
    for font in fonts:
        assert "glyf" in font
        assert not set(paper.LAYOUT_TABLES) & set(font.keys())
    assert subset.Options is Options
