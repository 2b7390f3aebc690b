"""Submission to Slurm, with commands that stand in for Slurm's."""

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from scaling.cli import main
from scaling.launch import slurm
from scaling.launch.exit_codes import MISTAKE, NOTHING_LEFT, START_AGAIN
from scaling.launch.launchers import make_launcher
from scaling.launch.slurm import Fleet, noted_ends, queue_in_words, requeue
from scaling.launch.slurm_script import SlurmSettings
from scaling.records.orders import cancel
from tests.launch.test_planned_queue import beat
from tests.launch.test_slurm_script import PLAIN
from tests.launch.test_worker import STUDY, planned

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
    for task in $(seq 0 "$(sed -n 's/.*--array=0-//p' "${!#}")"); do
      echo "$n|PENDING|Resources|$comment" >> queue
    done
    [ -e lost ] && { rm lost; echo "sbatch: error: Socket timed out on send/recv operation" >&2; exit 1; }
    echo $n;;
  squeue) cat queue 2>/dev/null;;
  sacct) cat ended 2>/dev/null || { echo "Slurm accounting storage is disabled" >&2; exit 1; };;
  scontrol)
    [ "$2" = config ] && echo "MaxArraySize            = 4"
    [ "$2" = job ] && cat job 2>/dev/null;;
esac
exit 0
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with commands of Slurm that note their calls; the controller takes arrays of 4 at most."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sbatch", "squeue", "scontrol", "sacct", "scancel"):
        (folder / name).write_text(FAKE)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr("scaling.machine.slurm.LOOK_S", 0.01)
    (tmp_path / "s").mkdir()
    return folder


def submit(study_dir: Path, comment: str, settings: SlurmSettings, runs: int) -> list[str]:
    return Fleet(study_dir, comment, settings, runs).submit()


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


def test_a_study_of_the_same_name_and_plan_in_another_folder_gets_its_own_workers(
    cluster: Path, tmp_path: Path
) -> None:
    studies = [tmp_path / name / "s" for name in ("mine", "yours", "mine")]
    for study in studies:
        study.mkdir(parents=True, exist_ok=True)
        slurm.start_slurm(study, "1", lambda: 2, vars(PLAIN) | {"wait": False})
    assert submissions(cluster) == 2
    arrays = [json.loads((study / "slurm" / "submission.json").read_text())["arrays"] for study in studies]
    assert arrays == [["11"], ["12"], ["11"]]


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


RUNS = 3


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a planned study of three runs."""
    folder = tmp_path_factory.mktemp("plan")
    with pytest.MonkeyPatch.context() as monkeypatch:
        planned(folder, monkeypatch, "budget.flops=2e8", "seed=0,1,2")
    return folder


@pytest.fixture
def fleet(cluster: Path, plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """Three workers of the planned study, just submitted as array 11."""
    shutil.copytree(plan / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(slurm, "PAUSE_S", 0.0)
    fleet = Fleet(STUDY.resolve(), "s:1", PLAIN, RUNS)
    fleet.submit()
    return fleet


def lose(cluster: Path, workers: int) -> None:
    """Let the queue forget its first workers."""
    lines = (cluster / "queue").read_text().splitlines(keepends=True)
    (cluster / "queue").write_text("".join(lines[workers:]))


def note(worker: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a worker end with a code, as the batch script does."""
    for name, value in zip(("ARRAY_JOB_ID", "ARRAY_TASK_ID"), worker.split("_"), strict=True):
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("SLURM_JOB_ID", "99")
    assert requeue(STUDY.resolve(), code) == code


def test_lost_workers_are_replaced_once_and_those_that_ended_are_not(
    cluster: Path, fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.replace(slurm.queue("s:1"))
    assert submissions(cluster) == 1  # nothing is missing
    lose(cluster, 2)
    note("11_0", NOTHING_LEFT, monkeypatch)
    note("7_1", NOTHING_LEFT, monkeypatch)  # of another array
    fleet.replace(slurm.queue("s:1"))
    fleet.replace(slurm.queue("s:1"))
    assert submissions(cluster) == 2
    assert "--array=0-0" in (STUDY / "slurm" / "workers.sh").read_text()
    assert "of 3 workers 1 lost, replaced by array 12" in capsys.readouterr().err
    assert json.loads((STUDY / "slurm" / "submission.json").read_text())["arrays"] == ["11", "12"]
    again = Fleet(STUDY.resolve(), "s:1", PLAIN, RUNS)  # another launcher finds two workers, and none that ended
    assert again.submit() == ["11", "12"]
    again.replace(slurm.queue("s:1"))
    assert [job.array for job in slurm.queue("s:1")] == ["11", "12", "13"]


def test_an_answer_that_is_lost_replaces_no_worker_twice(
    cluster: Path, fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    lose(cluster, 1)
    (cluster / "lost").touch()
    fleet.replace(slurm.queue("s:1"))
    assert "not replaced now (sbatch: error: Socket timed out" in capsys.readouterr().err
    fleet.replace(slurm.queue("s:1"))
    assert submissions(cluster) == 2


def test_workers_are_not_replaced_for_runs_that_train_or_are_given_up(
    cluster: Path, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose(cluster, 2)
    ids = [json.loads(line)["run_id"] for line in (STUDY / "plan.jsonl").read_text().splitlines()]
    for run_id in ids[:2]:
        beat(run_id, 1)
    cancel(STUDY / ids[2], "too dear")
    fleet.replace(slurm.queue("s:1"))
    assert submissions(cluster) == 1


def test_workers_that_are_lost_again_and_again_are_given_up_until_the_fleet_was_whole(
    cluster: Path, fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(9):
        lose(cluster, 1)
        fleet.replace(slurm.queue("s:1"))
    assert submissions(cluster) == 1 + slurm.REPLACED
    assert capsys.readouterr().err.count("lost again and again, and not replaced; look at") == 1
    (cluster / "queue").write_text("11|RUNNING|None|s:1\n" * RUNS)
    fleet.replace(slurm.queue("s:1"))
    lose(cluster, 1)
    fleet.replace(slurm.queue("s:1"))
    assert submissions(cluster) == 2 + slurm.REPLACED


def test_pauses_between_replacements_grow(cluster: Path, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(slurm, "time", SimpleNamespace(monotonic=lambda: clock.now, sleep=lambda s: None))
    monkeypatch.setattr(slurm, "PAUSE_S", 60.0)
    at = []
    for minute in range(40):
        clock.now, before = 60.0 * minute, submissions(cluster)
        lose(cluster, 1)
        fleet.replace(slurm.queue("s:1"))
        at += [minute] * (submissions(cluster) - before)
    assert at == [0, 1, 3, 7, 15]


def test_workers_that_still_wait_when_every_run_is_finished_are_dismissed(
    cluster: Path, fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    slurm._wait(fleet, lambda: 0)
    assert (cluster / "calls").read_text().splitlines()[-1] == "scancel --state=PENDING 11"
    assert "slurm: 3 workers still queued, now cancelled: no run is left" in capsys.readouterr().err


def test_a_worker_that_refuses_to_start_leaves_a_note_and_none_is_replaced_from_then_on(
    cluster: Path, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("JOB_ID", "8"), ("ARRAY_JOB_ID", "11"), ("ARRAY_TASK_ID", "2")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setattr("scaling.launch.worker.code_digest", lambda: "other")
    assert main(["worker", str(STUDY), "--requeue", "slurm"]) == MISTAKE
    assert noted_ends(STUDY / "slurm") == {"11_2": MISTAKE}
    lose(cluster, 2)
    fleet.replace(slurm.queue("s:1"))
    assert submissions(cluster) == 1


def test_status_shows_the_queue_in_one_question(cluster: Path, tmp_path: Path) -> None:
    assert queue_in_words(tmp_path / "s") == ""
    submit(tmp_path / "s", "s:1", PLAIN, runs=9)
    (cluster / "calls").unlink()
    assert queue_in_words(tmp_path / "s") == "slurm: 9 workers pending (Resources)"
    assert (cluster / "calls").read_text().count("squeue") == 1
    assert "--jobs=11,12,13" in (cluster / "calls").read_text()
    (cluster / "fail-squeue").write_text("Unable to contact slurm controller\n")
    assert "is not known here (Unable to contact" in queue_in_words(tmp_path / "s")


def test_status_states_why_workers_ended_where_there_is_accounting(cluster: Path, tmp_path: Path) -> None:
    submit(tmp_path / "s", "s:1", PLAIN, runs=1)
    ends = ("RUNNING|0:0", "OUT_OF_MEMORY|0:125", "CANCELLED by 0|0:15", "COMPLETED|0:0", "FAILED|2:0", "TIMEOUT|0:0")
    lines = [f"{end}|60" for end in (*ends, "NODE_FAIL|1:0", "OUT_OF_MEMORY|0:125")]
    (cluster / "ended").write_text("\n".join([*lines, "CANCELLED by 0|0:0|0"]))  # the last one never began
    assert queue_in_words(tmp_path / "s") == (
        "slurm: 1 worker pending (Resources); 2 ended: out of memory; 1 ended: cancelled; 1 ended: exit code 2; "
        "1 ended: timeout; 1 ended: node fail"
    )


def test_status_waits_seconds_for_a_dead_controller(
    cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(tmp_path / "s", "s:1", PLAIN, runs=1)
    (cluster / "squeue").write_text("#!/bin/bash\nexec sleep 30\n")
    monkeypatch.setattr(slurm, "GLANCE_S", 0.2)
    began = time.monotonic()
    assert "the controller does not answer: squeue waited 0 s" in queue_in_words(tmp_path / "s")
    assert time.monotonic() - began < 5


def test_a_worker_with_work_left_requeues_its_own_task(
    cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tmp_path / "s"
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert requeue(study, START_AGAIN) == START_AGAIN  # no job of Slurm
    for name, value in (("JOB_ID", "8"), ("ARRAY_JOB_ID", "7"), ("ARRAY_TASK_ID", "3")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert [requeue(study, 0), requeue(study, 1)] == [0, 1]
    assert not (cluster / "calls").exists()
    assert requeue(study, START_AGAIN) == 0
    assert (cluster / "calls").read_text().splitlines() == ["scontrol show job --oneliner 7_3", "scontrol requeue 7_3"]
    (cluster / "fail-scontrol").write_text("Requested operation not permitted\n")
    assert requeue(study, START_AGAIN) == START_AGAIN


@pytest.mark.parametrize(
    ("shown", "cancelled"),
    [
        ("JobState=COMPLETING Reason=None RunTime=00:00:03 TimeLimit=00:05:00 PreemptTime=None", True),
        ("JobState=COMPLETING Reason=None RunTime=00:00:03 TimeLimit=UNLIMITED PreemptTime=None", True),
        ("JobState=COMPLETING Reason=None RunTime=1-00:00:04 TimeLimit=1-00:00:00 PreemptTime=None", False),
        ("JobState=COMPLETING RunTime=00:00:03 TimeLimit=00:05:00 PreemptTime=2026-01-31T18:00:00", False),
        ("JobState=RUNNING Reason=None RunTime=00:00:03 TimeLimit=00:05:00 PreemptTime=None", False),
    ],
)
def test_a_worker_that_was_cancelled_does_not_come_back(
    cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown: str, cancelled: bool
) -> None:
    for name, value in (("JOB_ID", "8"), ("ARRAY_JOB_ID", "7"), ("ARRAY_TASK_ID", "3")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    (cluster / "job").write_text(f"JobId=8 ArrayJobId=7 {shown}\n")
    assert requeue(tmp_path, START_AGAIN) == (START_AGAIN if cancelled else 0)


def test_commands_that_hand_over_single_jobs_refuse_workers() -> None:
    with pytest.raises(ValueError, match="starts workers of a planned sweep.*choose hydra/launcher=in_process, local"):
        make_launcher({"name": "slurm"}, use_gpus=False)
