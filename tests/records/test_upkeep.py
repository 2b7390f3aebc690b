"""Upkeep of a study: orders reach those who train, and no command loses a record."""

import tarfile
import threading
from pathlib import Path

import pytest

from scaling.cli import main
from scaling.plan.status import study_status
from scaling.records.attempt import CANCELLED, FAILED, PREEMPTED, run_state
from scaling.records.leftovers import newest_first
from scaling.records.record import DONE, read_record
from scaling.records.upkeep import archive, cancel_runs, remove_old_checkpoints, retry_runs
from scaling.train.run import train_run
from tests.faults.runs import Reported, run_of, train
from tests.records.test_trials import attempts


def test_a_cancelled_run_stops_with_a_checkpoint_and_a_retry_ends_it_as_if_undisturbed(tmp_path: Path) -> None:
    train(tmp_path / "alone")
    run = run_of(tmp_path, 0)
    study, run_id = run.directory.parent, run.spec.run_id

    class CancelAt(Reported):
        def row(self, row: dict[str, object]) -> None:
            if row["step"] == 2:
                cancel_runs(study, [run_id], "too dear")
                threading.Event().wait(3)  # the next heartbeat sees the order

    with pytest.raises(KeyboardInterrupt, match="checkpoint written"):
        train_run(run, CancelAt())
    state = run_state(run.directory)
    assert (state.status, state.why) == (CANCELLED, "too dear")
    assert state.step in (2, 3)
    assert retry_runs(study, [run_id]) == [run_id]
    again = train_run(run, Reported())
    alone = read_record(tmp_path / "alone" / "s" / run_id)
    assert alone is not None
    assert (again.status, again.weights_sha256) == (DONE, alone.weights_sha256)
    assert cancel_runs(study, [run_id], "too late") == []


def test_gc_keeps_records_and_the_furthest_checkpoint(tmp_path: Path) -> None:
    done = run_of(tmp_path, 0, keep_weights=True)
    train_run(done, Reported())
    stopped = run_of(tmp_path, 1).directory
    for name in ("0001-00000002", "0001-00000004"):
        (stopped / "checkpoint" / name).mkdir(parents=True)
        (stopped / "checkpoint" / name / "model.safetensors").write_bytes(b"1234")
    (stopped / "spec.json").write_text("{}")
    study = done.directory.parent
    assert remove_old_checkpoints(study, weights=False) == 4
    assert [path.name for path in newest_first(stopped)] == ["0001-00000004"]
    assert newest_first(done.directory)
    assert remove_old_checkpoints(study, weights=True) > 0
    assert not newest_first(done.directory)
    assert read_record(done.directory) is not None


def test_an_archive_holds_all_but_checkpoints_and_waits_for_nobodys_run(tmp_path: Path) -> None:
    run = run_of(tmp_path, 0, keep_weights=True)
    train_run(run, Reported())
    out = tmp_path / "packed.tar.gz"
    archive(run.directory.parent, out)
    with tarfile.open(out) as tar:
        names = tar.getnames()
    assert f"s/{run.spec.run_id}/record.json" in names
    assert f"s/{run.spec.run_id}/attempts/0001/metrics.jsonl" in names
    assert not any("checkpoint" in name or "/." in name for name in names)
    with pytest.raises(ValueError, match="packed.tar.gz exists"):
        archive(run.directory.parent, out)


def test_the_commands_name_runs_that_a_study_does_not_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = tmp_path / "s"
    for run_id, end in (("aaa", FAILED), ("bbb", PREEMPTED)):
        attempts(study / run_id, (end, 1, "why"), (end, 2, "why"))
        (study / run_id / "spec.json").write_text("{}")
    assert main(["cancel", str(study), "aab"]) == 2
    assert "did you mean 'aaa'" in capsys.readouterr().err
    assert main(["cancel", str(study)]) == 2
    assert "--all" in capsys.readouterr().err
    assert [run.attempts for run in study_status(study).runs] == ["2 (2 failed)", "2 (2 preempted)"]
    assert main(["retry", str(study)]) == 0
    assert "1 run may start again: aaa" in capsys.readouterr().out
    assert main(["cancel", str(study), "--all"]) == 0
    assert [run_state(study / run_id).status for run_id in ("aaa", "bbb")] == [CANCELLED, CANCELLED]
    assert main(["retry", str(study), "bbb"]) == 0
    assert run_state(study / "bbb").status == PREEMPTED
