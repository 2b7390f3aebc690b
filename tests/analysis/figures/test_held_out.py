"""Predicted against measured at held-out budgets: every roll-out of the document, at the minimum that was measured."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from scaling.analysis import figures
from scaling.analysis.figures import held_out
from scaling.analysis.figures.chart import Absent, Chart, Points
from tests.analysis import simulated
from tests.analysis.conformance import analyse

Results = dict[str, Any]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Results that the log mean of forecasters answers."""
    folder = tmp_path_factory.mktemp("held-out")
    return analyse(simulated.observe(simulated.table(noise_nats=0.01, seeds=2), folder), bootstrap=5)


def test_every_roll_out_lies_at_its_measured_minimum_and_its_error(results: Results) -> None:
    chart = held_out.predicted(results)  # type: ignore[arg-type]
    assert isinstance(chart, Chart)
    trials = results["forecast"]["ensemble"]["predictions"]
    study = results["isoflop"]
    for panel, quantity in zip(chart.panels, ("loss", "params"), strict=True):
        assert panel is not None
        points = {mark.label: mark for mark in panel.marks if isinstance(mark, Points)}
        assert set(points) == {trial["forecaster"] for trial in trials}
        for name, mark in points.items():
            mine = [trial for trial in trials if trial["forecaster"] == name]
            np.testing.assert_allclose(np.log(mark.x / mark.y), [trial[quantity] for trial in mine], atol=1e-9)
            minima = {
                budget["estimates"][study["used"]][quantity]["value"]
                for budget in study["budgets"]
                if any(np.isclose(budget["budget_flops"], trial["tested_at_flops"], rtol=0.01) for trial in mine)
            }
            assert set(mark.x.tolist()) == minima


def test_the_headline_is_a_star_in_front(results: Results) -> None:
    chart = held_out.predicted(results)  # type: ignore[arg-type]
    assert isinstance(chart, Chart)
    members = {member["name"] for member in results["forecast"]["ensemble"]["members"]}
    for panel in chart.panels:
        assert panel is not None
        stars = [mark for mark in panel.marks if isinstance(mark, Points) and mark.marker == "star"]
        assert len(stars) == 1
        assert stars[0].label not in members
        assert panel.marks[-1] is stars[0]


def test_predicted_and_measured_share_their_limits_on_paper(results: Results) -> None:
    figure = Figure(figsize=(6.5, 4))
    figures.FIGURES["held_out"](results, figure)
    for axes in figure.axes[:2]:
        assert axes.get_xlim() == axes.get_ylim()
        assert "measured" in axes.get_xlabel()
        assert "predicted" in axes.get_ylabel()


def test_a_law_that_answers_alone_is_judged_by_its_own_roll_outs(tmp_path: Path) -> None:
    observed = simulated.observe(simulated.table(noise_nats=0.01, seeds=2), tmp_path)
    chart = held_out.predicted(analyse(observed, laws=("chinchilla",), bootstrap=5))  # type: ignore[arg-type]
    assert isinstance(chart, Chart)
    assert "Each law" in chart.caption
    without = held_out.predicted(analyse(observed, bootstrap=0))  # type: ignore[arg-type]
    assert isinstance(without, Absent)
    assert "no budget was held out" in without.why
