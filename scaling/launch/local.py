"""Launcher `local`: a fresh process for every job, one process per slot of this machine."""

from collections.abc import Callable, Sequence
from pathlib import Path

from scaling.launch.jobs import Job, Target
from scaling.launch.pool import Pool
from scaling.machine.slots import slots as slots_here


class Local:
    """A launcher over this machine's GPUs, shares of GPUs, or CPU cores."""

    def __init__(self, *, use_gpus: bool, slots: int | None = None, threads_per_slot: int | None = None) -> None:
        self.slots = slots_here(slots, threads_per_slot, use_gpus)

    def run(
        self, jobs: Sequence[Job], target: Target, log_dir: Path, preload: Sequence[str], show: Callable[[], None]
    ) -> None:
        Pool(self.slots, target, log_dir, ["scaling.launch.preload", *preload]).run(jobs, show)
