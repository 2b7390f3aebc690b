"""Associations: codes that occur by Zipf's law, each with a label of its own, so that the loss follows a known law.

A record is the digits of a code and its label. Rank i of infinitely many occurs with probability i^-s / zeta(s); the
first ranks have a code each, and all later ones share one, whose labels are drawn anew. A learner that knows the labels
of the K most frequent codes has the loss ln(base) * P(rank > K), and one that knows all that D records show has
ln(base) * sum_i p_i (1 - p_i)^D: power laws of exponent s - 1 in K and 1 - 1 / s in D, worked out in
docs/ground-truth.md.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import zeta

from scaling.data.files import combine
from scaling.data.token_source import Ids, Report, Truth, Written, id_type
from scaling.spec.objective import Objective
from scaling.spec.run_spec import DataSpec

Floats = NDArray[np.float64]

KIND = "associations"
MOST_CODES = 1 << 22
LIMITS: dict[str, tuple[float, float]] = {  # an int as lower limit stands for a setting of whole numbers
    "records": (2, 10**11),
    "digits": (1, 16),
    "zipf_exponent": (1.05, 4.0),  # at 1 the law has no finite sum
    "seed": (0, 2**63),
}
RECORDS_AT_ONCE = 1 << 20


def frequencies(zipf_exponent: float, known: int) -> Floats:
    """Probabilities of ranks 1 to `known`, and of all later ranks together, shape (known + 1,)."""
    ranks = np.arange(1, known + 1, dtype=np.float64) ** -zipf_exponent
    found: Floats = np.append(ranks, zeta(zipf_exponent, known + 1)) / zeta(zipf_exponent)
    return found


@dataclass(frozen=True)
class Associations:
    """Records of `digits` digits and a label, over a vocabulary that serves both."""

    kind: ClassVar[str] = KIND
    records: int  # training and validation together
    digits: int
    zipf_exponent: float
    seed: int

    def __post_init__(self) -> None:
        for name, (least, most) in LIMITS.items():
            value = getattr(self, name)
            if not isinstance(least, float) and not isinstance(value, int):
                raise ValueError(f"data.source.{name} must be a whole number, got {value!r}")
            if not least <= value <= most:
                raise ValueError(f"data.source.{name} must lie in {least:g} to {most:g}, got {value}")

    def fingerprint(self, _memory: Path | None) -> str:
        return combine("associations 1", [repr((self.records, self.digits, float(self.zipf_exponent), self.seed))])

    def holds_out(self) -> bool:
        return True

    def content_tokens(self) -> int:
        return self.records * (self.digits + 1)

    def check(self, vocab_size: int) -> None:
        """ValueError above MOST_CODES codes."""
        if vocab_size**self.digits > MOST_CODES:
            raise ValueError(
                f"codes of data.source.digits={self.digits} over data.vocab_size={vocab_size} are "
                f"{vocab_size**self.digits:,}, above {MOST_CODES:,}; take data.vocab_size up to "
                f"{int(MOST_CODES ** (1 / self.digits) + 1e-9)}, or fewer digits"
            )

    def truth(self, vocab_size: int) -> Truth:
        """The law of the loss of recall, and its least value, that of the ranks that share a code."""
        unknown = float(frequencies(self.zipf_exponent, vocab_size**self.digits - 1)[-1])
        return {
            "floor_nats": 0.0,
            "params": self.zipf_exponent - 1,
            "tokens": 1 - 1 / self.zipf_exponent,
            "least_loss_nats": unknown * math.log(vocab_size),
        }

    def write(self, train: BinaryIO, val: BinaryIO, spec: DataSpec, _memory: Path | None, report: Report) -> Written:
        """Training records are drawn; those of validation have the law's frequencies, to within a record of each."""
        val_records = max(1, round(self.records * spec.val_fraction))
        random = np.random.Generator(np.random.PCG64([self.seed, 0]))
        codes = random.permutation(spec.vocab_size**self.digits)
        labels = random.integers(spec.vocab_size, size=len(codes))
        cumulative = np.cumsum(frequencies(self.zipf_exponent, len(codes) - 1))
        for stream, (file, records) in enumerate(((train, self.records - val_records), (val, val_records)), start=1):
            random = np.random.Generator(np.random.PCG64([self.seed, stream]))
            order = random.permutation(records) if file is val else None
            for first in range(0, records, RECORDS_AT_ONCE):
                count = min(RECORDS_AT_ONCE, records - first)
                drawn = random.random(count)
                if order is not None:
                    drawn = (order[first : first + count] + drawn) / records
                ranks = np.searchsorted(cumulative[:-1], drawn, side="right")
                ids = self._records(codes[ranks], labels[ranks], spec.vocab_size)
                shared = ranks == len(codes) - 1
                ids[shared, -1] = random.integers(spec.vocab_size, size=int(shared.sum()))
                file.write(ids.tobytes())
                report(ids.size)
        return Written(
            train_documents=1,
            val_documents=1,
            dropped_documents=0,
            entropies_nats=None,
            truth=self.truth(spec.vocab_size),
        )

    def _records(self, codes: NDArray[np.int64], labels: NDArray[np.int64], base: int) -> Ids:
        """Records as rows of ids, the first digit first and the label last."""
        digits = [codes // base**place % base for place in reversed(range(self.digits))]
        return np.stack([*digits, labels], axis=1).astype(id_type(base))


def check_recall(source: object, objective: Objective, context: int) -> None:
    """ValueError where associations are trained on otherwise than by recall of whole records."""
    if isinstance(source, Associations) and (objective.kind != "recall" or context != source.digits):
        raise ValueError(
            f"data.source.kind={KIND} asks for objective=recall and model.context={source.digits}, the digits of a "
            f"code; got objective={objective.kind} and model.context={context}"
        )
