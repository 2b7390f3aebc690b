"""Kinds of damage to a file, which every reader of files must see."""

import os
from collections.abc import Callable
from pathlib import Path


def flip(path: Path) -> None:
    """Turn one bit in the middle of the file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    """Cut the file's second half off."""
    os.truncate(path, path.stat().st_size // 2)


def zero(path: Path) -> None:
    """Fill the file with zeros, as a file system may after the machine's sudden end."""
    path.write_bytes(bytes(path.stat().st_size))


def null(path: Path) -> None:
    """Leave `null`, which is valid JSON and states nothing."""
    path.write_text("null")


DAMAGE: dict[str, Callable[[Path], None]] = {
    "flip": flip,
    "truncate": truncate,
    "zero": zero,
    "null": null,
    "unlink": Path.unlink,
}
