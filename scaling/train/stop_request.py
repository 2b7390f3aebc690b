"""Stop requests: a signal stops a run between two steps, and a launcher between two looks."""

import signal
from types import FrameType
from typing import Any

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class StopRequest:
    """A context that counts SIGINT, SIGTERM and SIGHUP; the second signal raises KeyboardInterrupt unless `patient`."""

    def __init__(self, *, patient: bool = False) -> None:
        self.count = 0
        self._patient = patient
        self._previous: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.count > 0

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
        self.count += 1
        if self.count > 1 and not self._patient:
            raise KeyboardInterrupt
