"""A source of data of one's own: registered, and trained on for a few seconds.

python examples/own_data_source.py
"""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from scaling.cli import main
from scaling.data.sources import SOURCES


# A source of text is a frozen dataclass of settings that yields documents. In the repository the class would stand in
# a file of its own in scaling/data/, in the tuple of scaling/data/sources.py, and in conf/data/sums.yaml.
@dataclass(frozen=True)
class Sums:
    """Documents of additions, as `17+25=42`, a line each."""

    kind: ClassVar[str] = "sums"
    documents_in_all: int
    largest: int
    seed: int

    def fingerprint(self, _memory: Path | None) -> str:
        """The sha256 of the content: part of a run's identity, so it must change when the text does."""
        return hashlib.sha256(repr(("sums 1", self.documents_in_all, self.largest, self.seed)).encode()).hexdigest()

    def content_bytes(self) -> int:
        """About how many bytes there are, for progress."""
        return self.documents_in_all * 1000

    def documents(self) -> Iterator[str]:
        """Every document; the split into training and validation is by document."""
        drawn = random.Random(self.seed)
        for _ in range(self.documents_in_all):
            pairs = [(drawn.randint(0, self.largest), drawn.randint(0, self.largest)) for _ in range(100)]
            yield "".join(f"{a}+{b}={a + b}\n" for a, b in pairs)


def train() -> int:
    """Train two sizes on sums, one after the other in this process, which alone knows the source."""
    SOURCES["sums"] = Sums
    return main(
        [
            "train",
            "--multirun",
            "study=sums",
            "hydra/launcher=in_process",
            "data=plain",  # no source, tokenizer or split yet; conf/data/sums.yaml would hold these
            "+data.source={kind: sums, documents_in_all: 300, largest: 99, seed: 0}",
            "+data.tokenizer=chars",
            "+data.vocab_size=32",
            "+data.val_fraction=0.1",
            "val_tokens=2048",
            "model.context=32",
            "model.d_model=16,32",
            "budget.flops=5e8",
            "recipe.batch_tokens.value=4e-3",
            "runtime.threads=1",  # steps this small are slower on two threads than on one
            "runtime.log_points=5",
        ]
    )


if __name__ == "__main__":
    raise SystemExit(train())
