"""Jobs: units of work that a launcher runs, their progress, and the channel from a job to its launcher."""

import contextlib
import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scaling.records.attempt import FAILED, INTERRUPTED
from scaling.records.record import DONE

Message = tuple[str, Any]  # ("news", changed numbers), or a final status with (why, result)


@dataclass
class Job:
    """A job: one unit of work and its progress."""

    label: str
    payload: Any
    runs: int = 1  # number of runs that the job trains
    status: str = "waiting"
    why: str = ""
    result: Any = None
    log: Path | None = None
    slot: str = ""
    latest: dict[str, Any] = field(default_factory=dict)  # the job's last reported numbers
    started: float | None = None
    ended: float | None = None

    def receive(self, message: Message) -> None:
        """Update the job by a message from its channel."""
        kind, value = message
        if kind == "news":
            self.log = value.pop("log", self.log)
            self.latest.update(value)
        else:
            self.status = kind
            self.why, self.result = value


class Channel:
    """The channel from a job's process to its launcher."""

    def __init__(self, send: Callable[[Message], object], log: Path | None, threads: int) -> None:
        """Open a channel; `log` is the file that the process prints into, None where its output is not redirected."""
        self._send = send
        self._moved = False
        self.log = log
        self.threads = threads

    def report(self, **news: Any) -> None:
        """Report progress numbers of the job, which the table of jobs shows."""
        self.send(("news", news))

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


Target = Callable[[Any, Channel], Any]  # does a payload's work and returns its result


def do(target: Target, payload: Any, channel: Channel) -> Message:
    """Do a job's work and return its last message; a traceback is printed here, into the job's log."""
    try:
        return DONE, ("", target(payload, channel))
    except KeyboardInterrupt as error:
        return INTERRUPTED, (str(error), None)
    except BaseException as error:
        traceback.print_exc()
        return FAILED, (f"{type(error).__name__}: {error}", None)
