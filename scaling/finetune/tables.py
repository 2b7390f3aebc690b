"""Rows of a CSV, TSV or JSONL file; an error names the line of a mistake."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scaling.data.files import find_files
from scaling.registry import choose

DIALECTS: dict[str, dict[str, Any]] = {
    ".csv": {"delimiter": ","},
    ".tsv": {"delimiter": "\t", "quoting": csv.QUOTE_NONE},
    ".jsonl": {},
}


def read_rows(path: Path, fields: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    """Values of columns, row by row; `fields` maps a task's setting to the column's name.

    A number names a column of a file without a header, counted from 0. Raises ValueError, with the line, for a missing
    column or value.
    """
    (path,) = find_files([str(path)], list(DIALECTS))
    count = 0
    for line, row in _rows(path, fields):
        count += 1
        values = []
        for setting, name in fields.items():
            if name not in row:
                has = ", ".join(map(str, row)) or "none"
                raise ValueError(f"task.{setting}={name}: {path}, line {line}, has no such column; it has {has}")
            value = "" if row[name] is None else str(row[name]).strip()
            if not value:
                raise ValueError(f"{path}, line {line}: {name} is empty; fill it, or remove the row")
            values.append(value)
        yield tuple(values)
    if not count:
        raise ValueError(f"{path} has a header and no rows")


def _rows(path: Path, fields: Mapping[str, str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    dialect = choose("kind of file", DIALECTS, path.suffix)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix == ".jsonl":
                for line, text in enumerate(file, 1):
                    if text.strip():
                        yield line, _object(json.loads(text))
                return
            names: Sequence[str] | None = None
            reader = csv.reader(file, **dialect)
            for cells in reader:
                if names is None:
                    headless = all(name.isdigit() for name in fields.values())
                    names = [str(i) for i in range(len(cells))] if headless else [cell.strip() for cell in cells]
                    if not headless:
                        continue
                if cells:
                    yield reader.line_num, dict(zip(names, cells, strict=False))
    except (UnicodeDecodeError, csv.Error, json.JSONDecodeError) as error:
        raise ValueError(f"{path} cannot be read as {path.suffix[1:].upper()}: {error}") from error


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
