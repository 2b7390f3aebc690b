"""Sources of data: frozen dataclasses of settings that can fingerprint and read their content.

A text source yields documents; a token source writes ids. The document is the unit of the split, so every
text source defines its document. Settings have no defaults here: `conf/data/*.yaml` holds them.
"""

import hashlib
import os
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

from scaling.data.associations import Associations
from scaling.data.files import combine, decode
from scaling.data.hf_dataset import HfDataset
from scaling.data.synthetic import Synthetic
from scaling.data.text_files import Text
from scaling.data.token_files import TokenFiles
from scaling.data.token_source import TokenSource


@runtime_checkable
class TextSource(Protocol):
    """A source of text documents, which a tokenizer turns into ids."""

    kind: ClassVar[str]

    def fingerprint(self, memory: Path | None, /) -> str:
        """The sha256 of the content, independent of paths and their order; `memory` keeps digests of large files."""

    def content_bytes(self) -> int:
        """Approximate bytes to read, for the progress bar and the number of buckets."""

    def documents(self) -> Iterator[str]:
        """Every document, in any order; ValueError names the place of a document that is not text."""


Source = TextSource | TokenSource

SKIPPED_FOLDERS = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}


@dataclass(frozen=True)
class Stdlib:
    """Source files of this Python's standard library without its tests, and the help topics of pydoc.

    A document is one `.py` file or one help topic. Files that a build writes for its machine are left out, so
    that one release of Python gives the same text on every machine.
    """

    kind: ClassVar[str] = "stdlib"

    def fingerprint(self, _memory: Path | None) -> str:
        return combine("stdlib 1", (hashlib.sha256(content).hexdigest() for _, content in self.contents()))

    def content_bytes(self) -> int:
        return sum(len(content) for _, content in self.contents())

    def documents(self) -> Iterator[str]:
        for path, content in self.contents():
            yield decode(content, path, 0)

    def contents(self) -> Iterator[tuple[Path, bytes]]:
        """Every document with its file: the file itself, or the file that holds the help topic."""
        from pydoc_data.topics import topics

        root = Path(sysconfig.get_path("stdlib"))
        for folder, folders, names in os.walk(root):
            folders[:] = sorted(name for name in folders if not _is_skipped(name))
            for name in sorted(names):
                path = Path(folder, name)
                # topics.py is left out because the help topics are documents of their own
                wanted = path.suffix == ".py" and name != "topics.py" and not name.startswith("_sysconfigdata")
                if wanted and (content := path.read_bytes()):
                    yield path, content
        for name in sorted(topics):
            yield root / "pydoc_data" / "topics.py", topics[name].encode()


def _is_skipped(folder: str) -> bool:
    return folder in SKIPPED_FOLDERS or folder.startswith("config-")


SOURCES = {source.kind: source for source in (Stdlib, Text, HfDataset, TokenFiles, Synthetic, Associations)}
