"""A witness of the associations task: the exact expected loss of a learner that memorises, without any training.

It holds the labels of the `capacity` most frequent codes, as far as its records have shown them, and gives equal
probabilities to the labels of every other code.
"""

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scaling.data.associations import Associations, frequencies

Array = NDArray[np.float64]

SOURCE = Associations(records=1_000_000, digits=3, zipf_exponent=1.5, seed=0)
VOCAB = 64  # 262,144 codes


def expected_loss(capacity: Array, records: Array, *, source: Associations = SOURCE, vocab_size: int = VOCAB) -> Array:
    """The expected loss, nats, at each capacity and number of records: code i stays unseen with (1 - p_i)^D."""
    share = frequencies(source.zipf_exponent, vocab_size**source.digits - 1)
    ranks = np.arange(len(share))
    lost = []
    for size, drawn in zip(capacity, records, strict=True):
        unknown = np.where(ranks < size, np.exp(drawn * np.log1p(-share)), 1.0)
        unknown[-1] = 1.0  # the code that later ranks share
        lost.append(float(share @ unknown))
    return math.log(vocab_size) * np.array(lost)


def memory_runs(
    capacity: Array, records: Array, *, noise: float = 0.0, seed: int = 0, source: Associations = SOURCE
) -> pd.DataFrame:
    """Runs of the witness as a table of runs of this project: params are its capacity, tokens its records."""
    loss = expected_loss(capacity, records, source=source)
    loss = loss * np.exp(noise * np.random.default_rng(seed).standard_normal(len(loss)))
    table = pd.DataFrame({"params": capacity, "tokens": records, "flops": 6 * capacity * records, "loss": loss})
    return table.assign(**{f"truth.{name}": value for name, value in source.truth(VOCAB).items()})
