"""Documents from the `datasets` library: a name on the Hugging Face Hub, a folder of `save_to_disk`, or data files."""

import dataclasses
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from scaling.data.files import combine, file_sha256, local_path
from scaling.data.text_files import checked_text
from scaling.extras import extra, root_cause
from scaling.registry import choose

COMMIT = re.compile("[0-9a-f]{40}")
UNKNOWN_BYTES = 1 << 30  # size of a data set whose card states none; assumed
DOCUMENT_BYTES = 1 << 12  # size of a web page or an article; assumed


@dataclass(frozen=True)
class HfDataset:
    """Rows of one split as documents: their `field`, for all rows or the first `max_documents` that hold text.

    The content of the split's files identifies local data, so that paths and names do not matter. Name, configuration,
    split, field and the commit behind `revision` identify a data set of the hub: the commit fixes all its files, and
    is known without a download. Streaming does not change the documents.
    """

    kind: ClassVar[str] = "hf"
    path: str
    config: str | None
    split: str
    field: str
    revision: str | None
    streaming: bool
    max_documents: int | None
    text_bytes: int | None  # size of the text where known, so that a plan asks nobody; no part of the identity

    def __post_init__(self) -> None:
        if self.max_documents is not None and self.max_documents < 2:
            raise ValueError(f"data.source.max_documents={self.max_documents}: must be at least 2, or null for all")
        if self.streaming and self.max_documents is None:
            raise ValueError(
                "data.source.streaming=true may read a data set without end: set data.source.max_documents, "
                "or data.source.streaming=false to read it whole"
            )

    def fingerprint(self, memory: Path | None) -> str:
        limit = "" if self.max_documents is None else f"first {self.max_documents}:"
        local = self._local()
        if local is None:
            return combine("hf hub 1", [f"{limit}{(self.path, self.config, self.split, self.field, self._commit())!r}"])
        files, reading = self._files(local)
        digests = [f"{reading}:{self.field}:{file_sha256(path, memory)}" for path in files]
        if limit:  # the order of the files decides which rows are the first
            digests = [f"{limit}{place}:{digest}" for place, digest in enumerate(digests)]
        return combine("hf local 1", digests)

    def content_bytes(self) -> int:
        local = self._local()
        if self.text_bytes is not None:
            size = self.text_bytes
        elif local is None:
            with self._explained():
                splits = (
                    self._datasets().load_dataset_builder(self.path, self.config, revision=self._commit()).info.splits
                )
            card_bytes = splits[self.split].num_bytes if splits and self.split in splits else None
            size = int(card_bytes or UNKNOWN_BYTES)
        else:
            size = sum(path.stat().st_size for path in self._files(local)[0])
        return size if self.max_documents is None else min(size, self.max_documents * DOCUMENT_BYTES)

    def documents(self) -> Iterator[str]:
        documents = 0
        for row, value in enumerate(self._rows()):
            text = checked_text(value, f"data set {self.path}, row {row}", self.field)
            if text:
                yield text
                documents += 1
                if documents == self.max_documents:
                    return

    def _rows(self) -> Iterator[Any]:
        rows = self._dataset()
        with self._explained():
            names = rows.column_names or list(next(iter(rows), {}))  # a stream may not know its columns beforehand
        if self.field not in names:
            raise ValueError(
                f"data set {self.path}: no column {self.field!r}; it holds {', '.join(map(repr, names)) or 'none'}; "
                "set data.source.field"
            )
        with self._explained():
            for row in rows.select_columns([self.field]):
                yield row[self.field]

    def _dataset(self) -> Any:
        library, local = self._datasets(), self._local()
        if local is not None and _is_saved(local):
            return self._saved(local)
        where = {"path": self.path, "revision": self._commit()} if local is None else _place(local)
        with self._explained():
            return library.load_dataset(**where, name=self.config, split=self.split, streaming=self.streaming)

    def _files(self, local: Path) -> tuple[list[Path], str]:
        """The split's files in reading order, and their format with its settings, in words."""
        if _is_saved(local):
            return [Path(file["filename"]) for file in self._saved(local).cache_files], "saved"
        with self._explained():
            builder = self._datasets().load_dataset_builder(**_place(local), name=self.config)
        files = choose(
            "data.source.split", {str(name): paths for name, paths in builder.config.data_files.items()}, self.split
        )
        return [Path(path) for path in files], f"{type(builder.config).__name__}:{_settings(builder.config)}"

    def _saved(self, folder: Path) -> Any:
        """A data set that `save_to_disk` wrote."""
        if self.config is not None:
            raise ValueError(
                f"data.source.config={self.config!r}: {folder} was saved without configurations; set it to null"
            )
        with self._explained():
            saved = self._datasets().load_from_disk(str(folder))
        if isinstance(saved, dict):
            return choose("data.source.split", saved, self.split)
        if saved.split is not None and str(saved.split) != self.split:
            raise ValueError(f"data.source.split={self.split!r}: {folder} holds the split {str(saved.split)!r} alone")
        return saved

    def _local(self) -> Path | None:
        local = local_path(self.path)
        if local is not None and self.revision is not None:
            raise ValueError(
                f"data.source.revision={self.revision!r}: {self.path} is here, without revisions; set it to null"
            )
        return local

    def _commit(self) -> str:
        """The hub's commit behind `revision` today; a full hash needs no request."""
        if self.revision is not None and COMMIT.fullmatch(self.revision):
            return self.revision
        self._datasets()
        from huggingface_hub import HfApi

        try:
            return str(HfApi().dataset_info(self.path, revision=self.revision).sha)
        except Exception as error:
            raise ValueError(
                f"data.source.path={self.path!r} is no file or folder here, and the Hugging Face Hub does not tell its "
                f"revision ({root_cause(error)}); without a network set data.source.revision to a commit's 40 digits"
            ) from error

    def _datasets(self) -> Any:
        return extra("datasets", f"data set {self.path}")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn errors of `datasets` and its libraries, which share no class, into one that names the data set."""
        try:
            yield
        except Exception as error:
            raise ValueError(f"data set {self.path} cannot be read: {root_cause(error)}") from error


def _is_saved(local: Path) -> bool:
    return any((local / name).is_file() for name in ("state.json", "dataset_dict.json"))


def _place(local: Path) -> dict[str, str]:
    """Arguments of `load_dataset` that name a local folder, or one file in its folder."""
    local = local.resolve()  # the data set is named after its folder, and "." is no name
    return {"path": str(local)} if local.is_dir() else {"path": str(local.parent), "data_files": local.name}


def _settings(config: Any) -> str:
    """Reading settings of a data card, such as CSV's separator, without names and paths."""
    ignored = {"name", "version", "data_dir", "data_files", "description"}
    changed = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if field.name not in ignored and getattr(config, field.name) != field.default
    }
    return repr(sorted(changed.items()))
