"""Atomic files: a reader sees a file whole or not at all, even when its writer dies."""

import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from scaling.records.process import place_id, start_ticks

SCRATCH = re.compile(r"\..+\.(?P<place>[0-9a-f]{6})\.(?P<pid>\d+)\.[0-9a-f]{12}")
FORGOTTEN_S = 24 * 3600.0  # a scratch file of a process elsewhere is removed once untouched for so long
CREATION_S = 5.0  # a process that has reserved a name for longer without writing the file counts as dead


def write_json(path: Path, value: Mapping[str, Any], *, durable: bool = True) -> None:
    """Write JSON atomically: a reader sees the whole old file or the whole new one, even when the writer dies."""
    write_text(path, json.dumps(value, indent=1), durable=durable)


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Write a text file atomically; a `durable` one also survives the machine's sudden end."""
    with _written(path, text, durable) as temporary:
        os.replace(temporary, path)


def create_text(path: Path, text: str, *, links: bool) -> None:
    """Create a text file atomically and exactly once; FileExistsError where it exists.

    `links` states whether the file system has hard links (see `has_links`), whose creation is exclusive by itself.
    Without them the name is reserved by a directory, whose creation is exclusive too.
    """
    with _written(path, text, durable=True) as temporary:
        if links:
            os.link(temporary, path)
            return
        with _reserved(path):
            os.replace(temporary, path)


def has_links(folder: Path) -> bool:
    """Whether files in this folder can have hard links: FAT, many FUSE and object mounts have none."""
    probe, linked = scratch_name(folder, "links"), scratch_name(folder, "linked")
    try:
        probe.touch()
        os.link(probe, linked)
    except OSError:
        return False
    finally:
        for path in (probe, linked):
            path.unlink(missing_ok=True)
    return True


def scratch_name(folder: Path, purpose: str) -> Path:
    """A hidden name in the folder that no other process uses: `.PURPOSE.PLACE.PID.RANDOM`."""
    return folder / f".{purpose}.{place_id()}.{os.getpid()}.{uuid.uuid4().hex[:12]}"


def scratch_folder(folder: Path, purpose: str) -> Path:
    """A new hidden folder, with the permissions that the umask gives."""
    path = scratch_name(folder, purpose)
    path.mkdir()
    return path


def remove_scratch(folder: Path) -> None:
    """Remove the scratch files and folders that dead processes left in a folder."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        if not (left := SCRATCH.fullmatch(name)):
            continue
        path = folder / name
        here = left["place"] == place_id()
        if start_ticks(int(left["pid"])) is None if here else _age_s(path) > FORGOTTEN_S:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None when the file is absent, cut short or no JSON object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def parse_lines(lines: Sequence[bytes], is_row: Callable[[Any], bool]) -> tuple[list[dict[str, Any]], list[int]]:
    """The JSON values that are rows, and the numbers, from 1, of the lines that hold none."""
    with suppress(ValueError):  # at once, where all lines are whole: faster, and rows share the texts of their keys
        rows = json.loads(b"[%b]" % b",".join(lines))
        if len(rows) == len(lines) and all(map(is_row, rows)):
            return rows, []
    rows, bad = [], []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if is_row(row):
            rows.append(row)
        else:
            bad.append(number)
    return rows, bad


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


@contextmanager
def _written(path: Path, text: str, durable: bool) -> Iterator[Path]:
    """A temporary file beside `path` that holds the text, with the permissions that the umask gives."""
    temporary = scratch_name(path.parent, path.name)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        yield temporary
        if durable:
            sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _reserved(path: Path) -> Iterator[None]:
    """Reserve a name for this process; FileExistsError where the file exists, or another process creates it first."""
    reservation = path.with_name(f".{path.name}.reserved")
    deadline = time.monotonic() + CREATION_S
    while True:
        try:
            reservation.mkdir()
            break
        except FileExistsError:
            if path.exists():
                raise
            if time.monotonic() > deadline:  # its process died between the reservation and the file
                _release(reservation)
                deadline = time.monotonic() + CREATION_S
            time.sleep(0.01)
    try:
        if path.exists():
            raise FileExistsError(path)
        yield
    finally:
        _release(reservation)


def _release(reservation: Path) -> None:
    with suppress(FileNotFoundError):
        reservation.rmdir()
