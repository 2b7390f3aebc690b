"""Submission to Slurm, with commands that stand in for Slurm's; the last tests ask a real one where it is."""

import json
import os
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from scaling.cli import main
from scaling.launch import slurm
from scaling.launch.exit_codes import START_AGAIN
from scaling.launch.launchers import make_launcher
from scaling.launch.slurm import queue_in_words, requeue, submit
from scaling.records.attempt import run_state
from scaling.records.record import DONE
from tests.launch.test_slurm_script import PLAIN
from tests.launch.test_worker import GRID, STUDY

FAKE = r"""#!/bin/bash
cd "$(dirname "$0")"
name=$(basename "$0")
echo "$name $*" >> calls
[ -s fail-$name ] && { head -1 fail-$name >&2; sed -i 1d fail-$name; [ "$name" = sbatch ] || exit 1; }
case $name in
  sbatch)
    [ -e refused ] && [ "$(sed -n 's/.*--array=0-//p' "${!#}")" -ge "$(cat refused)" ] && { cat words >&2; exit 1; }
    n=$(( $(cat last 2>/dev/null || echo 10) + 1 )); echo $n > last
    comment=$(sed -n 's/^#SBATCH --comment=//p' "${!#}")
    echo "$n|PENDING|Resources|$comment" >> queue
    [ -e lost ] && { rm lost; echo "sbatch: error: Socket timed out on send/recv operation" >&2; exit 1; }
    echo $n;;
  squeue) cat queue 2>/dev/null;;
  scontrol) [ "$1" = show ] && echo "MaxArraySize            = 4";;
esac
exit 0
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with commands of Slurm that note their calls; the controller takes arrays of 4 at most."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sbatch", "squeue", "scontrol"):
        (folder / name).write_text(FAKE)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(slurm, "LOOK_S", 0.01)
    (tmp_path / "s").mkdir()
    return folder


def submissions(cluster: Path) -> int:
    return (cluster / "calls").read_text().count("sbatch ")


def test_an_array_beyond_the_largest_is_split_and_the_same_is_not_submitted_twice(
    cluster: Path, tmp_path: Path
) -> None:
    assert submit(tmp_path / "s", "s:1", PLAIN, runs=9) == ["11", "12", "13"]
    assert submit(tmp_path / "s", "s:1", PLAIN, runs=9) == ["11", "12", "13"]
    assert submissions(cluster) == 3
    assert submit(tmp_path / "s", "s:2", replace(PLAIN, array_parallel=2), runs=9) == ["14"]
    assert "--array=0-1" in (tmp_path / "s" / "slurm" / "workers.sh").read_text()


def test_an_answer_that_a_restarted_controller_loses_costs_no_second_array(cluster: Path, tmp_path: Path) -> None:
    (cluster / "lost").touch()
    (cluster / "fail-squeue").write_text("slurm_load_jobs error: Unable to contact slurm controller\n" * 2)
    assert submit(tmp_path / "s", "s:1", PLAIN, runs=3) == ["11"]
    assert submissions(cluster) == 1


def test_a_limit_of_the_quality_of_service_gets_fewer_workers_and_another_refusal_is_in_slurms_words(
    cluster: Path, tmp_path: Path
) -> None:
    (cluster / "refused").write_text("1")
    (cluster / "words").write_text("sbatch: error: QOSMaxSubmitJobPerUserLimit\n")
    assert submit(tmp_path / "s", "s:1", PLAIN, runs=4) == ["11"]
    assert "--array=0-0" in (tmp_path / "s" / "slurm" / "workers.sh").read_text()
    (cluster / "refused").write_text("0")
    (cluster / "words").write_text("sbatch: error: invalid partition specified: gpu\n")
    with pytest.raises(ValueError, match="invalid partition specified: gpu"):
        submit(tmp_path / "s", "s:2", PLAIN, runs=1)


def test_status_shows_the_queue_in_one_question(cluster: Path, tmp_path: Path) -> None:
    assert queue_in_words(tmp_path / "s") == ""
    submit(tmp_path / "s", "s:1", PLAIN, runs=9)
    (cluster / "calls").unlink()
    assert queue_in_words(tmp_path / "s") == "slurm: 3 workers pending (Resources)"
    assert (cluster / "calls").read_text().count("\n") == 1
    (cluster / "fail-squeue").write_text("Unable to contact slurm controller\n")
    assert "is not known here (Unable to contact" in queue_in_words(tmp_path / "s")


def test_status_waits_seconds_for_a_dead_controller(
    cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(tmp_path / "s", "s:1", PLAIN, runs=1)
    (cluster / "squeue").write_text("#!/bin/bash\nexec sleep 30\n")
    monkeypatch.setattr(slurm, "GLANCE_S", 0.2)
    began = time.monotonic()
    assert "the controller does not answer: squeue waited 0 s" in queue_in_words(tmp_path / "s")
    assert time.monotonic() - began < 5


def test_a_worker_with_work_left_requeues_its_own_task(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert requeue(START_AGAIN) == START_AGAIN  # no job of Slurm
    for name, value in (("JOB_ID", "8"), ("ARRAY_JOB_ID", "7"), ("ARRAY_TASK_ID", "3")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert [requeue(0), requeue(1)] == [0, 1]
    assert not (cluster / "calls").exists()
    assert requeue(START_AGAIN) == 0
    assert (cluster / "calls").read_text() == "scontrol requeue 7_3\n"
    (cluster / "fail-scontrol").write_text("Requested operation not permitted\n")
    assert requeue(START_AGAIN) == START_AGAIN


def test_commands_that_hand_over_single_jobs_refuse_workers() -> None:
    with pytest.raises(ValueError, match="starts workers of a planned sweep.*choose hydra/launcher=in_process, local"):
        make_launcher({"name": "slurm"}, use_gpus=False)


needs_slurm = pytest.mark.skipif(shutil.which("sbatch") is None, reason="sbatch is not here: no Slurm to ask")
LAUNCHER = (
    "hydra/launcher=slurm",
    "hydra.launcher.gpus=0",
    "hydra.launcher.cpus=1",
    "hydra.launcher.memory=1G",
    "hydra.launcher.time=2",
)


def cancelled(where: Path) -> None:
    comment = json.loads((where / STUDY / "slurm" / "submission.json").read_text())["comment"]
    for job in slurm.queue(comment):
        subprocess.run(["scancel", job.array], check=False)


@pytest.mark.long
@needs_slurm
def test_a_real_slurm_trains_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        assert main(["train", "-m", *GRID, "budget.flops=2e8", "seed=0,1", *LAUNCHER]) == 0
        assert {run_state(path).status for path in STUDY.iterdir() if (path / "record.json").exists()} == {DONE}
    finally:
        cancelled(tmp_path)


@pytest.mark.long
@needs_slurm
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


def within(condition: object, seconds: float) -> None:
    assert callable(condition)
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not within {seconds:.0f} s"
        time.sleep(0.2)
