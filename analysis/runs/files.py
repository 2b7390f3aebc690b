"""Tables in files: CSV, JSON, JSON lines and Parquet, each also compressed by gzip, as they stand."""

import gzip
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Literal, cast

import pandas as pd

from scaling.analysis.runs.number_text import decimal_comma, with_points
from scaling.analysis.runs.reading import Reading, Row, flatten, one_line

LARGE_FILE_BYTES = 20_000_000  # beyond this the multi-threaded CSV parser pays for its start
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")


def read_file(path: Path) -> Reading:
    """A table as its file holds it; empty, truncated or otherwise unreadable files raise ValueError."""
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty; expected a header row naming params, tokens, loss")
    zipped, kind = _is_gzip(path), _kind(path)
    try:
        table, inferred = {"Parquet": _read_parquet, "JSON": _read_json, "CSV": _read_csv}[kind](path, zipped)
    except (ValueError, OSError, EOFError, ImportError, RecursionError) as error:  # the parsers' own are ValueErrors
        raise ValueError(
            f"{path} cannot be read as {kind} (truncated, or another format?): {one_line(error)}"
        ) from error
    table.columns = [str(name).strip() for name in table.columns]
    repeated = sorted({str(name) for name in table.columns[table.columns.duplicated()]})
    if repeated:
        raise ValueError(f"{path} names column {repeated[0]!r} twice; keep one")
    if len(table.columns) == 1 and "|" in table.columns[0]:
        raise ValueError(f"{path} has one column, {table.columns[0]!r}; separate the columns with commas")
    if table.empty:
        raise ValueError(f"{path} has a header and no rows")
    return Reading(table.reset_index(drop=True), str(path), inferred=tuple(inferred))


def is_results(path: Path) -> bool:
    """Whether a file is a results.json, and no table of runs."""
    try:
        with _open(path, _is_gzip(path)) as file:
            document = json.load(file)
    except (ValueError, OSError, RecursionError):
        return False
    return _holds_results(document)


def _holds_results(document: Any) -> bool:
    return isinstance(document, dict) and {"schema", "fits"} <= set(document)


def _kind(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(4)
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"][-1:]
    if start == b"PAR1" or suffixes in ([".parquet"], [".pq"]):
        return "Parquet"
    return "JSON" if suffixes and suffixes[0] in JSON_SUFFIXES else "CSV"


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _open(path: Path, zipped: bool) -> IO[str]:
    if zipped:
        return io.TextIOWrapper(cast(IO[bytes], gzip.open(path, "rb")), encoding="utf-8-sig", errors="replace")
    return path.open(encoding="utf-8-sig", errors="replace")


def _read_parquet(path: Path, zipped: bool) -> tuple[pd.DataFrame, list[str]]:
    if zipped:
        raise ValueError("Parquet compresses itself: unpack the gzip first")
    try:
        return pd.read_parquet(path), []
    except ImportError as error:
        raise ValueError("the package pyarrow is missing; pip install pyarrow, or give a CSV file") from error


def _read_csv(path: Path, zipped: bool) -> tuple[pd.DataFrame, list[str]]:
    """The table, and statements on the marks that separate its columns and its decimals."""
    with _open(path, zipped) as file:
        first = file.readline().rstrip("\r\n")
    unquoted = re.sub(r'"[^"]*"', "", first)
    named = ".tsv" in [suffix.lower() for suffix in path.suffixes]
    separator = "\t" if named else max(SEPARATORS, key=unquoted.count)  # the comma where none stands
    inferred = [f"the columns are separated by {SEPARATORS[separator]}"] if separator != "," and not named else []
    table = _parse(path, zipped, separator)
    if number := decimal_comma(table):
        table = with_points(_parse(path, zipped, separator, text=True))
        inferred.append(
            f"numbers have decimal commas: {number!r} is read as {number.replace('.', '').replace(',', '.')}"
        )
    # pandas renames a repeated header to "loss.1"; put the file's own names back so that the repetition shows.
    header = [name.strip().strip('"') for name in first.split(separator)]
    if len(header) == len(table.columns):
        table.columns = [
            own if own and str(given).removeprefix(own).lstrip(".").isdigit() else str(given)
            for own, given in zip(header, table.columns, strict=True)
        ]
    return table, inferred


def _parse(path: Path, zipped: bool, separator: str, *, text: bool = False) -> pd.DataFrame:
    compression: Literal["gzip"] | None = "gzip" if zipped else None
    if path.stat().st_size > LARGE_FILE_BYTES and not text:
        try:
            return pd.read_csv(path, engine="pyarrow", compression=compression, sep=separator)
        except ValueError:
            pass  # the slower parser forgives more
    table = pd.read_csv(
        path,
        skipinitialspace=True,
        encoding="utf-8-sig",
        low_memory=False,
        compression=compression,
        sep=separator,
        dtype=str if text else None,
    )
    if not isinstance(table.index, pd.RangeIndex):
        raise ValueError("the rows have more fields than the header")
    return table


def _read_json(path: Path, zipped: bool) -> tuple[pd.DataFrame, list[str]]:
    with _open(path, zipped) as file:
        text = file.read()
    lines = _json_lines(text)
    return pd.DataFrame(_records(json.loads(text)) if lines is None else lines), []


def _json_lines(text: str) -> list[Row] | None:
    """The objects of JSON lines; None for text that is one document."""
    first, _, rest = text.strip().partition("\n")
    try:
        started = json.loads(first)
    except json.JSONDecodeError:
        return None
    if not isinstance(started, dict) or not (
        rest.strip() or not any(isinstance(v, list | dict) for v in started.values())
    ):
        return None
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                value = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"line {number} is not JSON ({one_line(error)})") from error
            if not isinstance(value, dict):
                raise ValueError(f"line {number} is no JSON object")
            rows.append(flatten(value))
    return rows


def _records(document: Any) -> list[Row]:
    """The runs of a JSON document: a list of objects, columns of equal length, or objects by the run's name."""
    if _holds_results(document):
        raise ValueError("it is a results.json; `scaling report` draws it and `scaling predict` asks it")
    if isinstance(document, list) and document and all(isinstance(one, dict) for one in document):
        return [flatten(one) for one in document]
    if isinstance(document, Mapping) and document:
        values = list(document.values())
        if all(isinstance(value, list) for value in values) and not any(
            isinstance(one, dict | list) for value in values for one in value
        ):
            if len({len(value) for value in values}) > 1:
                raise ValueError(
                    f"its columns differ in length ({', '.join(f'{k}: {len(v)}' for k, v in document.items())})"
                )
            return [dict(zip(document, row, strict=True)) for row in zip(*values, strict=True)]
        lists = [
            name for name, value in document.items() if isinstance(value, list) and value and isinstance(value[0], dict)
        ]
        if len(lists) == 1:
            return _records(document[lists[0]])
        if len(lists) > 1:
            raise ValueError(f"it holds {len(lists)} tables ({', '.join(lists)}): keep one")
        if all(isinstance(value, dict) for value in values):
            return [{"run_id": str(name), **flatten(value)} for name, value in document.items()]
        if not any(isinstance(value, list | dict) for value in values):
            return [flatten(document)]
    raise ValueError("expected a list of objects, an object of columns, or an object of runs by their names")
