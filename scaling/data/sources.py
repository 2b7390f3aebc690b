"""The sources of data: each a frozen dataclass of settings that can fingerprint and read its content.

A text source yields documents; a token source writes ids. The document is the unit of the split, so every
text source says what one is. Settings have no defaults here: `conf/data/*.yaml` holds them.
"""

import hashlib
import os
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

from scaling.data.files import combine, decode
from scaling.data.hf_dataset import HfDataset
from scaling.data.synthetic import Synthetic
from scaling.data.text_files import Text
from scaling.data.token_files import TokenFiles
from scaling.data.token_source import TokenSource


@runtime_checkable
class TextSource(Protocol):
    """Documents of text; needs a tokenizer."""

    kind: ClassVar[str]

    def fingerprint(self, memory: Path | None, /) -> str:
        """The sha256 of the content, whatever the paths and their order; `memory` spares large files."""

    def content_bytes(self) -> int:
        """About how many bytes there are to read, for progress and for sizing buckets."""

    def documents(self) -> Iterator[str]:
        """Every document, in any order; ValueError names the place of a document that is not text."""


Source = TextSource | TokenSource

SKIPPED_FOLDERS = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}


@dataclass(frozen=True)
class Stdlib:
    """The sources of this Python's standard library without its tests, and the help topics of pydoc.

    A document is one `.py` file or one help topic. Files that a build writes for its machine are left out, so
    that the same release of Python gives the same text elsewhere.
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
        """Every document with the file that it is, or comes from."""
        from pydoc_data.topics import topics

        root = Path(sysconfig.get_path("stdlib"))
        for folder, folders, names in os.walk(root):
            folders[:] = sorted(name for name in folders if not _is_skipped(name))
            for name in sorted(names):
                path = Path(folder, name)
                # topics.py holds the help topics once more
                wanted = path.suffix == ".py" and name != "topics.py" and not name.startswith("_sysconfigdata")
                if wanted and (content := path.read_bytes()):
                    yield path, content
        for name in sorted(topics):
            yield root / "pydoc_data" / "topics.py", topics[name].encode()


def _is_skipped(folder: str) -> bool:
    return folder in SKIPPED_FOLDERS or folder.startswith("config-")


SOURCES: dict[str, type[Stdlib | Text | HfDataset | TokenFiles | Synthetic]] = {
    source.kind: source for source in (Stdlib, Text, HfDataset, TokenFiles, Synthetic)
}
