"""Kaplan's three panels: the frontier of the runs, the law written above it, and a second scale in bits per byte."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from scaling.analysis import figures
from scaling.analysis.figures import web
from scaling.analysis.figures.chart import Chart, Line, Points
from scaling.analysis.runs.observations import load
from tests.analysis import simulated
from tests.analysis.conformance import analyse

Results = dict[str, Any]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    root = tmp_path_factory.mktemp("runs") / "study"
    simulated.write_study(root)
    return analyse(load(root), bootstrap=0)


def drawn(results: Results) -> tuple[Chart, Figure]:
    chart = figures.CHARTS["kaplan"](results)
    assert isinstance(chart, Chart)
    figure = Figure(figsize=(6.5, chart.height))
    figures.FIGURES["kaplan"](results, figure)
    return chart, figure


def test_each_panel_bears_its_law_and_draws_its_points(results: Results) -> None:
    chart, figure = drawn(results)
    shown = " ".join(" ".join(text.get_text() for text in figure.findobj(Text)).split())
    for panel, (name, entry) in zip(chart.panels, results["frontiers"]["by"].items(), strict=True):
        assert panel is not None
        law = entry["law"]
        assert f"{law['exponent']:.3f}"[1:].replace(".", "·") in panel_title(shown), name
        line = next(mark for mark in panel.marks if isinstance(mark, Line))
        np.testing.assert_allclose(line.y, (law["scale"] / line.x) ** law["exponent"])
        filled = [mark for mark in panel.marks if isinstance(mark, Points) and mark.label == "on the frontier"]
        ample = [loss for loss, used in zip(entry["loss"], entry["ample"], strict=True) if used]
        assert filled[0].y.tolist() == ample
    for head in ("ample data", "ample size", "all runs"):
        assert head in shown


def panel_title(shown: str) -> str:
    """Superscript digits as plain ones."""
    return shown.translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789"))


def test_a_panel_without_a_law_says_so(results: Results) -> None:
    changed = copy.deepcopy(results)
    changed["frontiers"]["by"]["tokens"] |= {"law": None, "why": "a law needs 3 points, and 1 are of ample size"}
    chart, figure = drawn(changed)
    assert "ample size\nno law" in " ".join(text.get_text() for text in figure.findobj(Text))
    assert "No law in D: a law needs 3 points" in chart.caption


def test_losses_have_a_second_scale_in_bits_per_byte_where_it_is_known(results: Results) -> None:
    assert results["bytes_per_token"] == pytest.approx(simulated.BYTES_PER_TOKEN)
    factor = 1 / (np.log(2) * simulated.BYTES_PER_TOKEN)
    for name in ("isoflop", "kaplan", "loss_laws", "allocation"):
        chart = figures.CHARTS[name](results)
        assert isinstance(chart, Chart)
        figure = Figure(figsize=(6.5, chart.height))
        figures.FIGURES[name](results, figure)
        (other,) = [axes for axes in figure.axes if axes.get_ylabel().replace("\n", " ") == "bits per byte"]
        pairs = [axes for axes in figure.axes if axes is not other and axes.bbox.bounds == other.bbox.bounds]
        (own,) = pairs
        np.testing.assert_allclose(np.array(other.get_ylim()) / factor, own.get_ylim())
        assert any(label.get_text() for label in other.get_yticklabels())
        plots = [plot for plot in web.figure(chart)["panels"] if plot and "yaxis2" in plot["layout"]]
        (plot,) = plots
        assert [trace["yaxis"] for trace in plot["data"] if "yaxis" in trace] == ["y2"]
    without = results | {"bytes_per_token": None}
    figure = Figure()
    figures.FIGURES["isoflop"](without, figure)
    assert not any("bits per byte" in text.get_text() for text in figure.findobj(Text))


def test_older_documents_have_no_panels(results: Results, tmp_path: Path) -> None:
    older = {name: part for name, part in results.items() if name != "frontiers"}
    found = figures.CHARTS["kaplan"](older)
    assert not isinstance(found, Chart)
    assert "fit the data again" in found.why
