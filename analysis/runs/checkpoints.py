"""Checkpoints of one run in a table that names no run: rows of one size whose tokens rise.

Such rows share their run's noise. Taken as runs of their own they make intervals several times too narrow.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scaling.analysis.runs.column_names import words_of
from scaling.analysis.runs.settings import SEEDS, setting_columns

LEAST_CHECKPOINTS = 8  # of one size: no grid of single runs has as many token counts a size
LEAST_EVEN = 5  # of one size at even steps in tokens, as a run is saved
EVEN = 0.02  # relative spread of even steps
LEAST_DOUBTED = 3  # token counts of one size that a reader is asked about
SAME_COMPUTE = 0.02  # relative difference of FLOPs within an isoFLOP budget


def runs_of_checkpoints(table: pd.DataFrame, inferred: list[str]) -> "pd.Series[str] | None":
    """A run id for every row where rows of one size are checkpoints; None, with a line where in doubt, otherwise.

    A run is a size with one value of every setting and seed; within these a fall of the tokens starts another run.
    """
    if table[["params", "tokens"]].isna().any(axis=None):
        return None
    seeds = [str(name) for name in table.columns if SEEDS & set(words_of(str(name)))]
    parts = ["params", *seeds, *setting_columns(table.assign(run_id=np.arange(len(table)).astype(str)))]
    size = table.groupby(parts, sort=False, dropna=False).ngroup()
    run = size.astype(str) + "-" + _restarts(table["tokens"], size).astype(str)
    counts = run.groupby(run).transform("size")
    if counts.max() < LEAST_DOUBTED or _is_isoflop(table):
        return None
    sure = [_are_checkpoints(rows["tokens"].to_numpy(dtype=float)) for _, rows in table.groupby(run, sort=False)]
    if not any(sure):
        if table["params"].nunique() < len(table) / LEAST_DOUBTED:
            inferred.append(
                f"no column names the runs, and sizes have up to {counts.max()} token counts: if these are checkpoints "
                "of one run, --cluster params (or --run COLUMN) keeps intervals from being too narrow"
            )
        return None
    number = pd.Series(run.factorize()[0] + 1, index=table.index)
    named = "run-" + number.astype(str) + "-of-" + table["params"].map("{:.4g}".format)
    inferred.append(
        f"rows of one size with rising tokens are taken as checkpoints of one run: {number.max()} runs of up to "
        f"{counts.max()} rows, resampled by run; --run COLUMN names them, --cluster row parts them"
    )
    return named


def _restarts(tokens: "pd.Series[float]", size: "pd.Series[int]") -> "pd.Series[int]":
    """How often the tokens have fallen, so far, within each size, where a size repeats a token count."""
    frame = pd.DataFrame({"tokens": tokens, "size": size})
    repeated = frame.duplicated(keep=False).groupby(size).transform("any")
    falls = (frame.groupby("size")["tokens"].diff() <= 0) & repeated
    return falls.groupby(size).cumsum().astype(int)


def _are_checkpoints(tokens: NDArray[np.float64]) -> bool:
    """Whether token counts of one size are those of a run that was saved on its way."""
    tokens = np.unique(tokens)
    steps = np.diff(tokens)
    even = len(tokens) >= LEAST_EVEN and float(np.ptp(steps)) <= EVEN * float(steps.mean())
    return even or len(tokens) >= LEAST_CHECKPOINTS


def _is_isoflop(table: pd.DataFrame) -> bool:
    """Whether sizes meet at the same compute but not at the same tokens: single runs at equal compute."""

    def shared(values: "pd.Series[float]") -> float:
        level = pd.Series(np.round(np.log(values) / np.log1p(SAME_COMPUTE)), index=values.index)
        sizes = table["params"].groupby(level).transform("nunique")
        return float((sizes > 1).mean())

    return shared(table["flops"]) > max(0.5, shared(table["tokens"]))
