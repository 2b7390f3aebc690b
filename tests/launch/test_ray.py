"""Workers in a Ray cluster, with a stand-in for Ray; the last tests start a real one where it is installed."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scaling.launch import ray as launcher
from scaling.launch.exit_codes import FAILURES_LEFT, NOTHING_LEFT, START_AGAIN
from scaling.launch.ray import FRUITLESS, RaySettings, start_ray
from scaling.records.attempt import run_state
from scaling.records.record import DONE
from tests.faults.clusters import without_ray
from tests.faults.runs import SCALING
from tests.launch.test_worker import GRID, STUDY

PLAIN = {"address": None, "slots": None, "gpus": None, "cpus": 1}


class RayError(Exception):
    """The stand-in's error of a dead actor."""


class StandIn:
    """A stand-in for Ray: the n-th worker that starts has the n-th end, an exit code or an actor's death."""

    exceptions = SimpleNamespace(RayError=RayError)

    def __init__(self, *ends: int | RayError) -> None:
        self.ends, self.started, self.asked = list(ends), [], {}  # type: ignore[var-annotated]
        self.cpus, self.gpus, self.on_start = 2, 0, lambda: None

    def init(self, **_: Any) -> None: ...

    def shutdown(self) -> None: ...

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": self.cpus, "GPU": self.gpus}}, {"Alive": False, "Resources": {}}]

    def remote(self, **asked: Any) -> Callable[[type], Any]:
        self.asked = asked

        def work(study_dir: str, log: str, pause_s: float) -> tuple[str, int]:
            self.on_start()
            self.started.append((Path(log).stem, pause_s))
            return log, len(self.started) - 1

        actor = SimpleNamespace(work=SimpleNamespace(remote=work))
        return lambda _: SimpleNamespace(remote=lambda gpus: actor)

    def wait(self, references: Sequence[Any], **_: Any) -> tuple[Sequence[Any], Sequence[Any]]:
        return references[:1], references[1:]

    def get(self, reference: tuple[str, int]) -> int:
        end = self.ends[reference[1]]
        if isinstance(end, RayError):
            raise end
        return end


def started(
    ray: StandIn, study_dir: Path, monkeypatch: pytest.MonkeyPatch, runs: int = 1, **settings: Any
) -> list[tuple[str, float]]:
    """The workers that a launch starts, each with the pause before it."""
    monkeypatch.setattr(launcher, "library", lambda *_: ray)
    assert start_ray(study_dir, "1", lambda: runs, PLAIN | settings)
    return ray.started


def test_one_worker_a_slot_and_no_more_than_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = StandIn(NOTHING_LEFT, NOTHING_LEFT)
    assert started(ray, tmp_path, monkeypatch, runs=9) == [("worker-0", 0.0), ("worker-1", 0.0)]
    assert ray.asked["max_restarts"] == ray.asked["max_task_retries"] == 0
    assert len(started(StandIn(NOTHING_LEFT), tmp_path, monkeypatch, runs=1)) == 1
    assert len(started(StandIn(*[NOTHING_LEFT] * 3), tmp_path, monkeypatch, runs=9, slots=3)) == 3


def test_a_worker_with_several_gpus_has_them_on_one_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = StandIn(NOTHING_LEFT, NOTHING_LEFT)
    ray.cpus, ray.gpus = 16, 8
    assert len(started(ray, tmp_path, monkeypatch, runs=9, gpus=4, cpus=2)) == 2
    assert (ray.asked["num_gpus"], ray.asked["num_cpus"]) == (4, 2)
    with pytest.raises(ValueError, match="with gpus=16: no node of the Ray cluster has room for that"):
        started(ray, tmp_path, monkeypatch, gpus=16)
    started(StandIn(NOTHING_LEFT), tmp_path, monkeypatch, gpus=16, slots=1)  # a node may still come


def test_an_actors_death_and_a_stopped_worker_start_another_and_other_ends_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ray = StandIn(RayError("node died\nmore"), START_AGAIN, -9, NOTHING_LEFT)
    assert len(started(ray, tmp_path, monkeypatch)) == 4
    assert "ray: worker-0: RayError: node died; another starts" in capsys.readouterr().err
    for end in (FAILURES_LEFT, 2):
        assert len(started(StandIn(end), tmp_path, monkeypatch)) == 1
        assert "none starts again; look at ray/worker-0.log" in capsys.readouterr().err


def test_a_slot_whose_workers_take_no_step_is_given_up_after_growing_pauses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [pause for _, pause in started(StandIn(*[-9] * 9), tmp_path, monkeypatch)] == [0.0, 1.0, 2.0, 4.0, 8.0]
    ray = StandIn(*[-9] * 9, NOTHING_LEFT)
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "spec.json").touch()

    def step() -> None:
        """Leave one more checkpoint: a node that is lost again and again costs no slot while runs go on."""
        (tmp_path / "r" / "checkpoint" / f"0001-{len(ray.started):08d}").mkdir(parents=True)

    ray.on_start = step
    assert len(started(ray, tmp_path, monkeypatch)) == 10 > FRUITLESS


def test_settings_without_sense_and_a_missing_ray_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("slots", 0), ("gpus", -1), ("cpus", 0)):
        with pytest.raises(ValueError, match=f"hydra.launcher.{name}={value}: must be at least"):
            RaySettings(**PLAIN | {name: value})
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"hydra/launcher=ray needs ray .*pip install 'scaling-experiments\[ray\]'"):
        start_ray(tmp_path, "1", lambda: 1, PLAIN)


needs_ray = pytest.mark.skipif(bool(without_ray()), reason=without_ray())


@pytest.mark.long
@needs_ray
def test_two_rays_on_one_machine_train_a_sweep_each(tmp_path: Path) -> None:
    command = [SCALING, "train", "-m", *GRID, "budget.flops=2e8", "seed=0,1", "hydra/launcher=ray"]
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
    both = [subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) for folder in folders]
    for folder, process in zip(folders, both, strict=True):
        _, printed = process.communicate(timeout=240)
        assert process.returncode == 0, printed
        lines = (folder / STUDY / "plan.jsonl").read_text().splitlines()
        assert {run_state(folder / STUDY / json.loads(line)["run_id"]).status for line in lines} == {DONE}


@pytest.mark.long
@needs_ray
def test_an_address_without_a_cluster_is_refused_in_a_line(tmp_path: Path) -> None:
    command = [SCALING, "train", "-m", *GRID, "budget.flops=2e8", "seed=0,1", "hydra/launcher=ray"]
    refused = subprocess.run(
        [*command, "hydra.launcher.address=127.0.0.1:1"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert "hydra.launcher.address=127.0.0.1:1: no Ray answers there" in refused.stderr
    assert "Traceback" not in refused.stderr
