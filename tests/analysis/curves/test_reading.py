"""Curves read from runs: places of losses, schedules in words, and runs that have no curve."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scaling.analysis.curves.reading import LEAST_POINTS, in_words, read_curve, read_curves
from scaling.spec.run_spec import NO_RECIPE, Continued, ContinuedSpec, to_dict
from tests.analysis.curves.simulated import CONSTANT, LINEAR, STEPS, by_annealing, spec_of, write_run, write_study


def test_losses_stand_where_the_weights_were_that_gave_them(tmp_path: Path) -> None:
    spec = spec_of(LINEAR)
    losses = by_annealing(spec)
    curve = read_curve(write_run(tmp_path, spec, losses, noise=0.0))
    points = curve.points("training", most=10_000)
    at = np.interp(points.places, np.arange(1, STEPS + 1), losses)
    assert points.losses == pytest.approx(at, rel=6e-4)
    scores = curve.points("validation")
    assert scores.places.tolist() == [150, 300, 450, 600]
    assert scores.losses == pytest.approx(losses[[149, 299, 449, 599]] + 0.05)
    assert curve.final == curve.end("validation") == scores.losses[-1]


def test_neighbours_are_averaged_and_early_losses_left_out(tmp_path: Path) -> None:
    curve = read_curve(write_run(tmp_path, spec_of(LINEAR), by_annealing(spec_of(LINEAR))))
    few, all_of_them = curve.points("training", most=20), curve.points("training", most=1000)
    assert len(few.places) == 20
    assert few.weights.sum() == len(all_of_them.places)
    assert np.average(few.losses, weights=few.weights) == pytest.approx(all_of_them.losses.mean())
    assert all_of_them.places[0] >= curve.first > 30
    assert len(curve.points("training", until=100.0).places) < LEAST_POINTS * 2


def test_schedules_in_words() -> None:
    assert in_words("wsd", "linear", 0.0, 0.0) == "constant"
    assert in_words("wsd", "1-sqrt", 0.25, 0.0) == "1-sqrt over 25%"
    assert in_words("cosine", "cosine", 0.0, 0.1) == "cosine to 10%"


def test_the_curves_of_a_study_are_those_of_its_finished_runs(tmp_path: Path) -> None:
    write_study(tmp_path, [spec_of(LINEAR), spec_of(CONSTANT, width=48)])
    write_run(tmp_path, spec_of(LINEAR, seed=3), by_annealing(spec_of(LINEAR, seed=3)), done=300)
    curves, left_out = read_curves(tmp_path)
    assert [one.schedule for one in curves] == ["linear over 25%", "constant"]
    assert len({one.family for one in curves}) == 2
    assert len(left_out) == 1
    assert left_out[0].endswith("is running, at step 300 of 600")


def test_a_run_without_a_curve_is_named_with_the_reason(tmp_path: Path) -> None:
    folder = write_run(tmp_path, spec_of(LINEAR), by_annealing(spec_of(LINEAR)), done=100)
    spec = spec_of(LINEAR)
    for wrong, words in (
        (replace(spec, recipe=NO_RECIPE), r"spec\.json: unknown recipe\.schedule\.kind 'imported'"),
        (ContinuedSpec(**vars(spec), continued=Continued("0")), r"spec\.json is of a continued run"),
    ):
        (folder / "spec.json").write_text(json.dumps(to_dict(wrong)))
        with pytest.raises(ValueError, match=words):
            read_curve(folder)
    (folder / "spec.json").write_text(json.dumps(to_dict(spec)))
    (folder / "attempts" / "0001" / "metrics.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"metrics\.jsonl hold no metric rows: the run is running"):
        read_curve(folder)
