"""Every launcher in the registry runs jobs to their ends, whoever hands them over."""

from pathlib import Path
from typing import Any

import pytest

from scaling.cli import main
from scaling.config.config import CONF_DIR
from scaling.launch.jobs import Channel, Job
from scaling.launch.launchers import LAUNCHERS, make_launcher, run_jobs
from scaling.launch.local import check_width, widest_job
from scaling.machine.slots import Slot
from scaling.records.attempt import FAILED, PREEMPTED
from scaling.records.record import DONE, read_records

TINY = [
    "data=synthetic",
    "data.source.tokens=20000",
    "model.n_layers=1",
    "model.d_model=16",
    "model.n_heads=2",
    "model.context=16",
    "val_tokens=512",
    "budget.flops=1e8",
]


def halve(payload: Any, channel: Channel) -> Any:
    """A job that reports, and fails for a word."""
    channel.report(step=1)
    if payload == "stop":
        raise KeyboardInterrupt("stopped")
    return payload / 2


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_launcher_runs_every_job_and_loses_none_to_a_failure(name: str, tmp_path: Path) -> None:
    jobs = [Job(f"n={payload}", payload) for payload in (4, "four", 6)]
    run_jobs(make_launcher({"_target_": "any", "name": name}, use_gpus=False), jobs, halve, tmp_path)
    assert [job.status for job in jobs] == [DONE, FAILED, DONE]
    assert [jobs[0].result, jobs[2].result] == [2, 3]
    assert jobs[1].why.startswith("TypeError")
    assert all(job.latest == {"step": 1} and job.ended is not None for job in jobs)


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_launcher_has_its_yaml_and_trains_a_sweep(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (CONF_DIR / "hydra" / "launcher" / f"{name}.yaml").is_file()
    monkeypatch.chdir(tmp_path)
    assert main(["train", "-m", *TINY, "seed=0,1", f"hydra/launcher={name}", "stack=2", "study=s"]) == 0
    assert len(read_records(Path("runs/s"))) == 2


@pytest.mark.parametrize("settings", [{"name": "local", "slots": 1}, {"name": "in_process"}], ids=str)
@pytest.mark.parametrize(("fail_fast", "last"), [(False, DONE), (True, PREEMPTED)])
def test_the_first_failure_stops_the_others_if_asked(
    fail_fast: bool, last: str, settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = [Job(f"n={payload}", payload) for payload in (4, "four", 6)]
    run_jobs(make_launcher(settings, use_gpus=False), jobs, halve, tmp_path, fail_fast=fail_fast)
    assert [job.status for job in jobs] == [DONE, FAILED, last]
    assert capsys.readouterr().err.count("fail_fast=true: a run failed, and the others stop") == fail_fast


def test_a_stop_in_this_process_starts_no_other_job(tmp_path: Path) -> None:
    jobs = [Job("a", "stop"), Job("b", 2)]
    run_jobs(make_launcher({"name": "in_process"}, use_gpus=False), jobs, halve, tmp_path)
    assert [(job.status, job.why) for job in jobs] == [(PREEMPTED, "stopped"), (PREEMPTED, "not started")]


def test_an_unknown_launcher_and_hydras_own_are_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match="unknown hydra/launcher 'lokal': did you mean 'local'"):
        make_launcher({"name": "lokal"}, use_gpus=False)
    choices = ", ".join(sorted(LAUNCHERS))
    with pytest.raises(ValueError, match=f"runs Hydra's jobs alone; choose hydra/launcher={choices}"):
        make_launcher({"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"}, use_gpus=False)


@pytest.mark.parametrize(
    ("gpus", "devices", "message"),
    [
        (["", ""], 3, "runtime.devices_per_run=3 takes 3 whole slots, and 2 are here; hydra.launcher.slots=3 makes as"),
        (["0", "1"], 3, "takes 3 whole slots, and 2 are here; 2 GPUs are here"),
        (["0", "1", "0", "1"], 2, "takes 2 whole slots, and 4 slots share 2 GPUs; 2 GPUs are here"),
    ],
)
def test_a_run_of_more_devices_than_slots_is_refused(gpus: list[str], devices: int, message: str) -> None:
    here = [Slot(f"{i}", 1, {"CUDA_VISIBLE_DEVICES": gpu}) for i, gpu in enumerate(gpus)]
    with pytest.raises(ValueError, match=message):
        check_width(Job("a", None, slots=devices), here)
    check_width(Job("a", None, slots=1), here)
    assert widest_job(here) == (1 if len(gpus) > 2 else 2)
