"""Observations: anybody's runs as one validated table, with the rows that were left out and the reasons.

Columns of the table, one row an observation:

    row, run_id, origin, group, cluster      the row's place in its source; rows of one cluster are resampled together
    params, tokens, flops, loss              raw counts and nats, in the conventions named in `conventions`
    weight, loss_se, unique_tokens, predicted_tokens, budget   weights have mean 1; NaN where the source states none
    params_total, params_non_embedding, params_non_embedding_head, flops_exact      other counts, where known

and every other column of the source under its own name. Row numbers count from 1, the header not counted.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scaling.analysis.laws.cost import FLOPS_PER_PARAM_TOKEN, Cost, fit_cost
from scaling.analysis.runs.columns import find_columns
from scaling.analysis.runs.readers import read
from scaling.analysis.runs.reading import Exclusion, Reading
from scaling.analysis.runs.row_checks import RowChecks
from scaling.analysis.schema.document import Conventions

Array = NDArray[np.float64]

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

    def column(self, name: str) -> Array:
        """One numeric column as a float array, shape (n,)."""
        return self.table[name].to_numpy(dtype=float)

    @property
    def clusters(self) -> NDArray[np.intp]:
        """A number for every row, equal for rows that are resampled together."""
        labels: NDArray[np.intp] = self.table["cluster"].factorize()[0]
        return labels

    @property
    def cost(self) -> Cost:
        """The cost of a run by these runs: C = 6 N D, or the power of N that fits their FLOPs best."""
        return fit_cost(self.column("params"), self.column("tokens"), self.column("flops"))

    def select(self, rows: NDArray[np.bool_]) -> "Observations":
        """The same observations with only some rows; exclusions are not extended."""
        return replace(self, table=self.table[rows].reset_index(drop=True))

    def variables(self, names: Sequence[str]) -> dict[str, Array]:
        """A law's variables by its own symbols: N, D, C, U stand for params, tokens, flops, unique_tokens.

        Any other name is a column. Raises ValueError for one that is absent or not a number everywhere.
        """
        found = {}
        for name in names:
            column = COLUMN_OF_SYMBOL.get(name, name)
            if column not in self.table.columns:
                raise ValueError(f"the data have no column {column!r}, which the law calls {name}")
            values = pd.to_numeric(self.table[column], errors="coerce").to_numpy(dtype=float)
            if not np.isfinite(values).all():
                row = int(self.table["row"].iloc[int(np.flatnonzero(~np.isfinite(values))[0])])
                raise ValueError(f"column {column!r}, which the law calls {name}, has no number in row {row}")
            found[name] = values
        return found


def load(
    sources: Sequence[str | Path] | str | Path,
    *,
    params: str | None = None,
    flops: str | None = None,
    where: str | None = None,
    cluster: str | None = None,
    curves: bool = False,
) -> Observations:
    """Read, unify and validate runs from files, study folders and W&B.

    `params` names a counting convention (non_embedding, total, non_embedding_head) or a column; `flops` is "exact" (as
    the source counts), "6nd" or a column; None takes the source's own. `where` is a pandas query over the table; rows
    of one `cluster` (default: of one run) are resampled together. ValueError, in one line, for an unusable source;
    single bad rows are excluded with a reason instead.
    """
    listed = [sources] if isinstance(sources, str | Path) else list(sources)
    if not listed:
        raise ValueError("no data given; name a CSV or Parquet file, a runs/<study> folder, or wandb:entity/project")
    parts = []
    for source in listed:
        reading = read(source, curves=curves)
        parts.append(validate(reading, params=params, flops=flops, where=where, cluster=cluster, curves=curves))
    return parts[0] if len(parts) == 1 else _merge(parts, {"params": params, "flops": flops})


def validate(
    reading: Reading,
    *,
    params: str | None = None,
    flops: str | None = None,
    where: str | None = None,
    cluster: str | None = None,
    curves: bool = False,
) -> Observations:
    """Turn one source's raw table into observations; see `load`."""
    columns = find_columns(reading, params, flops)
    conventions: Conventions = {**columns.conventions}
    notes = list(columns.notes)
    table = reading.table.assign(row=np.arange(1, len(reading.table) + 1))
    has_runs = "run_id" in table.columns and bool(table["run_id"].notna().any())
    judge = RowChecks(table, reading.source)
    for name, column in columns.found.items():
        judge.number(name, reading.table[column])
    if where is not None:
        judge.select(where)
    judge.exclude_bad_numbers()
    judge.table = _complete_counts(judge.table, flops, conventions, notes)
    if not reading.counts_known:
        judge.exclude_wrong_units()
    history = reading.curves
    if curves and history is None and has_runs:
        history = _curves_of(judge.table)
    judge.table = _limit_rows(judge.table, reading.source, has_runs, notes)
    judge.exclude_duplicates(has_runs=has_runs)
    table = _name_runs(judge.table, has_runs, notes)
    table["group"] = table["group"].astype(str) if "group" in table.columns else Path(reading.source).stem
    table["cluster"] = _clusters(table, cluster, notes)
    table["origin"] = reading.source
    _weigh(table, reading, notes)
    if history is not None:
        history = history.merge(table.drop_duplicates("run_id")[["run_id", "params"]], on="run_id")
    return Observations(
        table.reset_index(drop=True),
        (*reading.excluded, *judge.excluded),
        tuple(notes),
        conventions,
        (reading.source,),
        history,
        reading.damaged,
    )


def _name_runs(table: pd.DataFrame, has_runs: bool, notes: list[str]) -> pd.DataFrame:
    """Give every row a run id, and note oddities of the given ones."""
    numbered = "row-" + table["row"].astype(str)
    if not has_runs:
        notes.append("no run_id column: every row is taken as a run of its own")
        return table.assign(run_id=numbered)
    unnamed = table["run_id"].isna()
    if unnamed.any():
        notes.append(f"{unnamed.sum()} rows without run_id are taken as runs of their own")
    table = table.assign(run_id=numbered.where(unnamed, table["run_id"].astype(str)))
    sizes = table.groupby("run_id", sort=False)["params"].nunique()
    several = sizes.index[sizes > 1]
    if len(several):
        more = f" and {len(several) - 1} more hold" if len(several) > 1 else " holds"
        notes.append(f"run_id {several[0]!r}{more} several sizes; the rows of one run_id are resampled together")
    again = table.duplicated(["run_id", "params", "tokens"], keep=False)
    if again.any():
        rows = ", ".join(str(row) for row in table.loc[again, "row"].head(5))
        notes.append(
            f"{again.sum()} rows share run, params and tokens and differ in loss or flops (rows {rows}"
            f"{', …' if again.sum() > 5 else ''}): kept as repeats, resampled together"
        )
    return table


def _complete_counts(
    table: pd.DataFrame, flops: str | None, conventions: Conventions, notes: list[str]
) -> pd.DataFrame:
    """Add the third of params, tokens and flops from the other two, with a note."""
    if "tokens" not in table.columns:
        notes.append("no tokens: tokens = C / 6N, from flops and params")
        conventions["tokens"] = "training tokens (C / 6N)"
        table = table.assign(tokens=table["flops"] / (FLOPS_PER_PARAM_TOKEN * table["params"]))
    has_flops = "flops" in table.columns
    if not has_flops:
        notes.append("no flops: C = 6 N D, from params and tokens")
    if not has_flops or flops == "6nd":
        conventions["flops"] = "training FLOPs (6 N D)"
        if has_flops:
            table = table.assign(flops_exact=table["flops"])
        table = table.assign(flops=FLOPS_PER_PARAM_TOKEN * table["params"] * table["tokens"])
    return table


def _limit_rows(table: pd.DataFrame, source: str, has_runs: bool, notes: list[str]) -> pd.DataFrame:
    if len(table) <= MAX_ROWS:
        return table
    runs = table["run_id"].nunique() if has_runs else len(table)
    if runs > MAX_ROWS:
        raise ValueError(
            f"{source} has {len(table):,} usable rows of {runs:,} runs, more than {MAX_ROWS:,}; select some "
            "with --where, or keep one row a run, its last, and name the run in a run_id column"
        )
    notes.append(f"{len(table):,} rows of {runs:,} runs: only each run's last checkpoint is fitted")
    last = table.groupby("run_id", sort=False, dropna=True)["tokens"].idxmax()
    return table.loc[last].sort_values("row")


def _curves_of(table: pd.DataFrame) -> pd.DataFrame | None:
    """Rows of one run at several token counts are a training curve."""
    if not table["run_id"].duplicated().any():
        return None
    curves = table[["run_id", "tokens", "flops", "loss"]].assign(step=np.nan, val_loss=np.nan)
    return curves[curves["run_id"].duplicated(keep=False)]


def _clusters(table: pd.DataFrame, cluster: str | None, notes: list[str]) -> "pd.Series[Any]":
    if cluster is None:
        return table["run_id"]
    if cluster not in table.columns:
        names = ", ".join(str(name) for name in table.columns)
        raise ValueError(f"--cluster {cluster!r} is not a column; choose from {names}")
    if table[cluster].isna().any():
        rows = ", ".join(str(row) for row in table.loc[table[cluster].isna(), "row"].head(3))
        raise ValueError(
            f"--cluster {cluster!r} has no value in rows {rows}; fill it in or leave them out with --where"
        )
    notes.append(f"rows with one {cluster} are resampled together ({table[cluster].nunique()} clusters)")
    return table[cluster].astype(str)


def _weigh(table: pd.DataFrame, reading: Reading, notes: list[str]) -> None:
    """Give every row a weight with mean 1: the source's own, or 1 / loss_se^2 where a file states standard errors."""
    for name in ("unique_tokens", "predicted_tokens", "budget", "loss_se"):
        if name not in table.columns:
            table[name] = np.nan
    if "weight" in table.columns:
        table["weight"] = table["weight"] / table["weight"].mean()
        notes.append("rows are weighted by column 'weight'")
        return
    errors = table["loss_se"]
    # A record's standard error is that of the validation set, shared by all runs: no difference between runs.
    if not reading.counts_known and bool((errors > 0).all()) and bool(np.isfinite(errors).all()):
        precision = errors**-2.0
        table["weight"] = precision / precision.mean()
        notes.append("rows are weighted by 1 / loss_se^2")
        return
    table["weight"] = 1.0


def _merge(parts: Sequence[Observations], chosen: Mapping[str, str | None]) -> Observations:
    """Several sources as one table; a run found twice with the same numbers is kept once."""
    conventions: Conventions = {
        "params": _one_convention("params", [part.conventions["params"] for part in parts], chosen),
        "tokens": _one_convention("tokens", [part.conventions["tokens"] for part in parts], chosen),
        "flops": _one_convention("flops", [part.conventions["flops"] for part in parts], chosen),
        "loss": _one_convention("loss", [part.conventions["loss"] for part in parts], chosen),
    }
    stems = [Path(part.source[0]).stem for part in parts]
    labels = stems if len(set(stems)) == len(stems) else [part.source[0] for part in parts]
    tables: list[pd.DataFrame] = []
    notes = [note for part in parts for note in part.notes]
    excluded = [one for part in parts for one in part.excluded]
    own = ["run_id", "params", "tokens", "flops", "loss"]
    for part, label in zip(parts, labels, strict=True):
        table = part.table
        before = pd.concat([earlier[own] for earlier in tables]) if tables else table[own].head(0)
        again = pd.MultiIndex.from_frame(table[own]).isin(pd.MultiIndex.from_frame(before))
        excluded += [
            Exclusion(int(row), str(run), f"in {part.source[0]}: the same run as in an earlier source")
            for row, run in table.loc[again, ["row", "run_id"]].itertuples(index=False)
        ]
        table = table[~again]
        taken = table["run_id"].isin(before["run_id"])
        if taken.any():
            renamed = table["run_id"].where(~taken, label + ":" + table["run_id"])
            notes.append(f"{taken.sum()} rows of {part.source[0]} share a run_id with an earlier source: renamed")
            clusters = table["cluster"].where(table["cluster"] != table["run_id"], renamed)
            table = table.assign(run_id=renamed, cluster=clusters)
        tables.append(table)
    whole = pd.concat(tables, ignore_index=True)
    if len(whole) > MAX_ROWS:
        raise ValueError(f"the sources hold {len(whole):,} rows, more than {MAX_ROWS:,}; select some with --where")
    histories = [part.curves for part in parts if part.curves is not None]
    return Observations(
        whole,
        tuple(excluded),
        tuple(dict.fromkeys(notes)),
        conventions,
        tuple(one for part in parts for one in part.source),
        pd.concat(histories, ignore_index=True).drop_duplicates() if histories else None,
        tuple(dict.fromkeys(one for part in parts for one in part.damaged)),
    )


def _one_convention(name: str, words: Sequence[str], chosen: Mapping[str, str | None]) -> str:
    """The sources' words for one axis; ValueError where they count a quantity differently and none was chosen."""
    distinct = list(dict.fromkeys(words))
    alike = {re.sub(r"column '[^']*'", "column", text) for text in distinct}
    if name in chosen and chosen[name] is None and len(alike) > 1:
        raise ValueError(f"the sources count {name} differently ({'; '.join(distinct)}); say which with --{name}")
    return "; or ".join(distinct)
