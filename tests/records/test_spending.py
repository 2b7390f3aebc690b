"""Spending by attempts' files: what is taken twice is spent twice, and what is damaged costs nothing."""

from dataclasses import replace
from pathlib import Path

import pytest

from scaling.records.files import write_json
from scaling.records.record import publish_record
from scaling.records.spending import Spent, study_spending
from scaling.shapes.flops import train_flops_per_step
from scaling.spec.run_spec import to_dict
from tests.examples import RECORD, SPEC

STEP = train_flops_per_step(SPEC.model, SPEC.recipe.batch_sequences, SPEC.recipe.optimizer.kind)
MINUTE = "2026-01-01T00:{:02d}:00+00:00"


def attempt(run_dir: Path, number: int, start: int, taken: int, minutes: float = 1, **meta: object) -> None:
    """Leave the files of an attempt that has ended."""
    run_dir.mkdir(parents=True, exist_ok=True)
    write_json(run_dir / "spec.json", to_dict(SPEC))
    path = run_dir / "attempts" / f"{number:04d}"
    path.mkdir(parents=True)
    write_json(path / "meta.json", {"start_step": start, "started_at": MINUTE.format(10 * number), **meta})
    write_json(path / "heartbeat.json", {"taken": taken, "step": taken})
    ended = MINUTE.format(10 * number + int(minutes))
    write_json(path / "end.json", {"status": "failed", "why": "w", "step": taken, "ended_at": ended})


def test_steps_taken_again_are_spent_twice_and_known_as_repeated(tmp_path: Path) -> None:
    attempt(tmp_path / "a", 1, 0, 6, minutes=2)
    attempt(tmp_path / "a", 2, 4, 8)
    run = study_spending(tmp_path).runs["a"]
    assert run.spent == Spent(10 * STEP, 180.0)
    assert run.repeated == Spent(2 * STEP, pytest.approx(120 * 2 / 6))
    assert run.to_come == Spent()
    assert not run.finished


def test_a_finished_run_counts_by_its_record_and_its_repeated_steps(tmp_path: Path) -> None:
    attempt(tmp_path / "a", 1, 0, 6)
    attempt(tmp_path / "a", 2, 4, 10)
    publish_record(tmp_path / "a", replace(RECORD, run_id="a", attempts=2, paid_flops=10 * STEP))
    study = study_spending(tmp_path)
    assert study.spent.flops == 12 * STEP
    assert study.repeated.flops == 2 * STEP


def test_the_steps_of_a_trunk_that_another_run_took_are_not_spent(tmp_path: Path) -> None:
    attempt(tmp_path / "a", 1, 7, 10, resumed_from_step=0)
    assert study_spending(tmp_path).spent.flops == 3 * STEP


def test_runs_that_share_a_device_count_their_shares(tmp_path: Path) -> None:
    attempt(tmp_path / "a", 1, 0, 5, minutes=4, devices=0.25)
    assert study_spending(tmp_path).spent.device_s == 60.0


def test_a_live_attempt_is_about_to_spend_its_rest_and_only_where_it_counts(tmp_path: Path) -> None:
    attempt(tmp_path / "a", 1, 0, 4, reserved_device_s=100.0)
    (tmp_path / "a" / "attempts" / "0001" / "end.json").unlink()  # it beats still, elsewhere
    study = study_spending(tmp_path)
    assert study.to_come == Spent(6 * STEP, 100.0)
    assert study_spending(tmp_path, counts=lambda _: False).to_come == Spent()


def test_only_runs_asked_for_count(tmp_path: Path) -> None:
    attempt(tmp_path / "a", 1, 0, 4)
    attempt(tmp_path / "b", 1, 0, 5)
    assert study_spending(tmp_path, {"b"}).spent.flops == 5 * STEP
    assert study_spending(tmp_path).spent.flops == 9 * STEP


def test_damaged_files_cost_nothing_and_raise_nothing(tmp_path: Path) -> None:
    attempt(tmp_path / "a", 1, 0, 4)
    (tmp_path / "a" / "attempts" / "0001" / "meta.json").write_text("{")
    (tmp_path / "a" / "attempts" / "0001" / "end.json").write_text("")
    assert study_spending(tmp_path).spent == Spent(4 * STEP, 0.0)
    (tmp_path / "a" / "spec.json").write_text("{}")
    assert study_spending(tmp_path / "none").spent == Spent()
