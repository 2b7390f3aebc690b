"""Token files, ready made: raw ids as nanoGPT writes them, llm.c's with a header, and .npy."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO, ClassVar

import numpy as np

from scaling.data.files import combine, file_sha256, find_files
from scaling.data.token_layout import SETTING, check, layout_of, open_ids
from scaling.data.token_source import Ids, Report, Written, id_type
from scaling.spec.run_spec import DataSpec

SUFFIXES = (".bin", ".npy")
TOKENS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class TokenFiles:
    """Token files or globs for training and, optionally, for validation.

    Without validation files the last `val_fraction` of the tokens is held out, as one contiguous tail. Files
    are joined in the order of their content's sha256. A document is a whole file, because the borders within a file
    are unknown. The tokens are copied into the cache. `dtype` is the type of raw ids; None infers it.
    """

    kind: ClassVar[str] = "tokens"
    train: tuple[str, ...]
    val: tuple[str, ...]
    dtype: str | None = None

    def check(self, vocab_size: int) -> None:
        """State the inferred type of raw ids; ValueError where ids of a file's type are not meant."""
        inferred: dict[str, list[Path]] = {}
        for path in (path for files in self._files() for path in files):
            layout = layout_of(path, self.dtype)
            check(path, layout, vocab_size)
            if not layout.stated_by:
                inferred.setdefault(layout.name, []).append(path)
        for name, paths in inferred.items():
            _state(name, paths[0], len(paths))

    def fingerprint(self, memory: Path | None) -> str:
        train, val = (_by_content(files, memory) for files in self._files())
        if shared := sorted(train[digest] for digest in train.keys() & val.keys()):
            raise ValueError(f"{shared[0]} is in train and in val, under this name or another")
        labels = {split: self._labels(files) for split, files in (("train", train), ("val", val))}
        return combine("tokens 1", [f"{split}:{label}" for split, named in labels.items() for label in named])

    def _labels(self, files: dict[str, Path]) -> list[str]:
        """The digest of each file, with the type of its ids unless the file states it or it is nanoGPT's uint16."""
        layouts = {digest: layout_of(path, self.dtype) for digest, path in files.items()}
        plain = {digest for digest, layout in layouts.items() if layout.is_in_file or layout.name == "uint16"}
        return [digest if digest in plain else f"{digest}:{layout.name}" for digest, layout in layouts.items()]

    def holds_out(self) -> bool:
        return not self.val

    def content_tokens(self) -> int:
        return sum(len(self._open(path)) for files in self._files() for path in files)

    def write(self, train: BinaryIO, val: BinaryIO, spec: DataSpec, memory: Path | None, report: Report) -> Written:
        train_files, val_files = (list(_by_content(files, memory).values()) for files in self._files())
        total = sum(len(self._open(path)) for path in train_files)
        kept = total - round(total * spec.val_fraction)
        done = 0
        for ids in self._read(train_files, spec.vocab_size):
            cut = max(0, min(len(ids), kept - done))
            train.write(ids[:cut].tobytes())
            val.write(ids[cut:].tobytes())
            done += len(ids)
            report(len(ids))
        for ids in self._read(val_files, spec.vocab_size):
            val.write(ids.tobytes())
            report(len(ids))
        return Written(
            train_documents=len(train_files),
            val_documents=len(val_files) or 1,
            dropped_documents=sum(map(len, self._files())) - len(train_files) - len(val_files),
            entropies_nats=None,
        )

    def _read(self, files: list[Path], vocab_size: int) -> Iterator[Ids]:
        for path in files:
            tokens = self._open(path)
            for start in range(0, len(tokens), TOKENS_AT_ONCE):
                ids = np.asarray(tokens[start : start + TOKENS_AT_ONCE])
                outside = (ids < 0) | (ids >= vocab_size)
                if outside.any():
                    first = int(outside.argmax())
                    remedy = "set data.vocab_size above the largest id"
                    if ids[first] < 0:
                        remedy = (
                            "ids begin at 0, so take marks such as padding out, and write wrapped ids again as int64"
                        )
                    raise ValueError(
                        f"{path}: token {start + first} has id {ids[first]}, outside vocab_size={vocab_size}; {remedy}"
                    )
                yield ids.astype(id_type(vocab_size))

    def _open(self, path: Path) -> Ids:
        return open_ids(path, layout_of(path, self.dtype))

    def _files(self) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
        return find_files(self.train, SUFFIXES), find_files(self.val, SUFFIXES) if self.val else ()


def _by_content(files: tuple[Path, ...], memory: Path | None) -> dict[str, Path]:
    """One file for each distinct content, keyed and ordered by its sha256."""
    return dict(sorted({file_sha256(path, memory): path for path in files}.items()))


@cache
def _state(name: str, path: Path, files: int) -> None:
    """State the inferred type once in a process."""
    others = "" if files == 1 else f" and {files - 1} more"
    print(
        f"{path}{others}: ids are read as {name}, inferred from the bytes; {SETTING}={name} settles it", file=sys.stderr
    )
