"""A sweep's stacks: which runs are trained together, and that nothing else about them changes."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from scaling.launch.stacking import job_labels, stacks, widths
from scaling.records.record import read_metrics, read_records
from tests.faults.runs import training, wait_for
from tests.test_pipeline import SCALING, TINY, scaling

SEEDS = [*TINY, "budget.flops=3e8", "model.n_layers=1", "model.d_model=8,16", "seed=0,1,2", "study=s"]


def plan_in(study_dir: Path, *lines: tuple[str, str | None, int]) -> list[list[str]]:
    """A plan of runs (id, stack, batch), and their jobs."""
    rows = [{"run_id": run_id, "stack": stack, "batch_tokens": batch} for run_id, stack, batch in lines]
    (study_dir / "plan.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [[f"seed={k}", f"planned='{run_id}'"] for k, (run_id, *_) in enumerate(lines)]


def test_runs_of_one_kind_are_stacked_in_their_order(tmp_path: Path) -> None:
    jobs = plan_in(
        tmp_path, ("a", "x", 64), ("b", "y", 64), ("c", None, 64), ("d", "x", 64), ("e", "x", 64), ("f", "y", 64)
    )
    assert stacks(jobs, 1, tmp_path, gpu=False) == [[0], [1], [2], [3], [4], [5]]
    assert stacks(jobs, 2, tmp_path, gpu=False) == [[0, 3], [1, 5], [2], [4]]
    assert stacks(jobs, 8, tmp_path, gpu=False) == [[0, 3, 4], [1, 5], [2]]


def test_large_batches_are_stacked_on_a_gpu_alone_and_unplanned_jobs_nowhere(tmp_path: Path) -> None:
    jobs = plan_in(tmp_path, ("a", "x", 4096), ("b", "x", 4096))
    assert stacks(jobs, 2, tmp_path, gpu=False) == [[0], [1]]
    assert stacks(jobs, 2, tmp_path, gpu=True) == [[0, 1]]
    assert stacks([["seed=0"], ["seed=1"]], 2, tmp_path, gpu=True) == [[0], [1]]


def test_a_run_of_several_devices_is_stacked_with_none_and_takes_a_slot_for_each(tmp_path: Path) -> None:
    jobs = plan_in(tmp_path, ("a", "x", 64), ("b", "x", 64), ("c", "x", 64))
    lines = [json.loads(line) for line in (tmp_path / "plan.jsonl").read_text().splitlines()]
    lines[1]["devices_per_run"] = 2
    (tmp_path / "plan.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert stacks(jobs, 4, tmp_path, gpu=False) == [[0, 2], [1]]
    unplanned = [["seed=0"], ["seed=0", "runtime.devices_per_run=4"], ["runtime.devices_per_run=x"]]
    assert widths([*jobs, *unplanned], 3, tmp_path) == [1, 2, 1, 3, 4, 1]


def test_jobs_outside_a_plan_are_named_by_their_settings(tmp_path: Path) -> None:
    jobs = [["+sweep=s", "a=1", "seed=0"], ["+sweep=s", "a=1", "seed=1"], ["+sweep=s", "a=1", "seed=2", "b=1"]]
    assert job_labels(jobs, [[0, 1], [2]], tmp_path) == ["seed=0|1", "seed=2 b=1"]
    assert job_labels(jobs[:1], [[0]], tmp_path) == ["a=1 seed=0"]


def test_planned_jobs_are_named_by_their_plan(tmp_path: Path) -> None:
    counts = {"n_params": {"non_embedding": 1500}, "requested_flops": 1e9, "train_tokens": 2e5}
    lines = [{"run_id": run_id, **counts, "seed": seed} for seed, run_id in enumerate(("x", "y"))]
    (tmp_path / "plan.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    jobs = [["study=s", f"seed={seed}", f"planned='{run_id}'"] for seed, run_id in enumerate(("x", "y"))]
    assert job_labels(jobs, [[0, 1]], tmp_path) == ["N=1.5k C=1e+09 D=200k seed=0|1"]


def losses(study: Path) -> dict[str, Any]:
    return {record.run_id: record.val_loss_nats for record in read_records(study)}


def test_a_stacked_sweep_gives_the_records_of_one_that_is_not(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    plain = scaling("train", "-m", *SEEDS, cwd=tmp_path / "a")
    assert plain.returncode == 0, plain.stderr
    stacked = scaling("train", "-m", *SEEDS, "stack=2", cwd=tmp_path / "b")
    assert stacked.returncode == 0, stacked.stderr
    assert "6 runs, in 4 stacks, over" in stacked.stderr
    assert "[6/6]" in stacked.stderr
    assert "seed=0|1 done" in stacked.stderr
    study = tmp_path / "b" / "runs" / "s"
    found, expected = losses(study), losses(tmp_path / "a" / "runs" / "s")
    assert found.keys() == expected.keys()
    assert list(found.values()) == pytest.approx([expected[run_id] for run_id in found], rel=1e-3)
    for run_id in found:
        assert (study / run_id / "attempts" / "0001" / "log.txt").read_text().count("train_loss") > 1
        assert len(read_metrics(study / run_id)) > 1


@pytest.mark.parametrize("command", [["train", "-m"], ["tune"]])
def test_an_impossible_stack_is_refused_in_a_line(command: list[str], tmp_path: Path) -> None:
    asked = scaling(*command, "+sweep=smoke", "stack=0", cwd=tmp_path)
    assert asked.returncode != 0
    assert "stack=0: must be at least 1" in asked.stderr
    assert "Traceback" not in asked.stderr


@pytest.mark.long
def test_a_sweep_that_stacks_can_be_launched_by_another_launcher(tmp_path: Path) -> None:
    small = ["hydra.sweeper.budgets=[1e8]", "hydra.sweeper.sizes.count=1", "seed=0", *TINY[:1]]
    asked = scaling("train", "+sweep=quickstart", "-m", "hydra/launcher=basic", *small, cwd=tmp_path)
    assert asked.returncode == 0, asked.stderr
    assert "1 runs: 1 done" in asked.stderr


@pytest.mark.long
def test_ctrl_c_stops_every_run_of_a_stack_and_the_same_command_goes_on(tmp_path: Path) -> None:
    longer = [part.replace("flops=3e8", "flops=3e9") for part in SEEDS]
    one_slot = ["hydra.launcher.slots=1", "hydra.launcher.threads_per_slot=1"]  # of two threads one waits, if not both
    command = ["train", "-m", *longer, "stack=3", *one_slot]
    sweep = subprocess.Popen(
        [SCALING, *command], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    study = tmp_path / "runs" / "s"
    wait_for(lambda: len(training(study)) == 3, sweep)
    os.killpg(sweep.pid, signal.SIGINT)
    assert sweep.wait(timeout=60) == 1
    stopped = [json.loads(path.read_text()) for path in study.glob("*/attempts/0001/end.json")]
    assert [end["status"] for end in stopped] == ["preempted"] * 3
    assert all("checkpoint written" in end["why"] for end in stopped)
    again = scaling(*command, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    records = read_records(study)
    assert sorted(record.attempts for record in records) == [1, 1, 1, 2, 2, 2]
    assert {record.status for record in records} == {"done"}
