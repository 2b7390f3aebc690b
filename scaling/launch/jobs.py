"""Jobs: units of work that a launcher runs, their progress, and the channel from a job to its launcher."""

import contextlib
import os
import queue
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from scaling.records.attempt import FAILED, LOST, PREEMPTED, LostError, RunIsLiveError
from scaling.records.record import DONE

WAITING, RUNNING = "waiting", "running"
BUSY = "busy"  # another process trains the job's runs: the job goes to the back of the queue
NEWS = "news"
MOST_NEWS = 1000  # messages that wait to be sent; more are dropped
LOOK_AGAIN_S = 1.0  # pause before jobs that wait for another process are looked at again
LAST_WORD_S = 10.0  # time for the final message to leave a process

Message = tuple[str, Any]  # (NEWS, changed numbers), or a final status with (why, result)


@dataclass
class Job:
    """A job: one unit of work and its progress."""

    label: str
    payload: Any
    runs: int = 1  # number of runs that the job trains
    slots: int = 1  # slots that the job takes at once
    is_busy: Callable[[], bool] = lambda: False  # whether another process trains the job's runs right now
    status: str = WAITING
    why: str = ""
    result: Any = None
    log: Path | None = None
    slot: str = ""
    latest: dict[str, Any] = field(default_factory=dict)  # the job's last reported numbers
    started: float | None = None
    ended: float | None = None
    tries: int = 0

    def receive(self, message: Message) -> None:
        """Update the job by a message from its channel."""
        kind, value = message
        if kind == NEWS:
            self.log = value.pop("log", self.log)
            self.latest.update(value)
        else:
            self.status = kind
            self.why, self.result = value

    def again(self) -> None:
        """Let the job wait for another start."""
        self.status, self.why, self.slot, self.started, self.ended = WAITING, "", "", None, None


class JobEndedError(RuntimeError):
    """A job ended without a result."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"{job.status}: {job.why}")
        self.status, self.why, self.log = job.status, job.why, job.log


class Channel:
    """The channel from a job's process to its launcher."""

    def __init__(self, send: Callable[[Message], object], log: Path | None, threads: int | None) -> None:
        """Open a channel; `log` is the file that the process prints into, None where its output is not redirected.

        `threads` are those of every run of the slot, None where a run chooses.
        """
        self._send = send
        self._moved = False
        self.log = log
        self.threads = threads

    def report(self, **news: Any) -> None:
        """Report progress numbers of the job, which the table of jobs shows."""
        self.send((NEWS, news))

    def send(self, message: Message) -> None:
        """Send a message; a dead launcher is no error, because the run still has its checkpoint to write."""
        with contextlib.suppress(ConnectionError):
            self._send(message)

    def move_log(self, path: Path) -> None:
        """Move this process's log to `path`; further moves only link it there, because a stack has one log."""
        if self.log is None:
            return
        if self._moved:
            with contextlib.suppress(OSError):  # on a file system without links, only the first run has the log
                os.link(self.log, path)
            return
        os.rename(self.log, path)
        self.log, self._moved = path, True
        self.report(log=path)


class Outbox:
    """Sends messages from a thread of its own, so that a launcher that does not read never holds a run up."""

    def __init__(self, send: Callable[[Message], object]) -> None:
        self._send = send
        self._waiting: queue.Queue[Message | None] = queue.Queue(MOST_NEWS)
        self._thread = threading.Thread(target=self._empty, daemon=True)
        self._thread.start()

    def put(self, message: Message) -> None:
        """Queue a message; where too many wait, this one is dropped."""
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(message)

    def close(self, last: Message) -> None:
        """Send the final message, for at most LAST_WORD_S."""
        with contextlib.suppress(queue.Full):
            self._waiting.put(last, timeout=LAST_WORD_S)
            self._waiting.put(None, timeout=LAST_WORD_S)
        self._thread.join(LAST_WORD_S)

    def _empty(self) -> None:
        while (message := self._waiting.get()) is not None:
            try:
                self._send(message)
            except OSError:
                return  # the launcher is gone


Target = Callable[[Any, Channel], Any]  # does a payload's work and returns its result


def do(target: Target, payload: Any, channel: Channel) -> Message:
    """Do a job's work and return its last message; a traceback is printed here, into the job's log."""
    try:
        return DONE, ("", target(payload, channel))
    except KeyboardInterrupt as error:
        return PREEMPTED, (str(error), None)
    except RunIsLiveError as error:
        return BUSY, (str(error), None)
    except BaseException as error:
        traceback.print_exc()
        return LOST if isinstance(error, LostError) else FAILED, (f"{type(error).__name__}: {error}", None)


class JobSource(Protocol):
    """A source of jobs for free slots; it is false once no job will come any more."""

    def __bool__(self) -> bool: ...

    def next(self) -> Job | None:
        """The next job that can start; None where each waits, or none is left."""
        ...

    def put_back(self, job: Job) -> None:
        """Take back a job that another process trains, or that hung and was killed (`why` states so)."""
        ...

    def give_up(self) -> None:
        """Mark every waiting job as preempted."""
        ...


class Queue:
    """Jobs that wait for a slot, in order; a job whose runs another process trains lets the others pass."""

    def __init__(self, jobs: list[Job]) -> None:
        self._jobs = jobs

    def __bool__(self) -> bool:
        return bool(self._jobs)

    def next(self) -> Job | None:
        """The first job that can start, taken out; None where each waits for another process."""
        for place, job in enumerate(self._jobs):
            if not job.is_busy():
                return self._jobs.pop(place)
        return None

    def put_back(self, job: Job) -> None:
        """Let a job wait behind all others."""
        job.again()
        self._jobs.append(job)

    def give_up(self) -> None:
        """Mark every waiting job as preempted."""
        for job in self._jobs:
            job.status, job.why = PREEMPTED, "not started"
        self._jobs = []
