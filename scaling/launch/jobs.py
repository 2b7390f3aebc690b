"""Jobs: units of work that a launcher runs, how each goes, and a job's line to its launcher."""

import contextlib
import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scaling.records.attempt import FAILED, INTERRUPTED
from scaling.records.record import DONE

Message = tuple[str, Any]  # ("news", what changed), or a status with (why, result)


@dataclass
class Job:
    """One unit of work, and how it goes."""

    label: str
    payload: Any
    runs: int = 1  # that it trains
    status: str = "waiting"
    why: str = ""
    result: Any = None
    log: Path | None = None
    slot: str = ""
    latest: dict[str, Any] = field(default_factory=dict)  # the numbers that it last reported
    started: float | None = None
    ended: float | None = None

    def hear(self, message: Message) -> None:
        """Take in a message from the job's channel."""
        kind, value = message
        if kind == "news":
            self.log = value.pop("log", self.log)
            self.latest.update(value)
        else:
            self.status = kind
            self.why, self.result = value


class Channel:
    """A job's line to its launcher, from within its process."""

    def __init__(self, send: Callable[[Message], object], log: Path | None, threads: int) -> None:
        """`log` is the file that the process prints into; None leaves its output where it is."""
        self._send = send
        self._moved = False
        self.log = log
        self.threads = threads

    def report(self, **news: Any) -> None:
        """Report numbers of the job's progress; they appear in the table of jobs."""
        self.send(("news", news))

    def send(self, message: Message) -> None:
        """Send to the launcher, or to nobody: a run whose launcher was killed still has its checkpoint to write."""
        with contextlib.suppress(ConnectionError):
            self._send(message)

    def move_log(self, path: Path) -> None:
        """Move the log of this process to `path`; a second move only links it there, since a stack has one log."""
        if self.log is None:
            return
        if self._moved:
            with contextlib.suppress(OSError):  # a file system without links: the first run's log is all there is
                os.link(self.log, path)
            return
        os.rename(self.log, path)
        self.log, self._moved = path, True
        self.report(log=path)


Target = Callable[[Any, Channel], Any]  # does the work of a payload, and returns its result


def do(target: Target, payload: Any, channel: Channel) -> Message:
    """Do a job's work; returns its last message. A traceback is printed here, where the job's log is."""
    try:
        return DONE, ("", target(payload, channel))
    except KeyboardInterrupt as error:
        return INTERRUPTED, (str(error), None)
    except BaseException as error:
        traceback.print_exc()
        return FAILED, (f"{type(error).__name__}: {error}", None)
