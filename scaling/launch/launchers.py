"""The launchers, by name: whatever trains (train, tune, finetune, bench) hands its jobs to one of them.

Adding a launcher is one file with a class, one entry in LAUNCHERS, and one YAML in conf/hydra/launcher/.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from scaling.launch.in_process import InProcess
from scaling.launch.jobs import Job, Target
from scaling.launch.local import Local
from scaling.launch.table import LiveTable
from scaling.machine.slots import Slot
from scaling.registry import choose


class Launcher(Protocol):
    """Runs jobs to their ends; a job that fails never stops or loses another."""

    @property
    def slots(self) -> Sequence[Slot]:
        """The places where jobs run at once."""
        ...

    def run(
        self, jobs: Sequence[Job], target: Target, log_dir: Path, preload: Sequence[str], show: Callable[[], None]
    ) -> None:
        """Run all jobs, calling `show` a few times a second. Ctrl-C stops them cleanly and returns.

        Jobs that start processes let these import the modules of `preload` once, and log into `log_dir`.
        """
        ...


# Each is called with use_gpus= and the settings of its YAML.
LAUNCHERS: dict[str, Callable[..., Launcher]] = {"local": Local, "in_process": InProcess}


def launcher(settings: Mapping[str, Any], use_gpus: bool) -> Launcher:
    """The launcher that a configuration's hydra.launcher names; ValueError lists the choices."""
    own = {name: value for name, value in settings.items() if name != "_target_"}
    if "name" not in own:
        raise ValueError(
            f"hydra.launcher._target_={settings.get('_target_')} is Hydra's own and runs Hydra's jobs alone; choose "
            f"hydra/launcher={' or '.join(sorted(LAUNCHERS))}"
        )
    return choose("hydra/launcher", LAUNCHERS, own.pop("name"))(use_gpus=use_gpus, **own)


def run_jobs(place: Launcher, jobs: Sequence[Job], target: Target, log_dir: Path, preload: Sequence[str] = ()) -> None:
    """Run jobs with a launcher under a live table of them."""
    with LiveTable(jobs, place.slots) as table:
        place.run(jobs, target, log_dir, preload, table.refresh)
