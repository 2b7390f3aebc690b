"""The interface of a source of ready tokens, and the integer type of token files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Protocol, TypedDict, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from scaling.spec.run_spec import DataSpec

Ids = NDArray[np.integer[Any]]
Report = Callable[[int], None]  # takes the number of tokens written since the last call


class Truth(TypedDict):
    """The known law of a source's loss, floor + A / N^params + B / D^tokens, and its least loss, nats."""

    floor_nats: float
    params: float
    tokens: float
    least_loss_nats: float


@dataclass(frozen=True)
class Written:
    """Counts of the data that a token source wrote into the two token files."""

    train_documents: int
    val_documents: int
    dropped_documents: int  # exact copies of another document
    entropies_nats: tuple[float, ...] | None  # entropy given the last 1, 2, … symbols; the final one is the rate
    truth: Truth | None = None  # known for associations


@runtime_checkable
class TokenSource(Protocol):
    """A source of token ids that are ready to train on."""

    kind: ClassVar[str]

    def check(self, vocab_size: int, /) -> None:
        """ValueError where the content cannot be ids below `vocab_size`."""

    def fingerprint(self, memory: Path | None, /) -> str:
        """The sha256 of the content, independent of paths and their order; `memory` keeps digests of large files."""

    def holds_out(self) -> bool:
        """Whether `val_fraction` decides the validation split."""

    def content_tokens(self) -> int:
        """Tokens to write, for the progress bar."""

    def write(self, train: BinaryIO, val: BinaryIO, spec: DataSpec, memory: Path | None, report: Report, /) -> Written:
        """Write both splits as ids of type `id_type(spec.vocab_size)`; ValueError for an id outside the vocabulary."""


def id_type(vocab_size: int) -> type[np.unsignedinteger[Any]]:
    """The smallest integer type of token files that holds every id below `vocab_size`: uint16 or uint32."""
    return np.uint16 if vocab_size <= 1 << 16 else np.uint32
