"""Schedules held out: constant and linear runs predict the others, and a trunk's cooldowns predict each other."""

from pathlib import Path

import pytest

from scaling.analysis.curves.held_out import describe_study, hold_out
from scaling.analysis.schema.whole_curves import CurveStudy
from scaling.spec.run_spec import ScheduleSpec
from tests.analysis.conformance import assert_conforms
from tests.analysis.curves.simulated import CONSTANT, COSINE, LINEAR, ROOT, WARMUP, spec_of, write_study


def test_constant_and_linear_runs_predict_the_other_schedules(tmp_path: Path) -> None:
    write_study(tmp_path, [spec_of(one, width=width) for one in (CONSTANT, LINEAR, ROOT, COSINE) for width in (24, 48)])
    found = hold_out(tmp_path)
    assert_conforms(found, CurveStudy)
    assert [family["params"] for family in found["families"]] == sorted(one["params"] for one in found["families"])
    for family in found["families"]:
        assert family["rule"] == "fitted to constant and linear over 25%; the others are held out"
        held = {run["schedule"] for run in family["runs"] if run["held_out"]}
        assert held == {"1-sqrt over 25%", "cosine to 10%"}
    errors = {one["schedule"]: one for one in found["held_out"]}
    assert errors["1-sqrt over 25%"]["runs"] == 2
    for one in errors.values():  # validation losses lie 0.05 above the training losses that these runs are fitted by
        assert one["curve"]["annealing"] < 2e-3
    words = describe_study(found)
    assert "held out, cosine to 10% (2 runs): annealing" in words
    assert "lambda = 0.98" in words


def test_cooldowns_off_one_trunk_predict_each_other(tmp_path: Path) -> None:
    lengths = (300, 450, 600, 900)
    specs = [spec_of(ScheduleSpec("wsd", WARMUP, length // 5, "linear", 0.0), length) for length in lengths]
    write_study(tmp_path, specs)
    (family,) = hold_out(tmp_path)["families"]
    assert family["rule"] == "every schedule and length is held out in turn, and predicted from the rest"
    assert sorted(run["steps"] for run in family["runs"] if run["held_out"]) == sorted(lengths)
    assert all(abs(run["laws"]["annealing"]["error"]) < 5e-3 for run in family["runs"])


def test_a_study_of_one_schedule_is_refused_with_the_remedy(tmp_path: Path) -> None:
    write_study(tmp_path, [spec_of(LINEAR, seed=seed) for seed in (0, 1)])
    with pytest.raises(ValueError, match=r"no two finished runs that differ in schedule or length .*\+sweep=schedules"):
        hold_out(tmp_path)
