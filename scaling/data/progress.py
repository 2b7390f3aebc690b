"""A progress bar that appears only after a noticeable wait."""

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PATIENCE_S = 1.0


class Meter:
    """A progress bar on standard error, if that is a terminal, which appears after `PATIENCE_S` seconds."""

    def __init__(self, show: bool) -> None:
        self._show = show
        self._since = time.monotonic()
        self._stage, self._done, self._total = "", 0, 0
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, stage: str, total: int) -> None:
        """Start a stage of `total` units of work."""
        self._stage, self._done, self._total = stage, 0, total
        if self._bar is not None and self._task is not None:
            self._bar.reset(self._task, description=stage, total=total)

    def advance(self, amount: int) -> None:
        """Count `amount` more units as done."""
        self._done += amount
        if self._show and self._bar is None and time.monotonic() - self._since > PATIENCE_S:
            self._draw()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._done)

    def _draw(self) -> None:
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True)
        self._show = console.is_terminal
        if self._show:
            self._bar = Progress(console=console, transient=True)
            self._task = self._bar.add_task(self._stage, total=self._total)
            self._bar.start()
