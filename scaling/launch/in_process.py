"""Launcher `in_process`: jobs run one after another in this process, where a debugger can step through them."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from scaling.launch.jobs import Channel, Job, Target, do
from scaling.machine.slots import slots
from scaling.records.attempt import INTERRUPTED


class InProcess:
    """A launcher that runs jobs in this process, on the whole machine."""

    def __init__(self, *, use_gpus: bool) -> None:
        self.slots = slots(1, None, use_gpus)

    def run(
        self, jobs: Sequence[Job], target: Target, log_dir: Path, preload: Sequence[str], show: Callable[[], None]
    ) -> None:
        stopped = False
        for job in jobs:
            if stopped:
                job.status, job.why = INTERRUPTED, "not started"
                continue
            job.status, job.slot, job.started = "running", self.slots[0].name, time.monotonic()
            show()
            job.receive(do(target, job.payload, Channel(job.receive, None, self.slots[0].threads)))
            job.ended = time.monotonic()
            stopped = job.status == INTERRUPTED
            show()
