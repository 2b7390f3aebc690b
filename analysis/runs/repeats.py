"""Repeats: runs that differ in their seed alone."""

import numpy as np
from numpy.typing import NDArray

from scaling.analysis.runs.observations import Observations
from scaling.analysis.runs.settings import setting_columns

Array = NDArray[np.float64]


def cells(observations: Observations) -> NDArray[np.intp]:
    """The number of every row's cell (n,): equal for runs of one size, tokens, FLOPs and settings, whatever the seed.

    `settings` defines a setting.
    """
    table = observations.table
    if observations.missing:
        return np.arange(len(table), dtype=np.intp)  # rows of unknown size or tokens are no repeats
    groups = table.groupby(["params", "tokens", "flops", *setting_columns(table)], sort=False, dropna=False)
    numbers: NDArray[np.intp] = np.asarray(groups.ngroup(), dtype=np.intp)
    return numbers


def deviations(loss: Array, cell: NDArray[np.intp]) -> tuple[Array, int]:
    """Losses less their cell's mean (n,), and the degrees of freedom that they hold."""
    _, number, counts = np.unique(cell, return_inverse=True, return_counts=True)
    means = np.bincount(number, loss) / counts
    return loss - means[number], int((counts - 1).sum())
