"""Documents sorted by their hash on disk, so that no source need fit in memory, and their two splits.

The hash decides a document's place and its split, and drops every further copy of the same text.
"""

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

BUCKET_BYTES = 1 << 26
MAX_BUCKETS = 128  # open files at once
HASH_BYTES = 16
ENTRY = struct.Struct(f"<{HASH_BYTES}sQ")


class Spool:
    """A folder of buckets, each of one range of hashes and small enough to be sorted in memory."""

    def __init__(self, folder: Path, content_bytes: int) -> None:
        self.folder = folder
        self.buckets = min(MAX_BUCKETS, 1 + content_bytes // BUCKET_BYTES)
        self._files: list[BinaryIO] = []

    def __enter__(self) -> Self:
        self.folder.mkdir()
        self._files = [self._path(bucket).open("wb") for bucket in range(self.buckets)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files:
            file.close()

    def add(self, text: str, salt: bytes = b"") -> int:
        """Store one document in the open spool, at the hash of `salt` and text; return its size in bytes."""
        content = text.encode()
        digest = hashlib.sha256(salt + content).digest()[:HASH_BYTES]
        bucket = int.from_bytes(digest[:4], "big") * self.buckets >> 32
        self._files[bucket].write(ENTRY.pack(digest, len(content)) + content)
        return len(content)

    def documents(self) -> Iterator[tuple[float, str]]:
        """Distinct documents in the order of their hash, with the hash as a fraction in [0, 1)."""
        for bucket in range(self.buckets):
            content = memoryview(self._path(bucket).read_bytes())
            entries: dict[bytes, tuple[int, int]] = {}
            place = 0
            while place < len(content):
                digest, length = ENTRY.unpack_from(content, place)
                place += ENTRY.size
                entries[digest] = (place, length)
                place += length
            for digest in sorted(entries):
                place, length = entries[digest]
                yield int.from_bytes(digest[:8], "big") / 2**64, str(content[place : place + length], "utf-8")

    def _path(self, bucket: int) -> Path:
        return self.folder / f"{bucket:03d}"


@dataclass(frozen=True)
class Split:
    """A range of the documents in the order of their hash; every iteration reads it anew."""

    spool: Spool
    first: int
    end: int

    def __len__(self) -> int:
        return self.end - self.first

    def __iter__(self) -> Iterator[str]:
        return (text for _, text in self.ranked())

    def ranked(self) -> Iterator[tuple[float, str]]:
        """Documents in the order of their hash, each with the hash as a fraction."""
        return islice(self.spool.documents(), self.first, self.end)


def split_documents(spool: Spool, val_fraction: float) -> dict[str, Split]:
    """The splits "train" and "val"; ValueError for fewer than two distinct documents."""
    total, below = 0, 0
    for fraction, _ in spool.documents():
        total += 1
        below += fraction < val_fraction
    if total < 2:
        raise ValueError(
            f"too little text to split: found {total} distinct documents, needed 2 (one for training, "
            "one for validation); add documents"
        )
    held_out = min(max(below, 1), total - 1)
    return {"train": Split(spool, held_out, total), "val": Split(spool, 0, held_out)}
