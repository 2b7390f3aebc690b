"""Workers share a planned study by its files alone, whatever happens to any of them."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from scaling.cli import main
from scaling.launch.exit_codes import FAILURES_LEFT, NOTHING_LEFT, START_AGAIN
from scaling.launch.worker import moment
from scaling.plan.work import read_work
from scaling.records.attempt import run_state
from scaling.records.files import read_json, write_json
from scaling.records.record import DONE, attempt_dirs
from scaling.records.spending import study_spending
from scaling.spec.run_spec import to_dict
from tests.faults.runs import SCALING, check, outcomes, wait_for

STUDY = Path("runs/s")
GRACE_S = 10.0  # from SIGTERM to SIGKILL, as a batch system or a cloud gives
GRID = (
    "data=synthetic",
    "data.source.tokens=200000",
    "model.n_layers=1",
    "model.d_model=16",
    "model.n_heads=2",
    "val_tokens=2048",
    "runtime.device=cpu",
    "runtime.threads=1",
    "runtime.checkpoint_every_s=1",
    "runtime.keep_weights=false",
    "study=s",
)


def planned(where: Path, monkeypatch: pytest.MonkeyPatch, *settings: str) -> list[str]:
    """Plan a study in a folder; the ids of its runs."""
    monkeypatch.chdir(where)
    assert main(["plan", *GRID, *settings, "--write"]) == 0
    return [json.loads(line)["run_id"] for line in (STUDY / "plan.jsonl").read_text().splitlines()]


def started(*options: str, stdin: int | None = None) -> subprocess.Popen[str]:
    command = [str(SCALING), "worker", str(STUDY), *options]
    return subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ended(worker: subprocess.Popen[str], code: int, within_s: float = 120.0) -> str:
    printed, _ = worker.communicate(timeout=within_s)
    assert worker.returncode == code, printed
    assert "Traceback" not in printed
    return printed


def test_workers_at_once_and_a_launcher_leave_the_records_of_a_launcher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = [*GRID, "seed=0,1,2,3", "budget.flops=2e8"]
    (tmp_path / "alone").mkdir()
    monkeypatch.chdir(tmp_path / "alone")
    assert main(["train", "-m", *sweep, "hydra/launcher=in_process"]) == 0
    expected = outcomes(STUDY)
    (tmp_path / "shared").mkdir()
    planned(tmp_path / "shared", monkeypatch, *sweep[len(GRID) :])
    workers = [started(), started()]
    assert main(["train", "-m", *sweep, "hydra.launcher.slots=1"]) == 0
    for worker in workers:
        ended(worker, NOTHING_LEFT)
    check(STUDY, expected)


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM])
def test_a_signal_saves_at_the_next_step_and_asks_for_another_start(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run_id,) = planned(tmp_path, monkeypatch, "budget.flops=2e10")
    worker = started()
    wait_for(lambda: run_state(STUDY / run_id).step > 0, worker, s=180.0)
    for process in (worker.pid, *children_of(run_id)):  # a batch system signals every process, and again at the end
        os.kill(process, number)
    os.kill(worker.pid, signal.SIGTERM)
    assert "stopped, 1 run left: start the worker again" in ended(worker, START_AGAIN, within_s=GRACE_S)
    state = run_state(STUDY / run_id)
    assert state.status == "preempted"
    assert "checkpoint written" in state.why
    assert [path.name.partition("-")[2] for path in (STUDY / run_id / "checkpoint").glob("*")][-1] != "00000000"


def test_the_end_of_standard_input_saves_and_asks_for_another_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run_id,) = planned(tmp_path, monkeypatch, "budget.flops=2e10")
    read, write = os.pipe()
    worker = started("--until-eof", stdin=read)
    os.close(read)
    wait_for(lambda: run_state(STUDY / run_id).step > 0, worker, s=180.0)
    os.close(write)
    assert "stopped, 1 run left" in ended(worker, START_AGAIN)
    assert run_state(STUDY / run_id).status == "preempted"


def children_of(run_id: str) -> list[int]:
    meta = read_json(attempt_dirs(STUDY / run_id)[-1] / "meta.json") or {}
    return [int(meta["pid"])]


@pytest.mark.long
def test_the_time_saves_and_a_run_too_long_for_any_worker_still_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run_id,) = planned(tmp_path, monkeypatch, "budget.flops=4e11")
    begun = time.monotonic()
    until = f"{time.time() + 25}"
    assert main(["worker", str(STUDY), "--until", until]) == START_AGAIN
    assert time.monotonic() - begun < 25
    assert run_state(STUDY / run_id).status == "preempted"
    assert main(["worker", str(STUDY), "--until", f"{time.time() + 5}"]) == START_AGAIN  # too short to begin any
    assert len(attempt_dirs(STUDY / run_id)) == 1


@pytest.mark.long
def test_a_worker_killed_with_all_its_processes_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = planned(tmp_path, monkeypatch, "seed=0,1", "budget.flops=5e8")
    worker = started()
    wait_for(lambda: any(attempt_dirs(STUDY / run_id) for run_id in ids), worker)
    (live,) = [run_id for run_id in ids if attempt_dirs(STUDY / run_id)]
    child = children_of(live)[0]
    worker.kill()
    os.kill(child, signal.SIGKILL)
    worker.communicate()
    assert run_state(STUDY / live).status == "lost"
    ended(started(), NOTHING_LEFT)
    assert {run_state(STUDY / run_id).status for run_id in ids} == {DONE}
    assert len(attempt_dirs(STUDY / live)) == 2


def test_a_worker_takes_as_many_runs_as_asked_for_the_longest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    first, second = planned(tmp_path, monkeypatch, "budget.flops=2e8,4e8")
    assert main(["worker", str(STUDY), "--max-runs", "1"]) == START_AGAIN
    assert [run_state(STUDY / run_id).status for run_id in (first, second)] == [DONE, "planned"]
    assert "as many runs as asked for, 1 run left" in capfd.readouterr().out


def test_a_failing_run_is_tried_again_once_and_the_others_are_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("scaling.records.trials.BACK_OFF_S", 0.1)
    first, second = planned(tmp_path, monkeypatch, "budget.flops=2e8,4e8", "retries=1")
    (STUDY / first / "checkpoint").parent.mkdir()
    (STUDY / first / "checkpoint").write_text("no folder, so that every save fails")
    assert main(["worker", str(STUDY)]) == FAILURES_LEFT
    assert run_state(STUDY / second).status == DONE
    state = run_state(STUDY / first)
    assert (state.status, state.attempts) == ("failed", 2)
    assert f"{first} is not tried again: failed 2 times" in capfd.readouterr().out
    assert main(["worker", str(STUDY)]) == FAILURES_LEFT  # and no third attempt
    assert len(attempt_dirs(STUDY / first)) == 2


def test_a_failure_under_a_launcher_counts_for_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (run_id,) = planned(tmp_path, monkeypatch, "budget.flops=2e8", "retries=0")
    (STUDY / run_id).mkdir()
    (STUDY / run_id / "checkpoint").write_text("no folder, so that every save fails")
    sweep = ["train", "-m", *GRID, "budget.flops=2e8", "retries=0"]
    assert main(sweep) == 1
    assert main(["worker", str(STUDY)]) == FAILURES_LEFT
    assert len(attempt_dirs(STUDY / run_id)) == 1
    assert f"{run_id} is not tried again: failed once (retries=0)" in capfd.readouterr().out
    assert main(sweep) == 1  # a launcher's own command is an order to try
    assert len(attempt_dirs(STUDY / run_id)) == 2


def test_other_code_than_the_plans_is_refused_unless_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (run_id,) = planned(tmp_path, monkeypatch, "budget.flops=2e8")
    monkeypatch.setattr("scaling.launch.worker.code_digest", lambda: "0123456789ab")
    assert main(["worker", str(STUDY)]) == 2
    assert "was planned by code" in capfd.readouterr().err
    assert run_state(STUDY / run_id).status == "planned"
    assert main(["worker", str(STUDY), "--allow-other-code"]) == NOTHING_LEFT
    meta = read_json(attempt_dirs(STUDY / run_id)[0] / "meta.json")
    assert meta is not None
    assert len(meta["code"]) == 12


def test_moments_are_dates_minutes_from_now_or_seconds() -> None:
    assert moment("+1.5", 1000.0) == 1090.0
    assert moment("1700000000", 0.0) == 1700000000.0
    assert moment("2026-01-31T18:00+00:00", 0.0) == 1769882400.0
    with pytest.raises(ValueError, match="--until soon: give a time as"):
        moment("soon", 0.0)


@pytest.mark.long
def test_workers_at_once_never_spend_more_than_the_cap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = planned(tmp_path, monkeypatch, "budget.flops=2e8", "seed=0,1,2,3", "budget.total_flops=8.1e8")
    wasted = STUDY / ids[0] / "attempts" / "0001"  # ten steps that nobody has kept
    wasted.mkdir(parents=True)
    write_json(STUDY / ids[0] / "spec.json", to_dict(read_work(STUDY).run(ids[0]).spec))
    write_json(wasted / "meta.json", {"start_step": 0})
    write_json(wasted / "heartbeat.json", {"taken": 10, "step": 10})
    write_json(wasted / "end.json", {"status": "preempted", "why": "w", "step": 10, "ended_at": None})
    workers = [started(), started()]
    printed = [ended(worker, FAILURES_LEFT) for worker in workers]
    assert all("is not started: with " in text and "more than budget.total_flops=8.1e+08" in text for text in printed)
    assert sum(run_state(STUDY / run_id).status == DONE for run_id in ids) == 3
    assert study_spending(STUDY).spent.flops <= 8.1e8
    assert main(["plan", *GRID, "budget.flops=2e8", "seed=0,1,2,3", "budget.total_flops=9e8", "--write"]) == 0
    ended(started(), NOTHING_LEFT)
    assert {run_state(STUDY / run_id).status for run_id in ids} == {DONE}
    assert study_spending(STUDY).spent.flops <= 9e8
