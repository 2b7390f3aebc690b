"""Token files, ready made: nanoGPT's raw uint16, and llm.c's with a header."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np

from scaling.data.files import combine, file_sha256, find_files
from scaling.data.token_source import Ids, Report, Written, id_type
from scaling.spec.run_spec import DataSpec

SUFFIXES = (".bin",)
HEADER_BYTES = 256 * 4
# llm.c, dev/data/data_common.py: the header's int32s begin (magic, version, number of tokens)
LLM_C: dict[tuple[int, int], type[np.unsignedinteger[Any]]] = {
    (20240520, 1): np.uint16,
    (20240801, 7): np.uint32,
}
TOKENS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class TokenFiles:
    """Token files or globs for training and, optionally, for validation.

    Without validation files the last `val_fraction` of the tokens is held out, as one contiguous tail. Files
    are joined in the order of their content's sha256. A document is a whole file, because the borders within a file
    are unknown. The tokens are copied into the cache.
    """

    kind: ClassVar[str] = "tokens"
    train: tuple[str, ...]
    val: tuple[str, ...]

    def fingerprint(self, memory: Path | None) -> str:
        train, val = (_by_content(files, memory) for files in self._files())
        for path in (*train.values(), *val.values()):
            _open(path)
        if shared := sorted(train[digest] for digest in train.keys() & val.keys()):
            raise ValueError(f"{shared[0]} is in train and in val, under this name or another")
        return combine("tokens 1", [f"train:{digest}" for digest in train] + [f"val:{digest}" for digest in val])

    def holds_out(self) -> bool:
        return not self.val

    def content_tokens(self) -> int:
        return sum(len(_open(path)) for files in self._files() for path in files)

    def write(self, train: BinaryIO, val: BinaryIO, spec: DataSpec, memory: Path | None, report: Report) -> Written:
        train_files, val_files = (list(_by_content(files, memory).values()) for files in self._files())
        total = sum(len(_open(path)) for path in train_files)
        kept = total - round(total * spec.val_fraction)
        done = 0
        for ids in _read(train_files, spec.vocab_size):
            cut = max(0, min(len(ids), kept - done))
            train.write(ids[:cut].tobytes())
            val.write(ids[cut:].tobytes())
            done += len(ids)
            report(len(ids))
        for ids in _read(val_files, spec.vocab_size):
            val.write(ids.tobytes())
            report(len(ids))
        return Written(
            train_documents=len(train_files),
            val_documents=len(val_files) or 1,
            dropped_documents=sum(map(len, self._files())) - len(train_files) - len(val_files),
            entropies_nats=None,
        )

    def _files(self) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
        return find_files(self.train, SUFFIXES), find_files(self.val, SUFFIXES) if self.val else ()


def _by_content(files: tuple[Path, ...], memory: Path | None) -> dict[str, Path]:
    """One file for each distinct content, keyed and ordered by its sha256."""
    return dict(sorted({file_sha256(path, memory): path for path in files}.items()))


def _read(files: list[Path], vocab_size: int) -> Iterator[Ids]:
    for path in files:
        tokens = _open(path)
        for start in range(0, len(tokens), TOKENS_AT_ONCE):
            ids = np.asarray(tokens[start : start + TOKENS_AT_ONCE])
            outside = ids >= vocab_size
            if outside.any():
                first = int(outside.argmax())
                raise ValueError(
                    f"{path}: token {start + first} has id {ids[first]}, outside vocab_size={vocab_size}; "
                    f"set data.vocab_size above the largest id"
                )
            yield ids.astype(id_type(vocab_size))


def _open(path: Path) -> Ids:
    """The memory-mapped ids of one file, without llm.c's header; ValueError for a file of neither format."""
    size = path.stat().st_size
    if size >= HEADER_BYTES:
        magic, version, count = (int(word) for word in np.fromfile(path, dtype="<i4", count=3))
        known = LLM_C.get((magic, version))
        if known is not None:
            held = (size - HEADER_BYTES) // np.dtype(known).itemsize
            if held != count or count == 0:
                raise ValueError(f"{path}: the llm.c header promises {count} tokens, the file holds {held}")
            return np.memmap(path, dtype=known, mode="r", offset=HEADER_BYTES)
        if magic in {magic for magic, _ in LLM_C}:
            raise ValueError(f"{path}: llm.c version {version} is unknown; known are {sorted(LLM_C)} (magic, version)")
    if size % 2:
        raise ValueError(f"{path}: {size} bytes is no whole number of uint16 tokens")
    return np.memmap(path, dtype=np.uint16, mode="r")
