"""Columns on a terminal: a table of words and numbers, which leaves columns out where the terminal is narrow."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scaling.terminal import terminal

WIDE = 160  # columns of a table in a log file, which has no width of its own
GAP = "  "


@dataclass(frozen=True)
class Column:
    """A column of a table; a narrow terminal leaves out the highest rank first, and never a column of rank 0."""

    head: str
    cells: Sequence[str]
    right: bool = True
    rank: int = 0

    @property
    def width(self) -> int:
        return max(map(len, (self.head, *self.cells)))

    def padded(self) -> list[str]:
        """The head and the cells, all of one width."""
        form = f"{{:{'>' if self.right else '<'}{self.width}}}"
        return [form.format(cell) for cell in (self.head, *self.cells)]


def fitting(columns: Sequence[Column], width: int) -> list[Column]:
    """The columns that a table of this width has room for; columns without any cell are left out too."""
    kept = [column for column in columns if any(column.cells)]
    while sum(column.width + len(GAP) for column in kept) - len(GAP) > width:
        last = max(kept, key=lambda column: column.rank, default=None)
        if last is None or not last.rank:
            break
        kept.remove(last)
    return kept


def lines_of(columns: Sequence[Column]) -> list[str]:
    """The lines of a table: its heads, then its rows."""
    return [GAP.join(row) for row in zip(*(column.padded() for column in columns), strict=True)]


def print_columns(columns: Sequence[Column], console: Console, groups: Sequence[tuple[str, int]] = ()) -> None:
    """Print a table whose rows may stand in groups, each with its title and its number of rows.

    The names of columns that the width leaves out follow in a line.
    """
    width = width_of(console)
    kept = fitting(columns, width)
    head, *rows = lines_of(kept)
    lines = [head, "─" * min(width, len(head))]
    start = 0
    for title, count in groups or [("", len(rows))]:
        lines += [title, *rows[start : start + count]] if title else rows[start : start + count]
        start += count
    console.out("\n".join(lines), highlight=False)  # as it is: Text would be cut into lines and joined again
    left_out = [column.head for column in columns if any(column.cells) and column not in kept]
    if left_out:
        needed = len(GAP.join(column.padded()[0] for column in columns if any(column.cells)))
        console.print(f"no room for: {', '.join(left_out)} ({needed} columns show all)", style="dim")
    console.print()


def print_rows(rows: Sequence[tuple[str, ...]], console: Console) -> None:
    """Print a table of words, whose first row holds the heads."""
    table = Table(*rows[0], box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows[1:]:
        table.add_row(*row)
    wide(console).print(table)


def print_prose(console: Console, text: str | Text) -> None:
    """Print a sentence: on a terminal its lines end between words, in a log it is one line."""
    console.print(text, soft_wrap=not console.is_terminal)


def width_of(console: Console) -> int:
    """Columns of the console; WIDE for a log file unless the environment's COLUMNS states a width."""
    return console.width if console.is_terminal or console.record or "COLUMNS" in os.environ else WIDE


def wide(console: Console) -> Console:
    """The console, or one of WIDE columns where a log file stands in for a terminal."""
    width = width_of(console)
    return console if width == console.width else terminal(file=console.file, width=width)
