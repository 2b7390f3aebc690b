"""A pool of fresh processes, one job per slot: a job that fails, is killed or hangs up never stops or loses another."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from scaling.launch.jobs import Channel, Job, Target, do
from scaling.machine.slots import Slot
from scaling.records.attempt import INTERRUPTED, KILLED
from scaling.records.record import DONE

POLL_S = 0.2
STOP_WITHIN_S = 30.0  # time for a run to write its checkpoint

# glibc returns freed memory to the system in every training step and takes it again in the next; these settings keep
# the memory, in huge pages. A process reads them once, when it starts.
ALLOCATOR = {
    "MALLOC_TRIM_THRESHOLD_": "-1",
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TOP_PAD_": "67108864",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


@dataclass
class _Running:
    job: Job
    slot: Slot
    process: Any
    connection: Connection


class Pool:
    """A pool runs jobs over slots, in order, each in a process forked from a server with `preload` imported."""

    def __init__(self, slots: Sequence[Slot], target: Target, log_dir: Path, preload: Sequence[str]) -> None:
        self._free = list(slots)
        self._target = target
        self._log_dir = log_dir
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(preload))
        self._running: list[_Running] = []
        self.stopping = False
        self._deadline = float("inf")

    def run(self, jobs: Sequence[Job], show: Callable[[], None] = lambda: None) -> None:
        """Run all jobs to their ends, calling `show` a few times a second; Ctrl-C stops jobs cleanly and returns."""
        environment = {**ALLOCATOR, "OMP_NUM_THREADS": "1"}
        before = {name: os.environ.get(name) for name in environment}
        os.environ.update({name: value for name, value in environment.items() if before[name] is None})
        queue = list(jobs)
        self._log_dir.mkdir(parents=True, exist_ok=True)
        try:
            while queue or self._running:
                try:
                    while queue and self._free and not self.stopping:
                        self._start(queue.pop(0), self._free.pop(0))
                    self._collect()
                    show()
                    if self.stopping and not self._running:
                        break
                    if time.monotonic() > self._deadline:
                        self._stop()
                except KeyboardInterrupt:
                    self._stop()
            for job in queue:
                job.status, job.why = INTERRUPTED, "not started"
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)

    def _start(self, job: Job, slot: Slot) -> None:
        ours, theirs = self._context.Pipe()
        with NamedTemporaryFile(dir=self._log_dir, prefix=".starting-", suffix=".log", delete=False) as log:
            job.log = Path(log.name)
        process = self._context.Process(
            target=_enter, args=(self._target, job.payload, slot, theirs, job.log), daemon=False
        )
        process.start()
        theirs.close()
        job.status, job.slot, job.started = "running", slot.name, time.monotonic()
        self._running.append(_Running(job, slot, process, ours))

    def _collect(self) -> None:
        connections = [entry.connection for entry in self._running]
        sentinels = [entry.process.sentinel for entry in self._running]
        wait([*connections, *sentinels], timeout=POLL_S)
        for entry in list(self._running):
            self._listen(entry)
            if not entry.process.is_alive():
                self._listen(entry)  # its last message may have come after the first look
                self._finish(entry)

    def _listen(self, entry: _Running) -> None:
        try:
            while entry.connection.poll():
                entry.job.receive(entry.connection.recv())
        except (EOFError, ConnectionError):
            pass

    def _finish(self, entry: _Running) -> None:
        job = entry.job
        entry.process.join()
        code = entry.process.exitcode
        if job.status == "running":  # the process sent no final message
            job.status = KILLED
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            job.why = f"the process died ({name})" + ("; out of memory?" if name == "SIGKILL" else "")
        job.ended = time.monotonic()
        if job.status == DONE and job.log is not None and job.log.parent == self._log_dir:
            job.log.unlink(missing_ok=True)
        entry.connection.close()
        self._running.remove(entry)
        self._free.append(entry.slot)

    def _stop(self) -> None:
        """Signal every process to stop between two steps; the second call kills the processes."""
        if self.stopping:
            for entry in self._running:
                entry.process.kill()
            return
        self.stopping = True
        for entry in self._running:
            entry.process.terminate()
        self._deadline = time.monotonic() + STOP_WITHIN_S


def _enter(target: Target, payload: Any, slot: Slot, connection: Connection, log: Path) -> None:
    """Run a job in its process: the process's first code."""
    os.setsid()  # Ctrl-C reaches the pool alone, which signals its processes once
    os.environ.update(slot.environment)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    _stop_when_orphaned()
    channel = Channel(connection.send, log, slot.threads)
    outcome = do(target, payload, channel)
    sys.stdout.flush()
    sys.stderr.flush()
    channel.send(outcome)
    connection.close()


def _stop_when_orphaned() -> None:
    """Stop this process, as by a signal, when the pool's process dies: a new pool may then claim the run."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
