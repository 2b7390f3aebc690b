"""Runs over several nodes of Slurm: the same records as in one process, and no rank left behind, however they end."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from scaling.cli import main
from scaling.launch import slurm
from scaling.machine import nodes
from scaling.machine.nodes import check_nodes, nodes_here, on_node
from scaling.records.attempt import run_state
from scaling.records.record import DONE, RunRecord, attempt_dirs, readable_record
from scaling.train.parallel.followers import signal_of
from tests.launch.test_real_slurm import cancelled, within
from tests.launch.test_worker import GRID, STUDY

ALONE = "study=alone"
WIDE = (*(one for one in GRID if not one.startswith("study=")), "model.context=32", "recipe.batch_tokens=128")
TWO = ("runtime.devices_per_run=2", "runtime.nodes_per_run=2")
LAUNCHER = (
    "hydra/launcher=slurm",
    *(f"hydra.launcher.{one}" for one in ("nodes=2", "gpus=0", "cpus=1", "memory=1G", "time=4")),
)
RANKS = """# @package _global_
hydra:
  sweeper:
    zip: {seed: [0, 1, 2, 3], runtime.devices_per_run: [1, 2, 4, 2], runtime.nodes_per_run: NODES}
"""
needs_nodes = pytest.mark.skipif(
    shutil.which("sinfo") is None
    or len(subprocess.run(["sinfo", "-hN", "-o%N"], capture_output=True, text=True, check=False).stdout.split()) < 2,
    reason="no Slurm of two nodes is here",
)


def test_a_process_alone_has_one_node_and_a_job_as_many_as_slurm_states(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_JOB_NUM_NODES", raising=False)
    assert nodes_here() == 1
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "3")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert nodes_here() == 1  # nothing here starts a process on another
    (tmp_path / "srun").touch(0o755)
    assert nodes_here() == 3
    check_nodes(3, nodes_here())
    with pytest.raises(ValueError, match="runtime.nodes_per_run=4, but 3 nodes are here; hydra/launcher=slurm hydra"):
        check_nodes(4, nodes_here())


def test_a_rank_elsewhere_is_one_overlapping_task_on_its_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "7")
    words = on_node(2, ["python", "-m", "x"])
    assert words[0] == "srun"
    assert words[-3:] == ["python", "-m", "x"]
    for word in ("--nodes=1", "--ntasks=1", "--relative=2", "--cpus-per-task=7", "--overlap", "--export=ALL"):
        assert word in words
    monkeypatch.delenv("SLURM_CPUS_PER_TASK")
    assert not any("cpus-per-task" in word for word in on_node(1, ["python"]))


def test_an_exit_code_of_srun_names_the_signal_of_its_task() -> None:
    assert [signal_of(code) for code in (1, 3, 127, -9, 137, 255)] == [None, None, None, 9, 9, None]


def test_the_address_is_one_that_others_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes.socket, "gethostbyname", lambda _: "10.1.2.3")
    assert nodes.address() == "10.1.2.3"
    monkeypatch.setattr(nodes.socket, "gethostbyname", lambda _: "127.0.1.1")
    monkeypatch.setattr(nodes, "_source", lambda _: "10.4.5.6")
    assert nodes.address() == "10.4.5.6"


def test_an_interface_is_found_by_its_address_and_the_users_choice_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(nodes.INTERFACE, "")
    monkeypatch.delenv(nodes.INTERFACE)  # and again afterwards, as it is set here
    nodes.use_interface(nodes.LOOPBACK)
    assert os.environ[nodes.INTERFACE] in nodes.LOOPBACKS
    nodes.use_interface("192.0.2.1")
    assert os.environ[nodes.INTERFACE] in nodes.LOOPBACKS
    assert nodes.interface_towards(nodes.LOOPBACK) in (*nodes.LOOPBACKS, None)  # None: no Linux


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            ["train", "budget.flops=1e8", *TWO],
            "runtime.nodes_per_run=2, but 1 node is here; hydra/launcher=slurm hydra",
        ),
        (["train", "-m", "budget.flops=1e8", *TWO], "but 1 node is with hydra/launcher=local;"),
        (["train", "-m", "budget.flops=1e8", *TWO, LAUNCHER[0]], "with hydra/launcher=slurm hydra.launcher.nodes=1; "),
        (
            ["plan", "budget.flops=1e8", "runtime.devices_per_run=3", TWO[1]],
            "runtime.devices_per_run=3 in all are spread",
        ),
    ],
)
def test_nodes_that_are_not_there_are_refused_before_training(
    settings: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SLURM_JOB_NUM_NODES", raising=False)
    assert main([settings[0], *WIDE, "study=s", *settings[1:]]) != 0
    assert words in capsys.readouterr().err
    assert not list(tmp_path.glob("runs/s/*/attempts"))


def only_run() -> Path:
    (line,) = (STUDY / "plan.jsonl").read_text().splitlines()
    return STUDY / json.loads(line)["run_id"]


def record_of(run_dir: Path) -> RunRecord:
    record = readable_record(run_dir)
    assert record is not None
    return record


def alone(*settings: str) -> RunRecord:
    """The record of the run in one process."""
    assert main(["train", *WIDE, *settings, ALONE]) == 0
    (path,) = Path("runs/alone").glob("*/record.json")
    return record_of(path.parent)


def assert_agree(found: RunRecord, expected: RunRecord) -> None:
    assert (found.run_id, found.status, found.steps) == (expected.run_id, DONE, expected.steps)
    assert found.val_loss_nats == pytest.approx(expected.val_loss_nats, rel=1e-5)
    assert found.train_loss_nats == pytest.approx(expected.train_loss_nats, rel=1e-5)


def elsewhere(run_dir: Path) -> list[int]:
    """Processes of the run's ranks that tasks of Slurm are."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().decode().split("\0")
            if "scaling.train.parallel.rank" in words and words[0] != "srun" and str(run_dir.resolve()) in words[-2]:
                found.append(int(path.name))
        except OSError:
            continue
    return found


def steps_of(run_dir: Path) -> int:
    dirs = attempt_dirs(run_dir)
    path = dirs[-1] / "heartbeat.json" if dirs else None
    return int(json.loads(path.read_text()).get("step") or 0) if path is not None and path.exists() else 0


@pytest.mark.long
@pytest.mark.parametrize(
    ("nodes_per_run", "launcher"),
    [
        ([1, 1, 1, 1], ("hydra/launcher=local", "hydra.launcher.slots=4")),
        pytest.param([1, 2, 2, 1], (*LAUNCHER, "hydra.launcher.array_parallel=2"), marks=needs_nodes),
    ],
    ids=["local", "two nodes"],
)
def test_a_sweep_of_1_2_and_4_ranks_leaves_the_records_of_one_process(
    nodes_per_run: list[int], launcher: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("conf/sweep").mkdir(parents=True)
    Path("conf/sweep/ranks.yaml").write_text(RANKS.replace("NODES", str(nodes_per_run)))
    sweep = ["+sweep=ranks", *WIDE, "study=s", "budget.flops=4e8"]
    try:
        assert main(["train", "-m", *sweep, *launcher]) == 0
    finally:
        if "hydra/launcher=slurm" in launcher:
            cancelled(tmp_path)
    assert main(["train", "-m", *WIDE, "budget.flops=4e8", "seed=0,1,2,3", ALONE]) == 0
    ids = sorted(path.parent.name for path in Path("runs/alone").glob("*/record.json"))
    assert len(ids) == 4
    hardware: list[Any] = []
    for run_id in ids:
        found = record_of(STUDY / run_id)
        assert_agree(found, record_of(Path("runs/alone") / run_id))
        hardware.append((found.hardware["devices_per_run"], found.hardware["nodes_per_run"]))
    assert sorted(hardware) == sorted(zip([1, 2, 4, 2], nodes_per_run, strict=True))


def kill_rank(run_dir: Path, job: str) -> None:
    (rank,) = elsewhere(run_dir)
    os.kill(rank, signal.SIGKILL)


def preempt(run_dir: Path, job: str) -> None:
    subprocess.run(["scancel", "--signal=USR2", "--batch", f"{job}_0"], check=True)


def kill_leader(run_dir: Path, job: str) -> None:
    os.kill(int(json.loads((attempt_dirs(run_dir)[-1] / "meta.json").read_text())["pid"]), signal.SIGKILL)


ENDS = {
    kill_rank: ("lost", "rank 1 of 2 was killed (SIGKILL)"),
    preempt: ("preempted", "checkpoint written"),
    kill_leader: ("lost", ""),
}


@pytest.mark.long
@needs_nodes
@pytest.mark.parametrize("injure", ENDS)
def test_a_run_over_two_nodes_goes_on_after_an_injury_and_agrees(
    injure: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        assert (
            main(["train", "-m", *WIDE, "study=s", "budget.flops=4e9", *TWO, *LAUNCHER, "hydra.launcher.wait=false"])
            == 0
        )
        (job,) = slurm.queue(json.loads((STUDY / "slurm" / "submission.json").read_text())["comment"])
        run_dir = only_run()
        within(lambda: steps_of(run_dir) > 50, 120)
        injure(run_dir, job.array)
        within(lambda: len(attempt_dirs(run_dir)) == 2 or run_state(run_dir).status == DONE, 200)
        within(lambda: not elsewhere(run_dir / "attempts" / "0001"), 30)
        within(lambda: run_state(run_dir).status == DONE, 200)
        within(lambda: not elsewhere(run_dir), 30)
    finally:
        cancelled(tmp_path)
    status, words = ENDS[injure]
    end = attempt_dirs(run_dir)[0] / "end.json"
    if end.exists():
        why = json.loads(end.read_text())
        assert (why["status"], words in why["why"]) == (status, True), why
    meta = json.loads((attempt_dirs(run_dir)[1] / "meta.json").read_text())
    assert meta["resumed_from_step"] > 0
    assert_agree(record_of(run_dir), alone("budget.flops=4e9"))


@pytest.mark.long
@needs_nodes
def test_a_cancelled_run_over_two_nodes_goes_on_with_the_sweeps_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["train", "-m", *WIDE, "study=s", "budget.flops=4e9", *TWO, *LAUNCHER]
    try:
        assert main([*command, "hydra.launcher.wait=false"]) == 0
        run_dir = only_run()
        within(lambda: steps_of(run_dir) > 50, 120)
        cancelled(tmp_path)
        within(lambda: not elsewhere(run_dir), 60)
        assert main(command) == 0
    finally:
        cancelled(tmp_path)
    meta = json.loads((attempt_dirs(run_dir)[1] / "meta.json").read_text())
    assert meta["resumed_from_step"] > 0
    assert_agree(record_of(run_dir), alone("budget.flops=4e9"))
