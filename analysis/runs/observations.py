"""Observations: anybody's runs, read, unified and validated into one table.

`observation_table` describes the columns. Each inference of the reader is a line in `Observations.inferred`.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scaling.analysis.laws.cost import FLOPS_PER_PARAM_TOKEN
from scaling.analysis.runs.checkpoints import runs_of_checkpoints
from scaling.analysis.runs.choices import Choices
from scaling.analysis.runs.columns import Columns, find_columns
from scaling.analysis.runs.layouts import arrange
from scaling.analysis.runs.merging import merge
from scaling.analysis.runs.observation_table import MAX_ROWS, Observations
from scaling.analysis.runs.readers import read
from scaling.analysis.runs.reading import Reading
from scaling.analysis.runs.repeated_losses import exclude_repeated_losses
from scaling.analysis.runs.row_checks import RowChecks
from scaling.analysis.runs.settings import not_best
from scaling.analysis.schema.document import Conventions

__all__ = ["MAX_ROWS", "Observations", "load", "validate"]

CONTRADICTION = 0.10  # relative difference of FLOPs from 6 N D that a table's reader must know first
CHOOSE = "choose with --params, --tokens and --flops COLUMN, or --flops 6nd"


def load(sources: Sequence[str | Path] | str | Path, **chosen: Any) -> Observations:
    """Read, unify and validate runs from files, study folders and W&B.

    The keywords are the fields of `choices.Choices`. ValueError, in one line, for an unusable source; single bad rows
    are excluded with a reason instead.
    """
    choices = Choices(**chosen)
    listed = [sources] if isinstance(sources, str | Path) else list(sources)
    if not listed:
        raise ValueError("no data given; name a CSV or Parquet file, a runs/<study> folder, or wandb:entity/project")
    parts = [validate(read(source, curves=choices.curves), choices) for source in listed]
    return parts[0] if len(parts) == 1 else merge(parts, {"params": choices.params, "flops": choices.flops})


def validate(reading: Reading, choices: Choices) -> Observations:
    """Turn one source's raw table into observations; see `load`."""
    reading = arrange(reading, choices)
    if choices.tokens is not None and choices.tokens not in reading.table.columns and "tokens" in reading.table.columns:
        choices = replace(choices, tokens=None)  # the file whose tokens are in the table now
    columns = find_columns(reading, choices)
    renamed = {own: name for name, own in columns.found.items() if own != name}
    conventions: Conventions = {**columns.conventions}
    notes, inferred, doubts = list(columns.notes), [*reading.inferred, *columns.inferred], list[str]()
    judge = _judged_rows(reading, columns, choices)
    inferred += judge.units
    judge.table, completed = _complete_counts(judge.table, choices.flops, conventions)
    notes += completed
    inferred += completed
    for name in columns.missing:
        judge.table = judge.table.assign(**{name: np.nan})
    if not reading.counts_known:
        judge.exclude_wrong_units(of_loss=not choices.any_sign)
    has_runs = "run_id" in judge.table.columns
    if not has_runs and (run_id := runs_of_checkpoints(judge.table, inferred)) is not None:
        judge.table, has_runs = judge.table.assign(run_id=run_id), True
    history = reading.curves
    if choices.curves and history is None and has_runs and not columns.missing:
        history = _curves_of(judge.table)
    exclude_repeated_losses(judge, doubts)
    judge.table = _limit_rows(judge.table, reading.source, has_runs, notes)
    judge.exclude_duplicates(has_runs=has_runs)
    table = _name_runs(judge.table, has_runs, notes, inferred)
    table["group"] = table["group"].astype(str) if "group" in table.columns else Path(reading.source).stem
    cluster = (
        choices.cluster if choices.cluster in table.columns else renamed.get(choices.cluster or "", choices.cluster)
    )
    table["cluster"] = _clusters(table, cluster, notes)
    if choices.best_of_cell:
        judge.table = table
        judge.exclude(not_best(table), "not the lowest loss of its size and tokens: --best-of-cell")
        table = judge.table.copy()
        inferred.append(f"only the lowest loss of each size and token count is fitted, as asked ({len(table)} rows)")
    table["origin"] = reading.source
    if choices.bytes_per_token is not None:
        table["loss_bytes_per_token"] = choices.bytes_per_token
    _weigh(table, reading, notes)
    if not reading.counts_known and not columns.missing:
        doubts += _contradiction(table)
    if history is not None:
        history = _curves_in_table(history, table)
    return Observations(
        table.reset_index(drop=True),
        (*reading.excluded, *judge.excluded),
        tuple(notes),
        conventions,
        (reading.source,),
        history,
        reading.damaged,
        tuple(f"{reading.source}: {line}" for line in inferred),
        tuple(f"{reading.source}: {line}" for line in doubts),
        columns.missing,
        choices.pool,
        renamed,
    )


def _judged_rows(reading: Reading, columns: Columns, choices: Choices) -> RowChecks:
    """The rows under the schema's names, in nats, without the rows that no fit can use."""
    own = reading.table["source_row"] if "source_row" in reading.table.columns else None
    rows = np.arange(1, len(reading.table) + 1) if own is None else own.to_numpy()
    judge = RowChecks(reading.table.drop(columns="source_row", errors="ignore").assign(row=rows), reading.source)
    for name, column in columns.found.items():
        if name == "run_id":
            judge.name_runs(reading.table[column])
        else:
            judge.number(name, reading.table[column])
    judge.convert_loss(columns.loss_factor)
    judge.exclude_unfinished()
    if choices.where is not None:
        judge.select(choices.where)
    judge.exclude_bad_numbers(any_loss=choices.any_sign)
    taken = {column for name, column in columns.found.items() if column not in columns.found}
    judge.table = judge.table.drop(columns=[name for name in taken if name in judge.table.columns])
    return judge


def _contradiction(table: pd.DataFrame) -> list[str]:
    """A line on FLOPs that are far from 6 N D: one of the three counts something else."""
    ratio = table["flops"] / (FLOPS_PER_PARAM_TOKEN * table["params"] * table["tokens"])
    middle = float(ratio.median())
    if 1 / (1 + CONTRADICTION) <= middle <= 1 + CONTRADICTION:
        return []
    return [
        f"flops contradict params and tokens: C / (6 N D) is {middle:.3g} in the middle ({ratio.min():.3g} to "
        f"{ratio.max():.3g}); one of the three counts something else: {CHOOSE}"
    ]


def _name_runs(table: pd.DataFrame, has_runs: bool, notes: list[str], inferred: list[str]) -> pd.DataFrame:
    """Give every row a run id, and note oddities of the given ones."""
    numbered = "row-" + table["row"].astype(str)
    if not has_runs:
        notes.append("no run_id column: every row is taken as a run of its own")
        inferred.append(notes[-1])
        return table.assign(run_id=numbered)
    unnamed = table["run_id"].isna()
    if unnamed.any():
        notes.append(f"{unnamed.sum()} rows without run_id are taken as runs of their own")
        inferred.append(notes[-1])
    table = table.assign(run_id=table["run_id"].where(~unnamed, numbered))
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
    table: pd.DataFrame, flops: str | None, conventions: Conventions
) -> tuple[pd.DataFrame, list[str]]:
    """The table with the third of params, tokens and flops from the other two, and a line on it."""
    stated = []
    given = {name for name in ("params", "tokens", "flops") if name in table.columns}
    if given == {"params", "flops"}:
        stated.append("no tokens: tokens = C / 6N, from flops and params")
        conventions["tokens"] = "training tokens (C / 6N)"
        table = table.assign(tokens=table["flops"] / (FLOPS_PER_PARAM_TOKEN * table["params"]))
    if given == {"tokens", "flops"}:
        stated.append("no params: params = C / 6D, from flops and tokens")
        conventions["params"] = "parameters (C / 6D)"
        table = table.assign(params=table["flops"] / (FLOPS_PER_PARAM_TOKEN * table["tokens"]))
    if given == {"params", "tokens"}:
        stated.append("no flops: C = 6 N D, from params and tokens")
    if given == {"params", "tokens"} or (flops == "6nd" and len(given) > 1):
        conventions["flops"] = "training FLOPs (6 N D)"
        if "flops" in given:
            table = table.assign(flops_exact=table["flops"])
        table = table.assign(flops=FLOPS_PER_PARAM_TOKEN * table["params"] * table["tokens"])
    return table, stated


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
    curves = table[["run_id", "tokens", "flops", "loss"]].assign(step=np.nan, val_loss=np.nan, lr=np.nan)
    return curves[curves["run_id"].duplicated(keep=False)]


def _curves_in_table(curves: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The curves of the table's runs, with each run's parameters, and run ids as categories.

    Rows may be millions: `curves` is emptied, column by column, so that memory holds no second copy of it.
    """
    params = table.drop_duplicates("run_id").set_index("run_id")["params"]
    curves["run_id"] = curves["run_id"].astype("category")
    run_ids = curves["run_id"].cat
    in_table = np.append(run_ids.categories.isin(params.index), False)  # False, last, for the code -1 of no run id
    known = in_table[run_ids.codes]
    params_of = np.append(params.reindex(run_ids.categories).to_numpy(float), np.nan)
    kept: dict[str, ArrayLike] = {"params": params_of[run_ids.codes][known]}
    whole = known.all()
    for name in list(curves.columns):
        column = curves.pop(name).array
        kept[str(name)] = column if whole else column[known]
    return pd.DataFrame(kept, copy=False)


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
    for name in ("unique_tokens", "predicted_tokens", "budget", "loss_se", "loss_bytes_per_token"):
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
