"""Stop requests: a signal stops a run between two steps, and a launcher between two looks."""

import signal
from types import FrameType
from typing import Any

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR2")
SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))
# Signals of a batch system, which announces an end by one, follows it by the other and sends both to all processes.
# It has SIGKILL for what does not end, so a repetition is no impatience.
ANNOUNCED = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR2") if hasattr(signal, name))


class StopRequest:
    """A context that counts the signals that ask for an end: SIGINT, SIGHUP, SIGTERM, and a batch system's SIGUSR2.

    A second SIGINT or SIGHUP raises KeyboardInterrupt unless `patient`; SIGTERM and SIGUSR2 count once in all. A
    context around this one counts along, so that no signal is lost between two runs.
    """

    def __init__(self, *, patient: bool = False) -> None:
        self.count = 0
        self._patient = patient
        self._previous: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.count > 0

    def ask(self) -> None:
        """Ask for an end as a first signal does: another process of the run has received one."""
        self.count = max(1, self.count)

    def __enter__(self) -> "StopRequest":
        try:
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP, a shell's `&` SIGINT
                    self._previous[number] = signal.signal(number, self._note)
        except ValueError:
            pass  # outside the main thread no handler can be set: the main thread decides
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        around = getattr(self._previous.get(number), "__self__", None)
        if isinstance(around, StopRequest):
            around._note(number, frame)
        if self.requested and number in ANNOUNCED:
            return
        self.count += 1
        if self.count > 1 and not self._patient:
            raise KeyboardInterrupt
