"""Documents from the user's own text: `.txt`, `.jsonl` and `.parquet` files."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from scaling.data.files import READ_BYTES, combine, decode, file_sha256, find_files

SECTION_BYTES = 1 << 14
ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Text:
    """UTF-8 text in files or globs; `field` names the text of a `.jsonl` line or a `.parquet` row.

    A document is one line of `.jsonl`, one row of `.parquet`, or one `.txt` file. A `.txt` file above 32 KiB
    becomes documents of 16 to 32 KiB, cut after a line break where there is one, so that even one long file gives
    both splits. Empty lines, rows and texts are no documents.
    """

    kind: ClassVar[str] = "text"
    paths: tuple[str, ...]
    field: str

    def files(self) -> tuple[Path, ...]:
        return find_files(self.paths, READERS)

    def fingerprint(self, memory: Path | None) -> str:
        digests = []
        for path in self.files():
            field = "" if path.suffix == ".txt" else self.field
            digests.append(f"{path.suffix}:{field}:{file_sha256(path, memory)}")
        return combine("text 1", digests)

    def content_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.files())

    def documents(self) -> Iterator[str]:
        for path in self.files():
            for text in READERS[path.suffix](path, self.field):
                if text:
                    yield text


def _read_txt(path: Path, _field: str) -> Iterator[str]:
    start, held = 0, b""
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            held += block
            done = 0
            while len(held) - done > 2 * SECTION_BYTES:
                length = _section_length(held, done)
                yield decode(held[done : done + length], path, start + done)
                done += length
            start, held = start + done, held[done:]
    yield decode(held, path, start)


def _section_length(text: bytes, start: int) -> int:
    """The length in bytes of a section of 16 to 32 KiB: up to a line's end, else a word's, else a character's."""
    least, most = start + SECTION_BYTES, start + 2 * SECTION_BYTES
    for separator in (b"\n", b" "):
        place = text.find(separator, least, most)
        if place >= 0:
            return place + 1 - start
    while most > least and text[most] & 0xC0 == 0x80:  # inside a UTF-8 character
        most -= 1
    return most - start


def _read_jsonl(path: Path, field: str) -> Iterator[str]:
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            text = decode(line, path, offset)
            offset += len(line)
            if text.strip():
                yield _text_of_line(text, f"{path}, line {number}", field)


def _text_of_line(line: str, place: str, field: str) -> str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place}: not JSON: {error}") from None
    if not isinstance(row, dict):
        raise ValueError(f"{place}: a line must be a JSON object, found {type(row).__name__}")
    if field not in row:
        raise ValueError(f"{place}: no field {field!r}; it holds {', '.join(map(repr, row)) or 'none'}")
    return checked_text(row[field], place, field)


def checked_text(text: object, place: str, field: str) -> str:
    """A field's value as text, "" for None; ValueError names the place of a value that is no text."""
    if text is None:
        return ""
    if not isinstance(text, str):
        raise ValueError(f"{place}: field {field!r} must be text, found {type(text).__name__}")
    if "\0" in text:
        raise ValueError(f"{place}: binary, not text: NUL at character {text.index(chr(0))} of {field!r}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{place}: half a surrogate pair at character {error.start} of {field!r}") from None
    return text


def _read_parquet(path: Path, field: str) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = 0
    try:
        with pq.ParquetFile(path) as file:
            columns = file.schema_arrow.names
            if field not in columns:
                raise ValueError(f"{path}: no column {field!r}; it holds {', '.join(map(repr, columns))}")
            for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=[field]):
                for text in batch.column(0):
                    yield checked_text(text.as_py(), f"{path}, row {row}", field)
                    row += 1
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}, row {row}: cannot be read as parquet: {error}") from None


READERS: dict[str, Callable[[Path, str], Iterator[str]]] = {
    ".txt": _read_txt,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
