"""Launchers by name: every command that trains (train, tune, finetune, bench) hands its jobs to a launcher.

A new launcher is one file with a class, one entry in LAUNCHERS, and one YAML in conf/hydra/launcher/.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from scaling.launch.in_process import InProcess
from scaling.launch.jobs import Job, Target
from scaling.launch.local import Local
from scaling.launch.ray import start_ray
from scaling.launch.slurm import start_slurm
from scaling.launch.table import LiveTable
from scaling.machine.slots import Slot
from scaling.records.attempt import FAILED, LOST
from scaling.registry import choose
from scaling.terminal import terminal


class Launcher(Protocol):
    """A launcher runs jobs to their ends; a failing job never stops or loses another."""

    @property
    def slots(self) -> Sequence[Slot]:
        """Slots, each of which runs one job at a time."""
        ...

    def run(
        self, jobs: Sequence[Job], target: Target, log_dir: Path, preload: Sequence[str], show: Callable[[], None]
    ) -> None:
        """Run all jobs, calling `show` a few times a second; Ctrl-C stops the jobs cleanly and returns.

        A launcher with processes of its own imports the modules of `preload` there once, and logs into `log_dir`.
        """
        ...


# A launcher is called with use_gpus= and the settings of its YAML.
LAUNCHERS: dict[str, Callable[..., Launcher]] = {"local": Local, "in_process": InProcess}

# A starter only starts workers of a planned study elsewhere. It is called with the study's folder, the plan's id, a
# count of the unfinished runs, and the settings of its YAML, and returns whether it has waited for the runs.
STARTERS: dict[str, Callable[..., bool]] = {"slurm": start_slurm, "ray": start_ray}


def make_launcher(settings: Mapping[str, Any], use_gpus: bool) -> Launcher:
    """The launcher named by the settings in hydra.launcher; ValueError lists the choices."""
    own = {name: value for name, value in settings.items() if name != "_target_"}
    if "name" not in own:
        raise ValueError(
            f"hydra.launcher._target_={settings.get('_target_')} is Hydra's own and runs Hydra's jobs alone; choose "
            f"hydra/launcher={', '.join(sorted(LAUNCHERS))}"
        )
    if own["name"] in STARTERS:
        raise ValueError(
            f"hydra/launcher={own['name']} starts workers of a planned sweep (`scaling train ... -m`); here choose "
            f"hydra/launcher={', '.join(sorted(LAUNCHERS))}"
        )
    return choose("hydra/launcher", LAUNCHERS, own.pop("name"))(use_gpus=use_gpus, **own)


def run_jobs(
    launcher: Launcher,
    jobs: Sequence[Job],
    target: Target,
    log_dir: Path,
    preload: Sequence[str] = (),
    *,
    fail_fast: bool = False,
) -> None:
    """Run jobs with a launcher, under a live table of the jobs; with `fail_fast`, until the first of them fails."""
    with LiveTable(jobs, launcher.slots) as table:
        show = _until_failure(jobs, table.refresh) if fail_fast else table.refresh
        launcher.run(jobs, target, log_dir, preload, show)


def _until_failure(jobs: Sequence[Job], show: Callable[[], None]) -> Callable[[], None]:
    """The same `show`, which stops the launcher once, as Ctrl-C does, when a job has failed."""
    stopped = False

    def shown() -> None:
        nonlocal stopped
        show()
        if not stopped and any(job.status in (FAILED, LOST) for job in jobs):
            stopped = True
            terminal(stderr=True).print("fail_fast=true: a run failed, and the others stop")
            raise KeyboardInterrupt

    return shown
