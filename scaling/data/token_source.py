"""What a source of ready tokens offers, and the integer type of token files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from scaling.spec.run_spec import DataSpec

Ids = NDArray[np.integer[Any]]
Report = Callable[[int], None]  # takes how many more tokens are done


@dataclass(frozen=True)
class Written:
    """What a token source put into the two token files."""

    train_documents: int
    val_documents: int
    dropped_documents: int  # exact copies of another
    entropies_nats: tuple[float, ...] | None  # of the next symbol after 1, 2, … known ones; the last is the rate


@runtime_checkable
class TokenSource(Protocol):
    """Ids of tokens, ready to train on."""

    kind: ClassVar[str]

    def fingerprint(self, memory: Path | None, /) -> str:
        """The sha256 of the content, whatever the paths and their order; `memory` spares large files."""

    def holds_out(self) -> bool:
        """Whether `val_fraction` decides the validation split."""

    def content_tokens(self) -> int:
        """How many tokens there are to write, for progress."""

    def write(self, train: BinaryIO, val: BinaryIO, spec: DataSpec, memory: Path | None, report: Report, /) -> Written:
        """Write both splits as `id_type(spec.vocab_size)`; ValueError for an id outside the vocabulary."""


def id_type(vocab_size: int) -> type[np.unsignedinteger[Any]]:
    """The integer type that holds every id below `vocab_size`."""
    return np.uint16 if vocab_size <= 1 << 16 else np.uint32
