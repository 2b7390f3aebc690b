"""Columns on a terminal: a table of words and numbers, and a study's runs in one."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scaling.quantities import short
from scaling.records.attempt import RunState
from scaling.terminal import terminal

LONG = 500  # rows of a table beyond which it is printed as plain lines
WIDE = 160  # columns of a table in a log file, which has no width of its own


def print_status(study_dir: Path, states: dict[str, tuple[RunState, int | None]], console: Console) -> None:
    """Print every run of a study: status, progress, loss, speed."""
    numbers = ("step", "loss", "tokens/s", "attempts")
    rows = [
        (
            run_id,
            state.status,
            f"{state.step:,}" + (f"/{steps:,}" if steps else ""),
            "" if state.loss_nats is None else f"{state.loss_nats:.4f}",
            "" if state.tokens_per_s is None else short(state.tokens_per_s),
            str(state.attempts),
            state.why,
        )
        for run_id, (state, steps) in states.items()
    ]
    console.print(Text(str(study_dir), style="italic"), soft_wrap=True)
    print_columns({name: name in numbers for name in ("run", "status", *numbers, "why")}, rows, console)


def print_columns(
    heads: Mapping[str, bool], rows: Sequence[tuple[str, ...]], console: Console, no_wrap: Sequence[str] = ()
) -> None:
    """Print a table; `heads` states of each column whether its cells stand to the right.

    A long table is printed as plain lines, in a tenth of the time and as wide as its cells.
    """
    if len(rows) > LONG:
        cells = [tuple(heads), *([" ".join(cell.split()) for cell in row] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        form = " " + "   ".join(
            f"{{:{'>' if right else '<'}{n}}}" for right, n in zip(heads.values(), widths, strict=True)
        )
        head, *lines = [form.format(*row) + " " for row in cells]
        blank = " " * len(head)
        rule = f" {'─' * (len(head) - 2)} "
        console.file.write("\n".join([blank, head, rule, *lines, blank, ""]))
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name, right in heads.items():
        table.add_column(name, justify="right" if right else "left", no_wrap=name in no_wrap)
    for row in rows:
        table.add_row(*row)
    wide(console).print(table)


def print_rows(rows: Sequence[tuple[str, ...]], console: Console) -> None:
    """Print a table of words, whose first row holds the heads."""
    table = Table(*rows[0], box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows[1:]:
        table.add_row(*row)
    wide(console).print(table)


def wide(console: Console) -> Console:
    """The console, or one of WIDE columns where a log file stands in for a terminal."""
    if console.is_terminal or console.record:
        return console
    return terminal(file=console.file, width=WIDE)
