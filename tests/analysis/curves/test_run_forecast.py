"""The end of a run forecast from its middle: beside finished runs, alone, and of runs that have nothing to forecast."""

from pathlib import Path

import numpy as np
import pytest

from scaling.analysis.curves.ends import half_width, inside
from scaling.analysis.curves.run_forecast import describe_run, forecast_run
from scaling.analysis.schema.whole_curves import RunForecast
from scaling.spec.run_spec import ScheduleSpec
from tests.analysis.conformance import assert_conforms
from tests.analysis.curves.simulated import LINEAR, by_annealing, spec_of, write_run, write_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six finished runs, and one stopped before its cooldown."""
    folder = tmp_path_factory.mktemp("study")
    write_study(folder, [spec_of(LINEAR, seed=seed, width=width) for seed in (1, 2, 3) for width in (24, 30)])
    return folder


def test_finished_runs_forecast_a_cooldown_that_lies_ahead(study: Path) -> None:
    spec = spec_of(LINEAR, seed=5)
    losses = by_annealing(spec)
    found = forecast_run(write_run(study, spec, losses, done=400))
    assert_conforms(found, RunForecast)
    assert found["loss"] is not None
    assert found["rollouts"] is not None
    truth = losses[-1] + 0.05
    assert found["loss"]["value"] == pytest.approx(truth, rel=5e-3)
    assert found["loss"]["low"] < truth < found["loss"]["high"]  # type: ignore[operator]
    assert found["loss"]["value"] < 0.99 * found["present"]  # the gain of the cooldown is in the forecast
    assert found["rollouts"]["of"] == "study"
    assert found["rollouts"]["count"] == 6
    words = describe_run(found)
    assert "running, step 400 of 600 (67%), learning rate linear over 25%" in words
    assert "held out: 6 finished runs cut at 67% of their steps, rms error" in words


def test_a_run_alone_has_a_wider_interval_that_holds_its_end(tmp_path: Path, study: Path) -> None:
    spec = spec_of(LINEAR, seed=6)
    losses = by_annealing(spec)
    alone, beside = (forecast_run(write_run(folder, spec, losses, done=400)) for folder in (tmp_path, study))
    assert alone["loss"] is not None
    assert beside["loss"] is not None
    assert alone["rollouts"] is not None
    assert alone["rollouts"]["of"] == "run"
    assert alone["loss"]["low"] < losses[-1] + 0.05 < alone["loss"]["high"]  # type: ignore[operator]
    widths = [np.log(one["high"] / one["low"]) for one in (alone["loss"], beside["loss"])]  # type: ignore[operator]
    assert widths[0] > 2 * widths[1]
    assert "fewer than 5 finished runs of the study" in alone["words"]


def test_a_finished_run_answers_its_own_end(tmp_path: Path) -> None:
    spec = spec_of(LINEAR)
    found = forecast_run(write_run(tmp_path, spec, by_annealing(spec)))
    assert_conforms(found, RunForecast)
    assert found["final"] == pytest.approx(by_annealing(spec)[-1] + 0.05)
    assert found["loss"] is None
    assert "finished already, with validation loss" in describe_run(found)


def test_a_run_with_too_few_rows_is_refused_with_the_remedy(tmp_path: Path) -> None:
    spec = spec_of(LINEAR)
    folder = write_run(tmp_path, spec, by_annealing(spec), done=80)
    with pytest.raises(ValueError, match=r"hold \d rows from step 58 to 80 of 600: a forecast takes 12; wait, or log"):
        forecast_run(folder)


def test_before_any_validation_the_training_loss_is_forecast(tmp_path: Path) -> None:
    spec = spec_of(LINEAR)
    found = forecast_run(write_run(tmp_path, spec, by_annealing(spec), done=140))
    assert found["forecasts"] == "training"
    assert "forecast training loss at the end" in describe_run(found)


def test_intervals_from_errors_hold_the_share_that_they_state() -> None:
    drawn = np.random.default_rng(0).normal(size=(4000, 8))
    held = [abs(row[0]) <= half_width(row[1:]) for row in drawn]
    assert np.mean(held) == pytest.approx(0.95, abs=0.01)
    assert inside(np.array([0.01, -0.012, 0.011, 0.009, 0.5])) == 4


def test_a_run_after_a_long_warm_up_is_rolled_out_from_its_middle_point(tmp_path: Path) -> None:
    spec = spec_of(ScheduleSpec("wsd", 300, 150, "linear", 0.0))
    found = forecast_run(write_run(tmp_path, spec, by_annealing(spec), done=400))
    assert found["rollouts"] is not None
    assert found["rollouts"]["count"] == 1
    assert found["loss"] is not None
    assert found["loss"]["low"] < found["loss"]["value"] < found["loss"]["high"]  # type: ignore[operator]
