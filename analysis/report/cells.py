"""What the tables of a report are made of: columns, and cells with words and a value to sort by."""

from collections.abc import Callable, Mapping
from typing import Any

from analysis.words import number

Results = Mapping[str, Any]
Json = dict[str, Any]


def table(title: str, columns: list[Json], rows: list[list[Json]], note: str = "") -> Json:
    """A table: its title, columns, rows of cells and a note below."""
    return {"title": title, "columns": columns, "rows": rows, "note": note}


def columns(*names: str) -> list[Json]:
    """Headings: # before a number's, ~ before a long text's."""
    return [
        {"words": name.lstrip("#~"), "number": name.startswith("#"), "long": name.startswith("~")} for name in names
    ]


def cell(words: str, value: Any = None) -> Json:
    """What a table shows at one place, and the value to sort it by."""
    return {"words": words, "value": value}


def number_cell(value: float | None) -> Json:
    """Any number; a dash for null."""
    return cell(f"{value}" if isinstance(value, int) else number(value), value)


def percent_cell(value: float | None, digits: int) -> Json:
    """A fraction as a percentage; a dash for null."""
    return cell("–" if value is None else f"{100 * value:.{digits}f}%".replace("-", "−"), value)


def interval_cell(one: Results, say: Callable[[float], str]) -> Json:
    """A value with its interval; a dash for null."""
    return cell("–", None) if one["value"] is None else cell(stated(one, say), one["value"])


def stated(one: Results, say: Callable[[float], str], prefix: str = "") -> str:
    """A value with its interval, or with the words that there is none."""
    if one["low"] is None or one["high"] is None:
        return f"{say(one['value'])} (no interval)"
    return f"{say(one['value'])} ({prefix + ' ' if prefix else ''}{say(one['low'])} to {say(one['high'])})"
