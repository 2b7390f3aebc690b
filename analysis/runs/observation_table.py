"""The table of observations: runs as validated rows, with the rows that were left out and the reasons.

Columns of the table, one row an observation:

    row, run_id, origin, group, cluster      the row's place in its source; rows of one cluster are resampled together
    params, tokens, flops, loss              raw counts and nats, in the conventions named in `conventions`
    weight, loss_se, unique_tokens, predicted_tokens, budget, loss_bytes_per_token
                                             weights have mean 1; NaN where the source states none
    params_total, params_non_embedding, params_non_embedding_head, flops_exact      other counts, where known

and every other column of the source under its own name. A quantity that the source lacks is NaN everywhere. Row
numbers count from 1, the header not counted.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scaling.analysis.laws.cost import Cost, fit_cost
from scaling.analysis.laws.law import SIX_N_D
from scaling.analysis.runs.reading import Exclusion
from scaling.analysis.schema.document import Conventions

Array = NDArray[np.float64]

OWN_OF_TABLE = {"row", "run_id", "origin", "group", "cluster", "weight", "loss", "loss_se", "predicted_tokens"}
OWN_OF_TABLE |= {"loss_bytes_per_token"}
SAME_RATIO = 1e-3  # relative difference in bytes per token that is rounding
MAX_ROWS = 50_000  # beyond this a fit takes minutes; only rows of distinct runs are worth it
COLUMN_OF_SYMBOL = {"N": "params", "D": "tokens", "C": "flops", "U": "unique_tokens"}


@dataclass(frozen=True)
class Observations:
    """A validated table (see the module) with the exclusions, the assumptions, and words for every axis."""

    table: pd.DataFrame
    excluded: tuple[Exclusion, ...]
    notes: tuple[str, ...]
    conventions: Conventions
    source: tuple[str, ...]
    curves: pd.DataFrame | None = field(default=None, repr=False)  # reading.CURVE_COLUMNS, params
    damaged: tuple[str, ...] = ()  # files, or lines of files, that could not be read
    inferred: tuple[str, ...] = ()  # columns, units, runs and counts that the reader inferred, each with its source
    doubts: tuple[str, ...] = ()  # warnings of the reader: runs that repeat others, counts that contradict
    missing: Mapping[str, str] = field(default_factory=dict)  # quantity that is NaN everywhere -> the message
    pooled: bool = False  # whether the user has asked for one law through different settings
    renamed: Mapping[str, str] = field(default_factory=dict)  # the source's own column -> its name in the table

    def column(self, name: str) -> Array:
        """One numeric column as a float array, shape (n,)."""
        return self.table[name].to_numpy(dtype=float)

    @property
    def clusters(self) -> NDArray[np.intp]:
        """A number for every row, equal for rows that are resampled together."""
        labels: NDArray[np.intp] = self.table["cluster"].factorize()[0]
        return labels

    @property
    def bytes_per_token(self) -> float | None:
        """Bytes of validation text to a token of the loss; None where unknown, or not the same in all runs."""
        ratios = self.column("loss_bytes_per_token") if "loss_bytes_per_token" in self.table.columns else np.array([])
        if len(ratios) == 0 or not np.isfinite(ratios).all() or np.ptp(ratios) > SAME_RATIO * ratios.min():
            return None
        return float(np.median(ratios))

    @property
    def cost(self) -> Cost:
        """The cost of a run by these runs: C = 6 N D, beside or without the power of N that fits their FLOPs best."""
        if self.missing:
            return SIX_N_D
        return fit_cost(self.column("params"), self.column("tokens"), self.column("flops"))

    def select(self, rows: NDArray[np.bool_]) -> "Observations":
        """The same observations with only some rows; exclusions are not extended."""
        return replace(self, table=self.table[rows].reset_index(drop=True))

    def without(self, names: Iterable[str]) -> "Observations":
        """The same observations without columns that are a law's variables, and so no settings beside it."""
        return replace(self, table=self.table.drop(columns=[n for n in names if n in self.table.columns]))

    @property
    def names(self) -> tuple[str, ...]:
        """The names that a law's variables may have: symbols of quantities, and columns under the source's names."""
        table = self.table
        symbols = [symbol for symbol, column in COLUMN_OF_SYMBOL.items() if self._holds(column)]
        columns = [str(name) for name in table.columns if name not in OWN_OF_TABLE and table[name].notna().any()]
        return tuple(dict.fromkeys([*symbols, *columns, *(own for own in self.renamed if own not in OWN_OF_TABLE)]))

    def variables(self, names: Sequence[str]) -> dict[str, Array]:
        """A law's variables by its own symbols: N, D, C, U stand for params, tokens, flops, unique_tokens.

        Any other name is a column, under the source's name. Raises ValueError for one that is absent or not a number
        everywhere.
        """
        return {name: self._numbers(name) for name in names}

    def lacking(self, names: Iterable[str]) -> str:
        """Why a law of these variables cannot be fitted: the message on a quantity that is missing; empty elsewhere."""
        columns = [COLUMN_OF_SYMBOL.get(name, name) for name in names]
        return next((self.missing[column] for column in columns if column in self.missing), "")

    def _holds(self, column: str) -> bool:
        return column in self.table.columns and bool(self.table[column].notna().any())

    def _numbers(self, name: str) -> Array:
        column = COLUMN_OF_SYMBOL.get(name, name)
        if name in self.table.columns and not self._holds(column):
            column = name  # a column of the symbol's name, where the quantity is not known
        column = column if column in self.table.columns else self.renamed.get(column, column)
        if column in self.missing:
            raise ValueError(self.missing[column])
        if column not in self.table.columns:
            near = difflib.get_close_matches(name, self.names, n=1)
            hint = f": did you mean {near[0]!r}?" if near else "; --rename OLD=NEW gives a column that name."
            columns = ", ".join(self.names)
            raise ValueError(f"the data have no column {column!r}, which the law calls {name}{hint} Columns: {columns}")
        values = pd.to_numeric(self.table[column], errors="coerce").to_numpy(dtype=float)
        if not np.isfinite(values).all():
            first = int(np.flatnonzero(~np.isfinite(values))[0])
            row, given = int(self.table["row"].iloc[first]), self.table[column].iloc[first]
            if isinstance(given, str):
                kinds = ", ".join(map(str, self.table[column].dropna().unique()[:3]))
                raise ValueError(
                    f"column {column!r}, which the law calls {name}, holds words ({kinds}), as {given!r} in row {row}: "
                    f"a law takes numbers; --by {column!r} fits each value apart, --where keeps one"
                )
            raise ValueError(f"column {column!r}, which the law calls {name}, has no number in row {row}")
        return values
