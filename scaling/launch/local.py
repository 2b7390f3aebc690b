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
        pool_here(self.slots, target, log_dir, jobs, show, preload)


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
