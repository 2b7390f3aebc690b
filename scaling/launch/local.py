"""Launcher `local`: a fresh process for every job, one process per slot of this machine."""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from scaling.launch.jobs import Job, JobSource, Target
from scaling.launch.pool import Pool
from scaling.machine.slots import Slot
from scaling.machine.slots import slots as slots_here

SHORT_TEMP = ("/tmp", "/var/tmp", "/dev/shm")
LONGEST_TEMP = 107 - len("/pymp-12345678/listener-12345678")  # bytes: a socket's path has 107 at most on Linux


class Local:
    """A launcher over this machine's GPUs, shares of GPUs, or CPU cores."""

    def __init__(self, *, use_gpus: bool, slots: int | None = None, threads_per_slot: int | None = None) -> None:
        self.slots = slots_here(slots, threads_per_slot, use_gpus)

    def run(
        self, jobs: Sequence[Job], target: Target, log_dir: Path, preload: Sequence[str], show: Callable[[], None]
    ) -> None:
        if jobs:
            check_width(max(jobs, key=lambda job: job.slots), self.slots)
        pool_here(self.slots, target, log_dir, jobs, show, preload)


def check_width(job: Job, slots: Sequence[Slot]) -> None:
    """ValueError for a job of more slots than there are, or of several where slots are shares of GPUs."""
    if job.slots <= widest_job(slots):
        return
    gpus = {gpu for slot in slots if (gpu := slot.environment.get("CUDA_VISIBLE_DEVICES"))}
    found = f"{len(slots)} slots share {len(gpus)} GPUs" if 0 < len(gpus) < len(slots) else f"{len(slots)} are here"
    most = f"{len(gpus)} GPUs are here" if gpus else f"hydra.launcher.slots={job.slots} makes as many"
    raise ValueError(
        f"{job.label}: runtime.devices_per_run={job.slots} takes {job.slots} whole slots, and {found}; {most}"
    )


def widest_job(slots: Sequence[Slot]) -> int:
    """The most slots that one job can take: all, but for shares of GPUs one."""
    gpus = [gpu for slot in slots if (gpu := slot.environment.get("CUDA_VISIBLE_DEVICES"))]
    return 1 if len({*gpus}) < len(gpus) else len(slots)


def pool_here(
    slots: Sequence[Slot],
    target: Target,
    log_dir: Path,
    jobs: Sequence[Job] | JobSource,
    show: Callable[[], None],
    preload: Sequence[str] = (),
) -> None:
    """Run jobs in a pool of processes on this machine."""
    with _short_sockets():
        Pool(slots, target, log_dir, ["scaling.launch.preload", *preload]).run(jobs, show)


@contextmanager
def _short_sockets() -> Iterator[None]:
    """Within, temporary files lie in a folder that leaves the fork server's socket a path that the system takes."""
    before, given = tempfile.tempdir, tempfile.gettempdir()
    if len(os.fsencode(given)) > LONGEST_TEMP:
        tempfile.tempdir = next((path for path in SHORT_TEMP if os.access(path, os.W_OK | os.X_OK)), given)
    try:
        yield
    finally:
        tempfile.tempdir = before
