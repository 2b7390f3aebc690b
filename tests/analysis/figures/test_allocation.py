"""The compute optimum against compute: a panel a quantity, the minima with their errors, and the law above."""

from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from scaling.analysis import figures
from scaling.analysis.figures import legends
from scaling.analysis.figures.chart import Chart, ColorScale, Line, Points, Words
from scaling.analysis.words import raised
from tests.analysis import simulated
from tests.analysis.conformance import analyse

Results = dict[str, Any]
QUANTITIES = ("params", "tokens", "loss", "tokens_per_param")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("allocation")
    observed = simulated.observe(simulated.table(noise_nats=0.003, seeds=2), folder)
    return analyse(observed, laws=("chinchilla",), bootstrap=20, holdout=None)


def test_every_panel_holds_the_minima_with_errors_and_the_line_of_its_law(results: Results) -> None:
    chart = figures.CHARTS["allocation"](results)
    assert isinstance(chart, Chart)
    study = results["isoflop"]
    for panel, name in zip(chart.panels, QUANTITIES, strict=True):
        assert panel is not None
        found = [budget["estimates"][study["used"]][name] for budget in study["budgets"]]
        (stars,) = [mark for mark in panel.marks if isinstance(mark, Points) and mark.marker == "star"]
        assert stars.y.tolist() == [one["value"] for one in found]
        assert stars.y_range is not None
        assert [end.tolist() for end in stars.y_range] == [[one[end] for one in found] for end in ("low", "high")]
        law = study["laws"][study["used"]][name]
        lines = [mark for mark in panel.marks if isinstance(mark, Line) and mark.label.startswith("power law")]
        assert [line.y.tolist() for line in lines] == [law["band"]["value"]]


def test_the_law_of_each_quantity_is_written_above_its_panel(results: Results) -> None:
    figure = Figure(figsize=(6.5, 6))
    figures.FIGURES["allocation"](results, figure)
    shown = {text.get_text() for text in figure.findobj(Text)}
    laws = results["isoflop"]["laws"][results["isoflop"]["used"]]
    for name, sign in (("params", "N* ∝ "), ("tokens", "D* ∝ "), ("tokens_per_param", "D*/N* ∝ ")):
        exponent, ends = laws[name]["exponent"], laws[name]["interval"]
        expected = f"{sign}C^{exponent:.3f} ({ends['low']:.3f} to {ends['high']:.3f})".replace("-", "−")
        assert raised(expected) in shown
    floor = laws["loss"]["floor"]
    assert any(text.startswith(f"L* − {floor:.3g} ∝ C" if floor else "L* ∝ C") for text in shown)


def test_the_labels_of_contours_have_as_many_decimals_as_each_other(results: Results) -> None:
    chart = figures.CHARTS["surface"](results)
    assert isinstance(chart, Chart)
    assert chart.panels[0] is not None
    labels = [mark.text for mark in chart.panels[0].marks if isinstance(mark, Words)]
    assert len(labels) > 3
    assert len({len(label.partition(".")[2]) for label in labels}) == 1


def test_compute_on_a_colour_scale_is_in_powers_of_ten(results: Results) -> None:
    chart = figures.CHARTS["seed_noise"](results)
    assert isinstance(chart, Chart)
    ramp = legends.scale(chart)
    assert ramp is not None
    assert (ramp.low, ramp.high) == ("10¹⁴", "3.00×10¹⁵")
    figure = Figure(figsize=(6.5, 4))
    figures.FIGURES["seed_noise"](results, figure)
    ticks = [label.get_text() for label in figure.axes[-1].get_yticklabels()]
    assert any("10¹" in tick for tick in ticks)
    assert not any(tick.endswith(("T", "P")) for tick in ticks)
    counts = legends.scale(Chart("", "", (), scale=ColorScale("parameters", 1e6, 1e9)))
    assert counts is not None
    assert (counts.low, counts.high) == ("1.00M", "1.00B")
