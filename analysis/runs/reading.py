"""What every reader returns: a raw table with one row an observation, and what the source had to leave out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

CURVE_COLUMNS = ("run_id", "step", "tokens", "flops", "loss", "val_loss", "grad_square", "grad_trace", "noise_steps")


@dataclass(frozen=True)
class Exclusion:
    """One row that is not used: its number in the source (None for a run that never gave a row), its run,
    and why.
    """

    row: int | None
    run_id: str
    reason: str


@dataclass(frozen=True)
class Reading:
    """What one source holds, before any judgement."""

    table: pd.DataFrame
    source: str
    curves: pd.DataFrame | None = None  # CURVE_COLUMNS; None where the source has none or none were asked for
    excluded: tuple[Exclusion, ...] = ()
    flops_words: str = ""  # how the source counts its FLOPs, in words, when it says so
    counts_known: bool = False  # whether params_* follow this project's own conventions


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Scalars of a nested mapping under dotted names; lists and empty mappings are left out."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{name}."))
        elif isinstance(value, str | int | float | bool):
            flat[f"{prefix}{name}"] = value
    return flat


def one_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def concatenate(frames: list[pd.DataFrame]) -> pd.DataFrame:
    full = [frame for frame in frames if not frame.empty]
    return pd.concat(full, ignore_index=True) if full else pd.DataFrame(columns=list(CURVE_COLUMNS))
