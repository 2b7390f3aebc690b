"""The blocks of a page, as its template takes them: sections, figures, tables, and cells with a value to sort by."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scaling.analysis.figures.legends import LegendEntry, Ramp
from scaling.analysis.schema.intervals import Ends
from scaling.analysis.words import number, share_text


@dataclass(frozen=True)
class Column:
    """A heading of a table, and the kind of its cells."""

    words: str
    number: bool
    long: bool


@dataclass(frozen=True)
class Cell:
    """The words at one place of a table, and the value to sort by; None sorts last."""

    words: str
    value: float | str | None = None


@dataclass(frozen=True)
class Table:
    """A table: its title, columns, rows of cells and a note below."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


@dataclass(frozen=True)
class Section:
    """A section of the page: words, then figures by name, then tables."""

    id: str
    title: str
    figures: Sequence[str] = ()
    words: Sequence[str] = ()
    tables: Sequence[Table] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing would stand below the title."""
        return not (self.words or self.figures or any(table.rows or table.note for table in self.tables))


@dataclass(frozen=True)
class Answer:
    """The answer of the page: its sentences, how far it can be trusted, and the forecasters behind it."""

    lead: Sequence[str]
    more: Sequence[str]
    trust: str = ""
    calibrated: bool = False
    members: Table = Table("", (), ())  # the forecasters; without rows where one law answers alone


@dataclass(frozen=True)
class WhatIf:
    """The calculator of the page: its first compute, and words about its assumptions."""

    flops: str
    words: str


@dataclass(frozen=True)
class Link:
    """A link to a file beside the page."""

    name: str
    path: str


@dataclass(frozen=True)
class Figure:
    """A figure of the page, or the reason why it is absent."""

    title: str
    absent: str
    caption: str = ""
    below: str = ""
    legend: Sequence[LegendEntry] = ()
    scale: Ramp | None = None
    matrix: bool = False
    columns: int = 1
    least: int = 0  # pixels of width below which a panel goes to a row of its own
    heights: Sequence[int | None] = ()  # pixels of each panel; None leaves a place empty
    spoken: Sequence[str] = ()  # words of each panel for a screen reader
    files: Sequence[Link] = ()


def columns(*names: str) -> list[Column]:
    """Headings: # before a number's, ~ before a long text's."""
    return [Column(name.lstrip("#~"), number=name.startswith("#"), long=name.startswith("~")) for name in names]


def value_cell(value: float | None, spell: Callable[[float], str]) -> Cell:
    """A value in words; a dash for null."""
    return Cell("–" if value is None else spell(value), value)


def number_cell(value: float | None) -> Cell:
    """Any number; a dash for null."""
    return Cell(f"{value}" if isinstance(value, int) else number(value), value)


def percent_cell(value: float | None, digits: int) -> Cell:
    """A fraction as a percentage; a dash for null."""
    return Cell("–" if value is None else share_text(value, digits).replace("-", "−"), value)


def interval_cell(value: float | None, ends: Ends, spell: Callable[[float], str]) -> Cell:
    """A value with its interval; a dash for null."""
    return Cell("–") if value is None else Cell(stated(value, ends, spell), value)


def stated(value: float, ends: Ends, spell: Callable[[float], str], prefix: str = "") -> str:
    """A value with its interval, or with the words that there is none."""
    if ends["low"] is None or ends["high"] is None:
        return f"{spell(value)} (no interval)"
    return f"{spell(value)} ({prefix + ' ' if prefix else ''}{spell(ends['low'])} to {spell(ends['high'])})"
