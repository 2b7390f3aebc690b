"""The manifest of a prepared data set, stored in its manifest.json with the digests of the files beside it.

Under "sha256", manifest.json has the digest of every other file of the folder, and under "own_sha256" that of its own
remaining content. Data prepared before there were digests has neither key, and is read unchecked.
"""

import json
import os
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

from scaling.data.files import SHOWN_DIGITS, file_sha256
from scaling.data.token_source import Truth

MANIFEST = "manifest.json"
FILES, OWN = "sha256", "own_sha256"
LATER = {"truth"}  # entries that manifests of earlier versions lack


@dataclass(frozen=True)
class Manifest:
    """Identity and counts of a prepared data set.

    Byte counts are each document's UTF-8 and one byte for its end marker, under every tokenizer; so bits per
    byte are loss_nats * val_tokens / (val_bytes * ln 2), and equal loss_nats / ln 2 under `bytes`. Token
    sources have no byte counts.
    """

    digest: str
    tokenizer: str
    vocab_size: int
    used_vocabulary: int  # distinct ids in the training split
    train_tokens: int
    unique_train_tokens: int  # without the tokens of copied documents
    noisy_train_tokens: int  # replaced by ids drawn at random
    val_tokens: int
    train_bytes: int | None
    val_bytes: int | None
    train_documents: int
    duplicate_train_documents: int  # training documents that are copies, in the place of others
    val_documents: int
    dropped_documents: int  # exact copies of another document
    unknown_val_tokens: int  # validation tokens with the unknown id
    entropies_nats: tuple[float, ...] | None  # entropy given the last 1, 2, … tokens; known for synthetic data
    tokenizer_sha256: str | None  # digest of tokenizer.json
    end_id: int | None  # id that ends a document
    truth: Truth | None = None  # known law of the loss, of associations alone

    @property
    def entropy_rate_nats(self) -> float | None:
        """The entropy rate in nats per token, below which no model's loss lies; None where unknown."""
        return None if self.entropies_nats is None else self.entropies_nats[-1]

    def least_loss_nats(self, context: int) -> float | None:
        """The least mean loss over a context, in nats per token: its first tokens see less than the chain's order."""
        if self.entropies_nats is None:
            return None
        known = self.entropies_nats[:context]
        return (sum(known) + (context - len(known)) * self.entropies_nats[-1]) / context


def write_manifest(contents: Manifest, folder: Path) -> None:
    """Write a manifest into its folder, with the digests of all files there."""
    digests = {path.name: file_sha256(path, None) for path in sorted(folder.iterdir())}
    values = {**asdict(contents), FILES: digests}
    with (folder / MANIFEST).open("w") as file:
        file.write(json.dumps({**values, OWN: _own_sha256(values)}, indent=1))
        file.flush()
        os.fsync(file.fileno())


def read_manifest(folder: Path) -> tuple[Manifest, dict[str, str]]:
    """Read a folder's manifest and the digests of its files, none for data from before digests.

    Raises FileNotFoundError where there is no folder, and ValueError for a damaged or missing manifest.
    """
    path = folder / MANIFEST
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError:
        if folder.is_dir():
            raise ValueError(f"{path} is missing") from None
        raise
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    names = {entry.name for entry in fields(Manifest)}
    if not isinstance(values, dict) or (values.keys() | LATER) - {FILES, OWN} != names:
        raise ValueError(f"{path} is damaged: it does not hold the entries of a manifest")
    own, digests = values.pop(OWN, None), values.get(FILES)
    if (own is None) != (digests is None) or (own is not None and own != _own_sha256(values)):
        raise ValueError(f"{path} is damaged: its content does not have its own digest")
    values.pop(FILES, None)
    if values["entropies_nats"] is not None:
        values["entropies_nats"] = tuple(values["entropies_nats"])
    return Manifest(**values), digests or {}


def check_file(path: Path, sha256: str, memory: Path | None) -> None:
    """ValueError, which names the file, unless it has this digest; `memory` is that of `file_sha256`."""
    try:
        found = file_sha256(path, memory)
        if found != sha256 and memory is not None:  # the file may be whole and the memory damaged
            found = file_sha256(path, None)
    except FileNotFoundError:
        raise ValueError(f"{path} is missing") from None
    if found != sha256:
        raise ValueError(
            f"{path} is damaged: its sha256 is {found[:SHOWN_DIGITS]}, not {sha256[:SHOWN_DIGITS]} as in its {MANIFEST}"
        )


def _own_sha256(values: dict[str, Any]) -> str:
    return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
