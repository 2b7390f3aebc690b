"""Terminals: rich consoles that print text as it is, whatever brackets a label, a path or an error holds."""

from typing import IO, Any

from rich.console import Console
from rich.text import Text


class Terminal(Console):
    """A console that leaves a closed pipe to the command, as `print` does."""

    def on_broken_pipe(self) -> None:
        raise


def terminal(*, stderr: bool = False, file: IO[str] | None = None, width: int | None = None) -> Console:
    """A console that reads no markup, emoji codes or numbers to be coloured in a text."""
    return Terminal(stderr=stderr, file=file, width=width, markup=False, emoji=False, highlight=False)


def flagged(flag: str, text: Any, style: str = "yellow") -> Text:
    """A text behind a coloured word."""
    return Text.assemble((flag, style), " ", str(text))
