"""Launcher `in_process`: jobs run one after another in this process, where a debugger can step through them."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from scaling.launch.jobs import BUSY, LOOK_AGAIN_S, RUNNING, Channel, Job, Queue, Target, do
from scaling.machine.slots import slots
from scaling.records.attempt import PREEMPTED


class InProcess:
    """A launcher that runs jobs in this process, on the whole machine."""

    def __init__(self, *, use_gpus: bool) -> None:
        self.slots = slots(1, None, use_gpus)

    def run(
        self, jobs: Sequence[Job], target: Target, log_dir: Path, preload: Sequence[str], show: Callable[[], None]
    ) -> None:
        queue = Queue(list(jobs))
        try:
            self._run_all(queue, target, show)
        except KeyboardInterrupt:  # between two jobs; a job's own ends in its status
            pass
        finally:
            queue.give_up()

    def _run_all(self, queue: Queue, target: Target, show: Callable[[], None]) -> None:
        while queue:
            job = queue.next()
            if job is None:
                time.sleep(LOOK_AGAIN_S)
                continue
            job.status, job.slot, job.started = RUNNING, self.slots[0].name, time.monotonic()
            show()
            job.receive(do(target, job.payload, Channel(job.receive, None, self.slots[0].asked_threads)))
            if job.status == BUSY:
                queue.put_back(job)
                continue
            job.ended = time.monotonic()
            show()
            if job.status == PREEMPTED:
                return
