"""Stopping a run between two steps when a signal asks for it."""

import signal
from types import FrameType
from typing import Any


class StopRequest:
    """While entered, SIGINT and SIGTERM only set `asked`; a second signal raises KeyboardInterrupt at once."""

    def __init__(self) -> None:
        self.asked = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        except ValueError:
            pass  # not the main thread: whoever owns that decides
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
