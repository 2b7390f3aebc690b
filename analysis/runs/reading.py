"""The reading of a source: a raw table with one row an observation, and the runs that the source had to leave out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import pandas as pd

Row: TypeAlias = dict[str, str | int | float | bool | None]  # of a table, by column

CURVE_COLUMNS = (
    *("run_id", "step", "tokens", "flops", "loss", "val_loss", "lr"),
    *("grad_square", "grad_trace", "noise_steps"),
)
CONTINUED = "continued from another run's weights: its own tokens and FLOPs are not all that its loss has cost"


@dataclass(frozen=True)
class Exclusion:
    """A row that is not used: its number in the source (None for a run that gave no row), its run, and the reason."""

    row: int | None
    run_id: str
    reason: str


@dataclass(frozen=True)
class Reading:
    """The content of one source, before any judgement."""

    table: pd.DataFrame
    source: str
    curves: pd.DataFrame | None = None  # CURVE_COLUMNS; None where the source has none or none were asked for
    excluded: tuple[Exclusion, ...] = ()
    flops_words: str = ""  # the source's own words for its counting of FLOPs, where it has any
    damaged: tuple[str, ...] = ()  # files, or lines of files, that could not be read
    inferred: tuple[str, ...] = ()  # statements about its layout that the source itself does not make
    counts_known: bool = False  # whether params_* follow this project's own conventions


def flatten(values: Mapping[str, object], prefix: str = "") -> Row:
    """Scalars of a nested mapping under dotted names; lists and empty mappings are left out."""
    flat: Row = {}
    for name, value in values.items():
        if isinstance(value, (str, int, float)):  # first, as most are: a Mapping is asked for slowly
            flat[f"{prefix}{name}"] = value
        elif isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{name}."))
    return flat


def one_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def concatenate(frames: list[pd.DataFrame]) -> pd.DataFrame:
    full = [frame for frame in frames if not frame.empty]
    return pd.concat(full, ignore_index=True) if full else pd.DataFrame(columns=list(CURVE_COLUMNS))
