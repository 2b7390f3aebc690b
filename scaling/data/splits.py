"""The training and validation splits of a text: two ranges of its documents in the order of their hash."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from scaling.data.spool import Spool


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
