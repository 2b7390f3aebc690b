"""Figures draw what the results hold, in three formats, the same every time; and say why where they cannot."""

import copy
import itertools
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from scaling.analysis import figures
from scaling.analysis.figures import paper, web
from scaling.analysis.figures.chart import Absent, Axis, Band, Chart, Line, Panel, Points, Rule, limits, ordered_colors
from scaling.analysis.figures.pages import TEXT_WIDTH
from scaling.analysis.figures.ticks import CHARACTER, ticks
from scaling.analysis.runs.observations import load
from scaling.analysis.words import count, number, scientific
from tests.analysis import simulated
from tests.analysis.conformance import analyse

Results = dict[str, Any]


@pytest.fixture(scope="session")
def table_results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Runs from a table: final losses alone."""
    frame = simulated.table(noise_nats=0.01, seeds=2, budgets=(1e14, 3e14, 1e15))
    observed = simulated.observe(frame, tmp_path_factory.mktemp("table"))
    return analyse(observed, laws=("chinchilla", "kaplan"), bootstrap=40)


@pytest.fixture(scope="session")
def study_results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """A study of run folders with training curves."""
    root = tmp_path_factory.mktemp("runs") / "study"
    simulated.write_study(root, points=150, repeats=2)
    results = analyse(load(root, curves=True), laws=("chinchilla", "power:N"), bootstrap=40)
    return simulated.with_forecast(results, root)


def draw(name: str, results: Results) -> Figure:
    figure = Figure(figsize=(6.5, 4))
    figures.FIGURES[name](results, figure)
    figure.draw_without_rendering()
    return figure


def texts(figure: Figure) -> str:
    return "\n".join(one.get_text() for one in figure.findobj(Text))


def every_label(chart: Chart) -> list[Axis]:
    return [axis for panel in chart.panels if panel for axis in (panel.x, panel.y)]


@pytest.mark.parametrize("name", figures.FIGURES)
def test_a_table_fills_every_figure_but_those_of_training_curves(name: str, table_results: Results) -> None:
    found = figures.CHARTS[name](table_results)
    of_studies = ("prices", "registered")
    of_curves = ("envelope", "training_curves", "cooldowns", "collapse", "noise_scale")
    assert isinstance(found, Absent) == (name in (*of_studies, *of_curves))
    if isinstance(found, Absent) and name not in of_studies:
        assert "no training curves" in texts(draw(name, table_results)).replace("\n", " ")


def test_figures_are_written_in_three_formats_and_alike_by_one_process_or_two(
    table_results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        figures, "CHARTS", {name: figures.CHARTS[name] for name in ("isoflop", "exponents", "envelope")}
    )
    charts = {name: make(table_results) for name, make in figures.CHARTS.items()}
    monkeypatch.setattr(paper, "LEAST_CHARTS", 1)
    saved = [paper.save_all(charts, tmp_path / folder, at_once=k) for folder, k in (("a", 1), ("b", 2))]
    written = [[path for paths in files.values() for path in paths] for files in saved]
    assert [path.name for path in written[0]] == [
        f"{name}.{kind}" for name in ("isoflop", "exponents") for kind in ("png", "svg", "pdf")
    ]
    assert [path.read_bytes() for path in written[0]] == [path.read_bytes() for path in written[1]]


def test_drawing_leaves_no_global_state(study_results: Results) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    draw("isoflop", study_results)
    assert dict(mpl.rcParams) == before
    heavy = {"matplotlib", "plotly", "jinja2"}
    code = f"import sys, scaling.analysis.report.page, scaling.analysis.figures; print({heavy} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"


def drawn_points(panel: Panel) -> list[Points]:
    """The points of a panel but for the empty ones, which stand in its legend alone."""
    return [mark for mark in panel.marks if isinstance(mark, Points) and len(mark.x)]


def test_isoflop_draws_the_runs_and_minima_of_the_results(study_results: Results) -> None:
    chart = figures.CHARTS["isoflop"](study_results)
    assert isinstance(chart, Chart)
    assert chart.panels[0] is not None
    study, points = study_results["isoflop"], drawn_points(chart.panels[0])
    runs, minima = points[: len(study["budgets"])], points[len(study["budgets"]) :]
    for budget, drawn, minimum in zip(study["budgets"], runs, minima, strict=True):
        used = budget["estimates"][study["used"]]
        assert drawn.x.tolist() == budget["params"]
        assert drawn.y.tolist() == budget["loss"]
        assert minimum.x.tolist() == [used["params"]["value"]]
        assert minimum.x_range is not None
        assert [end.tolist() for end in minimum.x_range] == [[used["params"]["low"]], [used["params"]["high"]]]


def test_a_minimum_on_the_edge_is_drawn_open_and_without_interval(study_results: Results) -> None:
    results = copy.deepcopy(study_results)
    study = results["isoflop"]
    study["budgets"][0]["estimates"][study["used"]]["edge"] = "at the edge"
    chart = figures.CHARTS["isoflop"](results)
    assert isinstance(chart, Chart)
    assert chart.panels[0] is not None
    stars = [mark for mark in drawn_points(chart.panels[0]) if mark.marker == "star"]
    assert [star.filled for star in stars] == [False] + [True] * (len(stars) - 1)
    assert stars[0].x_range is None


def test_budgets_differ_in_colour_and_marker(study_results: Results) -> None:
    chart = figures.CHARTS["isoflop"](study_results)
    assert isinstance(chart, Chart)
    assert chart.panels[0] is not None
    runs = [mark for mark in drawn_points(chart.panels[0]) if mark.marker != "star"]
    assert (
        len({mark.color for mark in runs})
        == len({mark.marker for mark in runs})
        == len(study_results["isoflop"]["budgets"])
    )
    assert len(set(ordered_colors(20))) == 20


@pytest.mark.parametrize(
    "name", ["isoflop", "allocation", "surface", "loss_laws", "training_curves", "envelope", "choices"]
)
def test_axes_name_the_counting_convention(name: str, study_results: Results) -> None:
    chart = figures.CHARTS[name](study_results)
    assert isinstance(chart, Chart)
    labels = " ".join(axis.label for axis in every_label(chart))
    words = study_results["conventions"]
    assert words["params"] in labels or words["flops"] in labels
    assert "non-embedding" in labels or name == "training_curves"
    shown = " ".join(texts(draw(name, study_results)).split())
    for axis in every_label(chart):
        assert " ".join(axis.label.split()) in shown


@pytest.mark.parametrize("name", figures.FIGURES)
def test_a_study_fills_every_figure_and_no_label_leaves_it_or_covers_another(name: str, study_results: Results) -> None:
    chart = figures.CHARTS[name](study_results)
    assert isinstance(chart, Chart)
    figure = Figure(figsize=(TEXT_WIDTH, chart.height))
    figures.FIGURES[name](study_results, figure)
    width, height = figure.get_size_inches() * figure.dpi
    assert len(figure.axes) >= len([panel for panel in chart.panels if panel])
    for axes in figure.axes:
        for own, side in ((axes.xaxis, "intervalx"), (axes.yaxis, "intervaly")):
            boxes = [one.get_window_extent() for one in own.get_ticklabels() if one.get_text() and one.get_visible()]
            for box in [*boxes, *([own.label.get_window_extent()] if own.label.get_text() else [])]:
                assert min(box.x0, box.y0) > -1
                assert box.x1 < width + 1
                assert box.y1 < height + 1
            ends = sorted(getattr(box, side).tolist() for box in boxes)
            assert all(one[1] <= other[0] + 1 for one, other in itertools.pairwise(ends))


def test_text_in_print_is_at_least_nine_points(study_results: Results) -> None:
    for name in ("isoflop", "parameters", "choices"):
        figure = draw(name, study_results)
        sizes = {
            one.get_fontsize()
            for axes in figure.axes
            for one in [*axes.get_xticklabels(), axes.xaxis.label, axes.title]
        }
        assert min(float(size) for size in sizes) >= 9


def test_without_resamples_no_band_is_drawn_and_absent_figures_say_why(tmp_path: Path) -> None:
    results = analyse(simulated.observe(simulated.table(noise_nats=0.01), tmp_path), bootstrap=0)
    found = {name: chart(results) for name, chart in figures.CHARTS.items()}
    drawn = [one for one in found.values() if isinstance(one, Chart)]
    assert not any(isinstance(mark, Band) for chart in drawn for panel in chart.panels if panel for mark in panel.marks)
    for name in ("parameters", "rollout", "choices", "influence"):
        one = found[name]
        assert isinstance(one, Absent)
        assert "resamples" in one.why
    for name in ("isoflop", "allocation", "surface", "exponents"):
        assert len(draw(name, results).axes) > 0


@pytest.mark.long
@pytest.mark.parametrize("budgets", [(1e15,), tuple(np.geomspace(1e13, 1e17, 20))])
def test_one_budget_and_twenty_draw(budgets: tuple[float, ...], tmp_path: Path) -> None:
    frame = simulated.table(noise_nats=0.005, budgets=budgets)
    laws = ("chinchilla",) if len(budgets) > 1 else ("chinchilla", "power:N")  # one budget determines no law of N and D
    results = analyse(simulated.observe(frame, tmp_path), laws=laws, bootstrap=4, holdout=None)
    for name in ("isoflop", "estimators", "allocation", "exponents", "loss_laws", "residuals", "parameters"):
        assert texts(draw(name, results)).strip()


@pytest.mark.parametrize("scale", [1e-2, 1e6])
def test_tiny_and_huge_models_draw(scale: float, study_results: Results) -> None:
    results = scaled(study_results, scale)
    for name in ("isoflop", "allocation", "surface", "estimators", "choices"):
        assert len(draw(name, results).axes) > 0


def scaled(value: Any, factor: float, key: str = "") -> Any:
    """The document with every count of parameters times a factor."""
    if isinstance(value, dict):
        return {
            name: scaled(one, factor, key if name in ("value", "low", "high") else name) for name, one in value.items()
        }
    if isinstance(value, list):
        return [scaled(one, factor, key) for one in value]
    return value * factor if key == "params" and isinstance(value, float) else value


def test_a_document_without_anything_but_refused_fits_draws_nothing_and_says_so(study_results: Results) -> None:
    results = copy.deepcopy(study_results)
    for entry in results["fits"]:
        entry |= {
            "status": "refused",
            "params": {},
            "derived": {},
            "draws": None,
            "optimum": None,
            "surface": None,
            "residuals": [],
        }
    results |= {"isoflop": None, "envelope": None, "curves": [], "holdout": None, "influence": None, "choices": None}
    results |= {"prices": None, "serving": None, "registered": None, "frontiers": None}
    results["health"] = {name: {"why": "nothing was fitted"} for name in results["health"]}
    results["forecast"] |= {"forms": [], "at_target": None}
    results["observations"]["budget"] = [None] * len(results["observations"]["budget"])
    absent = {name for name in figures.FIGURES if isinstance(figures.CHARTS[name](results), Absent)}
    assert absent == set(figures.FIGURES) - {"loss_laws"}
    for name in figures.FIGURES:
        draw(name, results)


@pytest.mark.parametrize(
    "name", [r"$\nope{$", "_private", "名前", "a\tb\nc", "<script>alert(1)</script>", "x" * 200, "{}%s", "\u2028"]
)
def test_any_run_name_draws(name: str, study_results: Results, tmp_path: Path) -> None:
    results = copy.deepcopy(study_results)
    for run in results["influence"]["runs"]:
        run["run"] = name
    chart = figures.CHARTS["influence"](results)
    assert isinstance(chart, Chart)
    assert len(paper.save(chart, tmp_path / "influence")) == 3


def test_unknown_figures_are_named() -> None:
    with pytest.raises(ValueError, match="unknown figure 'isoflops'.*isoflop"):
        figures.draw("isoflops", {}, Figure())


@pytest.mark.parametrize(
    "limits_of_axis", [(1e3, 1e12), (2.0, 3.4), (1.1e9, 1.3e9), (7e7, 3e8), (2e18, 3e22), (0.9, 11.0), (3e11, 4e11)]
)
@pytest.mark.parametrize("inches", [0.9, 1.6, 5.0])
@pytest.mark.parametrize("counts", [False, True])
def test_log_ticks_lie_inside_and_leave_room(limits_of_axis: tuple[float, float], inches: float, counts: bool) -> None:
    low, high = limits_of_axis
    major, labels, minor = ticks(Axis("", log=True, counts=counts), limits_of_axis, inches, across=True)
    assert len(major) == len(labels) >= 1
    assert all(low <= at <= high for at in [*major, *minor])
    gaps = np.diff(np.log(major)) / np.log(high / low) * inches
    assert all(gap >= max(map(len, labels)) * CHARACTER for gap in gaps)


def test_linear_ticks_share_their_decimals() -> None:
    _, labels, _ = ticks(Axis(""), (2.2, 3.4), 4.0, across=False)
    assert len({len(label.partition(".")[2]) for label in labels}) == 1


def test_numbers_in_words() -> None:
    assert count(34e9) == "34.0B"
    assert count(999.6e9) == "1.00T"
    assert count(2.64e9) == "2.64B"
    assert count(5e15) == "5.00×10¹⁵"
    assert count(1e6, trim=True) == "1M"
    assert scientific(1.2956e23) == "1.30×10²³"
    assert scientific(1e20) == "10²⁰"
    assert number(-0.16796) == "−0.1680"
    assert number(None) == "–"


def test_limits_hold_points_with_their_intervals() -> None:
    points = Points(
        np.array([1.0, np.nan]),
        np.array([1.0, 5.0]),
        "#000000",
        x_range=(np.array([0.5, np.nan]), np.array([4.0, np.nan])),
    )
    low, high = limits(
        Panel(Axis(""), Axis(""), (points, Rule(9.0), Line(np.array([2.0]), np.array([2.0]), "#000000"))), "x"
    )
    assert low < 0.5
    assert 4 < high < 9


def test_plotly_gets_no_markup_from_data(study_results: Results) -> None:
    results = copy.deepcopy(study_results)
    bad = '<a href="https://example.org">x</a>'
    results["conventions"] = dict.fromkeys(results["conventions"], bad)
    results["observations"]["run_id"] = [bad] * len(results["observations"]["run_id"])
    results["fits"][0]["name"] = results["forecast"]["forms"][0] = bad
    for run in results["influence"]["runs"]:
        run["run"] = bad
    for curve in results["curves"]:
        curve["run_id"] = bad
    for grade in results["registered"]["entries"]:
        grade["words"] = grade["forecast"]["method"]["name"] = bad
    for name in ("collapse", "noise_scale"):
        results["health"][name]["runs"]["run_id"] = [bad for _ in results["health"][name]["runs"]["run_id"]]
    for name, chart in figures.CHARTS.items():
        found = chart(results)
        assert isinstance(found, Chart), name
        tags = set(re.findall(r"<[^>]*>?", str(web.figure(found))))
        assert tags <= {"<br>"}, name


def test_plotly_hides_what_is_not_a_number(table_results: Results) -> None:
    chart = Chart(
        "",
        "",
        (Panel(Axis("", log=True), Axis(""), (Line(np.array([1.0, 2.0]), np.array([np.nan, 1.0]), "#000000"),)),),
    )
    assert web.figure(chart)["panels"][0]["data"][0]["y"] == [None, 1.0]
