"""Grades: error, z and interval of a forecast by the record of its target, and the running calibration."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scaling.analysis import figures
from scaling.analysis.design.grading import calibration_words, grade_lines, grades_section
from scaling.analysis.design.registration import register, registered
from scaling.analysis.figures.chart import Absent, Chart, Points
from scaling.analysis.report.grades import grades as table
from tests.analysis.design.test_registration import CODE, FLOPS, ahead, publish, target_record


def graded(fitted: tuple[Path, Any], study: Path, folder: Path, **changes: Any) -> Any:
    """The grade of the only forecast, by a record with these changes."""
    path, _ = ahead(fitted, study, flops=FLOPS)
    record = target_record(study, path)
    elsewhere = publish(replace(record, **changes), folder / "elsewhere")
    return grades_section(study, [elsewhere])


def test_a_grade_states_error_z_and_whether_the_interval_held(
    fitted: tuple[Path, Any], study: Path, tmp_path: Path
) -> None:
    ahead(fitted, study, flops=FLOPS)
    loss = registered(study)[0].forecast["loss"]  # type: ignore[index]
    section = graded(fitted, study, tmp_path / "a", val_loss_nats=loss["high"])
    (entry,) = section["entries"]
    assert entry["z"] == pytest.approx(1.959964, rel=1e-6)
    assert entry["error"] == pytest.approx(loss["value"] / loss["high"] - 1)
    assert (entry["state"], entry["inside"], section["graded"], section["inside"]) == ("graded", True, 1, 1)
    beyond = graded(fitted, study, tmp_path / "b", val_loss_nats=loss["low"] * 0.999)
    assert beyond["entries"][0]["z"] < -1.959964
    assert (beyond["entries"][0]["inside"], beyond["graded"], beyond["inside"]) == (False, 1, 0)
    assert "OUTSIDE the interval" in beyond["entries"][0]["words"]


@pytest.mark.parametrize(
    ("factor", "state"), [(1.2, "graded"), (1 / 1.2, "graded"), (1.3, "waiting"), (1 / 1.3, "waiting")]
)
def test_a_size_near_the_predicted_optimum_is_the_target(
    factor: float, state: str, fitted: tuple[Path, Any], study: Path, tmp_path: Path
) -> None:
    path, _ = ahead(fitted, study, flops=FLOPS)
    sizes = target_record(study, path).n_params
    section = graded(fitted, study, tmp_path, n_params={name: round(factor * n) for name, n in sizes.items()})
    assert section["entries"][0]["state"] == state


@pytest.mark.parametrize(("of_tokens", "of_flops", "state"), [(0.9, 1.0, "graded"), (1.0, 1.1, "waiting")])
def test_a_size_and_a_compute_are_matched_as_given_whatever_tokens_the_forecast_took(
    of_tokens: float, of_flops: float, state: str, fitted: tuple[Path, Any], study: Path, tmp_path: Path
) -> None:
    """The tokens beside a size and a compute rest on a cost that is extrapolated: here it is 10% off."""
    path, _ = ahead(fitted, study, params=2e5, flops=FLOPS)
    record = target_record(study, path)
    trained = replace(
        record,
        train_tokens=round(of_tokens * record.train_tokens),
        train_flops=round(of_flops * record.train_flops),
    )
    section = grades_section(study, [publish(trained, tmp_path / "elsewhere")])
    assert section is not None
    assert section["entries"][0]["state"] == state


def test_a_run_of_other_data_or_settings_is_not_the_target(
    fitted: tuple[Path, Any], study: Path, tmp_path: Path
) -> None:
    section = graded(fitted, study, tmp_path, spec={"recipe": {"schedule": {"kind": "cosine"}}})
    (entry,) = section["entries"]
    assert entry["state"] == "waiting"
    assert (
        "elsewhere/hero has the target's counts but other settings (recipe.schedule.kind cosine for wsd)"
        in (entry["words"])
    )


def test_a_run_that_had_started_before_counts_for_nothing(
    fitted: tuple[Path, Any], study: Path, tmp_path: Path
) -> None:
    section = graded(fitted, study, tmp_path, started_at="2001-01-01T00:00:00+00:00")
    assert section["entries"][0]["state"] == "late"
    assert section["graded"] == 0
    assert "had started, so it counts for nothing" in section["entries"][0]["words"]


def test_a_diverged_target_is_named(fitted: tuple[Path, Any], study: Path, tmp_path: Path) -> None:
    section = graded(fitted, study, tmp_path, status="diverged", val_loss_nats=None)
    assert section["entries"][0]["state"] == "diverged"
    assert section["entries"][0]["error"] is None


def test_the_first_of_several_records_grades(fitted: tuple[Path, Any], study: Path, tmp_path: Path) -> None:
    path, _ = ahead(fitted, study, flops=FLOPS)
    first = target_record(study, path)
    publish(replace(first, run_id="again", ended_at="2999-01-02T00:00:00+00:00"), tmp_path / "elsewhere")
    section = grades_section(study, [publish(first, tmp_path / "elsewhere")])
    assert section is not None
    assert section["entries"][0]["run"]["run_id"] == "hero"  # type: ignore[index]
    assert section["entries"][0]["matches"] == 2


def test_an_edited_forecast_is_named_and_not_graded(fitted: tuple[Path, Any], study: Path, tmp_path: Path) -> None:
    path, _ = ahead(fitted, study, flops=FLOPS)
    elsewhere = publish(target_record(study, path), tmp_path / "elsewhere")
    path.write_text(path.read_text() + " ")
    section = grades_section(study, [elsewhere])
    assert section is not None
    assert section["entries"][0]["state"] == "damaged"
    assert f"{path} was edited" in section["entries"][0]["words"]
    assert any("was edited" in line for line in grade_lines(section))
    assert section["graded"] == 0


def test_a_part_shows_its_own_forecasts_alone(fitted: tuple[Path, Any], study: Path) -> None:
    from scaling.analysis.judgement.forecast import predict

    _, results = fitted
    (study / "causal").mkdir()
    (study / "causal" / "results.json").write_bytes((study / "results.json").read_bytes())
    register(results, predict(results, flops=FLOPS), study / "causal" / "results.json", study, code=CODE)
    assert grades_section(study, part="masked") is None
    assert grades_section(study, part="causal") is not None


def test_calibration_doubts_intervals_that_hold_too_rarely() -> None:
    assert calibration_words([], 0) == "no registered interval has met its run yet"
    assert calibration_words([0.95] * 4, 3) == "3 of 4 registered 95% intervals held the measured loss"
    chance = sum(math.comb(8, k) * 0.95**k * 0.05 ** (8 - k) for k in range(6))
    assert f"probability of {chance:.2g} by chance" in calibration_words([0.95] * 8, 5)


def test_the_report_shows_every_forecast(fitted: tuple[Path, Any], study: Path, tmp_path: Path) -> None:
    _, results = fitted
    assert isinstance(figures.CHARTS["registered"](results), Absent)
    section = graded(fitted, study, tmp_path)
    chart = figures.CHARTS["registered"](results | {"registered": section})
    assert isinstance(chart, Chart)
    points = [mark for mark in chart.panels[0].marks if isinstance(mark, Points)]  # type: ignore[union-attr]
    assert [one.label for one in points] == ["forecast", "measured, inside"]
    assert points[1].x[0] == pytest.approx(0.0, abs=1e-9)
    (row,) = table(results | {"registered": section}).rows
    assert "inside the interval" in row[-1].words
