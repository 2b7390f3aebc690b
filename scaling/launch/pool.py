"""A pool of fresh processes, one job a slot; a job that fails, dies or hangs never stops or loses another."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from scaling.launch.hanging import Watch, activity
from scaling.launch.jobs import BUSY, LOOK_AGAIN_S, RUNNING, Channel, Job, JobSource, Outbox, Queue, Target, do
from scaling.machine.slots import Slot, joined
from scaling.records.attempt import LOST, PREEMPTED
from scaling.records.files import remove_scratch, scratch_name
from scaling.records.process import start_ticks
from scaling.records.record import DONE
from scaling.train.stop_request import StopRequest

POLL_S = 0.2
STOP_WITHIN_S = 30.0  # time for a run to reach the end of its step; writing its checkpoint may take longer
STARTS = 3  # tries to start a process, should the fork server die meanwhile
TRIES = 2  # starts of a job that hangs

# glibc returns freed memory to the system at every step and takes it again at the next; a training loop needs the
# memory kept, and in huge pages. A process reads these variables once, at its start.
ALLOCATOR = {
    "MALLOC_TRIM_THRESHOLD_": "-1",
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TOP_PAD_": "67108864",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


@dataclass
class _Running:
    job: Job
    slots: list[Slot]
    process: Any
    connection: Connection
    born: int | None  # start time of the process, which exposes a recycled pid
    watch: Watch = field(default_factory=Watch)
    hung: str = ""  # why the process was killed as hanging
    gone: bool = False  # its end of the connection is closed

    def lives(self) -> bool:
        """Whether the process lives; a dead fork server reports its living children as ended."""
        if self.process.is_alive():
            return True
        return self.process.exitcode == 255 and self.born is not None and start_ticks(self.process.pid) == self.born

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, number)


class Pool:
    """A pool runs jobs over slots, in order, each in a process forked from a server with `preload` imported."""

    def __init__(self, slots: Sequence[Slot], target: Target, log_dir: Path, preload: Sequence[str]) -> None:
        self._free = list(slots)
        self._target = target
        self._log_dir = log_dir
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(preload))
        self._running: list[_Running] = []
        self._next: Job | None = None  # a job that waits for more free slots: it starts before any other
        self.stopping = False
        self._obeyed = 0  # signals so far
        self._deadline = float("inf")

    def run(self, jobs: Sequence[Job] | JobSource, show: Callable[[], None] = lambda: None) -> None:
        """Run all jobs to their ends, calling `show` a few times a second.

        Ctrl-C, SIGTERM, SIGUSR2 and SIGHUP stop jobs cleanly and return; a second Ctrl-C kills their processes. An
        exception of `show`, or any other, stops the jobs as a signal does before it is raised; its KeyboardInterrupt
        only stops.
        """
        self._queue = Queue(list(jobs)) if isinstance(jobs, Sequence) else jobs
        self._look_again = 0.0
        self._log_dir.mkdir(parents=True, exist_ok=True)
        remove_scratch(self._log_dir)
        with StopRequest(patient=True) as self._signals:
            try:
                with _allocator():
                    self._run_all(show)
            finally:
                self._end_all()
                if self._next is not None:
                    self._queue.put_back(self._next)
                    self._next = None
                self._queue.give_up()

    def _run_all(self, show: Callable[[], None]) -> None:
        while self._queue or self._running or self._next:
            self._obey()
            self._start_waiting()
            self._collect()
            try:
                show()
            except KeyboardInterrupt:  # its word to stop, as at the first failure
                self._stop()
            if self.stopping and not self._running:
                break

    def _obey(self) -> None:
        """Stop the processes at the first signal, kill them at a further one, and the idle at the deadline."""
        while self._obeyed < self._signals.count:
            self._obeyed += 1
            self._stop()
        if time.monotonic() > self._deadline:
            self._kill_idle()

    def _start_waiting(self) -> None:
        while (self._next or self._queue) and self._free and not self.stopping:
            if time.monotonic() < self._look_again:
                return
            job = self._next or self._queue.next()
            if job is None:
                self._look_again = time.monotonic() + LOOK_AGAIN_S
                return
            if job.slots > len(self._free):
                self._next = job
                return
            self._next = None
            taken, self._free = self._free[: job.slots], self._free[job.slots :]
            self._start(job, taken)

    def _start(self, job: Job, slots: list[Slot]) -> None:
        slot = joined(slots)
        job.log = scratch_name(self._log_dir, "starting.log")
        job.log.touch()
        for left in reversed(range(STARTS)):
            ours, theirs = self._context.Pipe()
            process = self._context.Process(
                target=_enter, args=(self._target, job.payload, slot, theirs, job.log), daemon=False
            )
            try:
                process.start()
                break
            except (EOFError, OSError):  # the fork server died; the next start begins another
                ours.close()
                if not left:
                    raise
                time.sleep(POLL_S)
            finally:
                theirs.close()
        job.status, job.slot, job.started = RUNNING, slot.name, time.monotonic()
        job.tries += 1
        self._running.append(_Running(job, slots, process, ours, start_ticks(process.pid)))

    def _collect(self) -> None:
        """Wait a moment for messages and ends, and take them in."""
        ends = [entry.process.sentinel for entry in self._running if entry.process.is_alive()]
        wait([*(entry.connection for entry in self._running if not entry.gone), *ends], timeout=POLL_S)
        for entry in list(self._running):
            self._listen(entry)
            if not entry.lives():
                self._listen(entry)  # its last message may have come after the first look
                self._finish(entry)
            elif not entry.hung and (why := entry.watch.why_hanging(entry.job)):
                entry.hung = why
                entry.signal(signal.SIGKILL)

    def _listen(self, entry: _Running) -> None:
        try:
            while not entry.gone and entry.connection.poll():
                entry.job.receive(entry.connection.recv())
        except (EOFError, OSError):
            entry.gone = True

    def _finish(self, entry: _Running) -> None:
        job = entry.job
        entry.process.join()
        self._running.remove(entry)
        self._free += entry.slots
        entry.connection.close()
        if job.status in (RUNNING, BUSY) and entry.hung and job.tries < TRIES and not self.stopping:
            job.why = entry.hung
            self._queue.put_back(job)
            return
        if job.status == BUSY and not self.stopping:
            _remove_start_log(job, self._log_dir)
            self._queue.put_back(job)
            self._look_again = time.monotonic() + POLL_S
            return
        if job.status == BUSY:
            job.status, job.why = PREEMPTED, "not started"
        if job.status == RUNNING and self.stopping and entry.process.exitcode == -signal.SIGTERM:
            job.status, job.why = PREEMPTED, "stopped"  # work without steps ends by the signal itself
        if job.status == RUNNING:  # the process sent no final message
            job.status, job.why = LOST, entry.hung or _death(entry.process.exitcode)
        job.ended = time.monotonic()
        if job.status == DONE:
            _remove_start_log(job, self._log_dir)

    def _stop(self) -> None:
        """Signal every process to stop between two steps; the second call kills the processes."""
        if self.stopping:
            for entry in self._running:
                entry.signal(signal.SIGKILL)
            return
        self.stopping = True
        for entry in self._running:
            entry.signal(signal.SIGTERM)
        self._deadline = time.monotonic() + STOP_WITHIN_S

    def _kill_idle(self) -> None:
        """After the deadline, kill the processes that are not writing a checkpoint; a writer has its time."""
        for entry in self._running:
            if activity(entry.job) != "saving":
                entry.signal(signal.SIGKILL)

    def _end_all(self) -> None:
        """Stop the processes that still run, as after an exception; no process is left behind."""
        if self._running and not self.stopping:
            self._stop()
        while self._running:
            self._obey()
            self._collect()


@contextlib.contextmanager
def _allocator() -> Any:
    """Within, processes that start keep their memory, and small work takes one thread."""
    environment = {**ALLOCATOR, "OMP_NUM_THREADS": "1"}
    added = {name: value for name, value in environment.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _death(code: int) -> str:
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"the process died ({name})" + ("; out of memory?" if name == "SIGKILL" else "")


def _remove_start_log(job: Job, log_dir: Path) -> None:
    """Remove the log of a job that went well, or did not begin, where no run has taken the log over."""
    if job.log is not None and job.log.parent == log_dir:
        job.log.unlink(missing_ok=True)


def _enter(target: Target, payload: Any, slot: Slot, connection: Connection, log: Path) -> None:
    """Run a job in its process: the process's first code."""
    os.setsid()  # Ctrl-C reaches the pool alone, which signals its processes once
    os.environ.update(slot.environment)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    _stop_when_orphaned()
    outbox = Outbox(connection.send)
    outcome = do(target, payload, Channel(outbox.put, log, slot.asked_threads))
    sys.stdout.flush()
    sys.stderr.flush()
    outbox.close(outcome)
    connection.close()


def _stop_when_orphaned() -> None:
    """Stop this process, as by a signal, when the pool's process dies: a new pool may then claim the run."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
