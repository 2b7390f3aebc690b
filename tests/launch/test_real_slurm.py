"""Sweeps through a real Slurm, where there is one."""

import json
import subprocess
import threading
import time
from pathlib import Path

import pytest

from scaling.cli import main
from scaling.launch import slurm
from scaling.records.attempt import run_state
from scaling.records.record import DONE, run_dirs
from tests.faults.clusters import unanswered
from tests.launch.test_worker import GRID, STUDY

LAUNCHER = (
    "hydra/launcher=slurm",
    "hydra.launcher.gpus=0",
    "hydra.launcher.cpus=1",
    "hydra.launcher.memory=1G",
    "hydra.launcher.time=2",
)


@pytest.fixture(autouse=True)
def _needs_slurm() -> None:
    if why := unanswered():
        pytest.skip(why)


def cancelled(where: Path) -> None:
    comment = json.loads((where / STUDY / "slurm" / "submission.json").read_text())["comment"]
    for job in slurm.queue(comment):
        subprocess.run(["scancel", job.array], check=False)


@pytest.mark.long
def test_a_real_slurm_trains_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        assert main(["train", "-m", *GRID, "budget.flops=2e8", "seed=0,1", *LAUNCHER]) == 0
        assert {run_state(path).status for path in STUDY.iterdir() if (path / "record.json").exists()} == {DONE}
    finally:
        cancelled(tmp_path)


@pytest.mark.long
def test_a_real_slurm_requeues_a_worker_that_is_preempted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["train", "-m", *GRID, "budget.flops=1e9", "seed=0", *LAUNCHER, "hydra.launcher.wait=false"]
    try:
        assert main(command) == 0
        assert main(command) == 0  # submits nothing: the queue holds the array
        (job,) = slurm.queue(json.loads((STUDY / "slurm" / "submission.json").read_text())["comment"])
        (line,) = (STUDY / "plan.jsonl").read_text().splitlines()
        run_dir = STUDY / json.loads(line)["run_id"]
        within(lambda: run_state(run_dir).status == "running", 120)
        subprocess.run(["scancel", "--signal=USR2", "--batch", f"{job.array}_0"], check=True)
        within(lambda: run_state(run_dir).status == DONE, 200)
        assert run_state(run_dir).attempts == 2
    finally:
        cancelled(tmp_path)


@pytest.mark.long
def test_a_real_slurm_gets_a_worker_in_place_of_one_that_is_cancelled_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(slurm, "QUEUE_EVERY_S", 2.0)
    lost: list[str] = []

    def cancel_a_worker() -> None:
        """Cancel the first worker of the array once it trains, as an administrator does."""
        within(lambda: (STUDY / "slurm" / "submission.json").exists() and STUDY.glob("*/attempts/0001"), 120)
        comment = json.loads((STUDY / "slurm" / "submission.json").read_text())["comment"]
        within(lambda: sum(run_state(path).status == "running" for path in run_dirs(STUDY)) == 2, 120)
        lost.append(f"{slurm.queue(comment)[0].array}_0")
        subprocess.run(["scancel", lost[0]], check=True)

    thread = threading.Thread(target=cancel_a_worker)
    thread.start()
    try:
        assert main(["train", "-m", *GRID, "budget.flops=6e9", "seed=0,1", *LAUNCHER]) == 0
        thread.join()
        assert "of 2 workers 1 lost, replaced by array" in capfd.readouterr().err
        assert [run_state(path).attempts for path in run_dirs(STUDY)] in ([1, 2], [2, 1])
        assert len(json.loads((STUDY / "slurm" / "submission.json").read_text())["arrays"]) == 2
    finally:
        cancelled(tmp_path)


def within(condition: object, seconds: float) -> None:
    assert callable(condition)
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not within {seconds:.0f} s"
        time.sleep(0.2)
