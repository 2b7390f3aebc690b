"""A reader's choices: the columns, units and rows of a source that a user names, beside those found by themselves."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

LOSS_UNITS = ("nats", "bits_per_token", "bits_per_byte", "perplexity")


@dataclass(frozen=True)
class Choices:
    """Choices of the reading; None leaves a choice to the reader, which states each inference.

    ValueError for values that no source can satisfy.
    """

    params: str | None = None  # a convention (non_embedding, total, non_embedding_head) or a column
    flops: str | None = None  # exact (as the source counts), 6nd or a column
    tokens: str | None = None  # a column, or the file of a wide table: a column a run
    loss_column: str | None = None
    run_column: str | None = None  # the column that names a row's run
    rename: Mapping[str, str] = field(default_factory=dict)  # a column's own name -> its new one
    runs: str | Path | None = None  # file of a table with one row a run, joined by the run's name
    tokens_per_step: str | float | None = None  # a number or a column: tokens = step x tokens_per_step
    loss_unit: str | None = None  # one of LOSS_UNITS
    bytes_per_token: float | None = None  # declares a loss in bits per byte (or character)
    where: str | None = None  # a pandas query over the table
    cluster: str | None = None  # the column whose equal values are resampled together
    best_of_cell: bool = False  # keep the lowest loss of each size and token count
    pool: bool = False  # one law through runs of different settings, by the user's word
    own_columns: bool = False  # laws of the table's own columns: params, tokens and flops may all be absent
    any_sign: bool = False  # losses may be zero or negative
    curves: bool = False  # read training curves, too

    def __post_init__(self) -> None:
        if self.loss_unit is not None and self.loss_unit not in LOSS_UNITS:
            raise ValueError(f"unknown loss unit {self.loss_unit!r}; choose from {', '.join(LOSS_UNITS)}")
        ratio = self.bytes_per_token
        if ratio is not None and not (math.isfinite(ratio) and ratio > 0):
            raise ValueError(f"--bytes-per-token must be positive and finite, got {ratio:g}")
        if ratio is not None and self.loss_unit not in (None, "bits_per_byte"):
            raise ValueError(f"--bytes-per-token declares bits per byte, --loss-unit {self.loss_unit}: keep one")
        if self.loss_unit == "bits_per_byte" and ratio is None:
            raise ValueError("--loss-unit bits_per_byte needs --bytes-per-token R: nats per token = bits x ln 2 x R")

    @property
    def unit(self) -> str | None:
        """The unit of the loss as declared, if any."""
        return "bits_per_byte" if self.bytes_per_token is not None else self.loss_unit
