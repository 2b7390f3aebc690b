"""Settings of runs in a table: the columns, beside size, tokens and the seed, in which runs differ.

A *setting* is a column that differs between runs of one cell, a size and a token count; a seed is a column that says
so. Names of runs, states and times are no settings, nor are measured quantities: the losses and scores that a run ends
with, and a column that changes within a run. Runs that differ in a setting are no repeats of each other.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scaling.analysis.runs.column_names import NAMES, usual, words_of

FEW = 20  # values of a number that is a choice among a few
SAME_CELL = 5e-3  # relative difference of tokens, or sizes, that the rounding to whole batches explains
OWN = {"row", "run_id", "origin", "group", "cluster", "trunk", "params", "tokens", "flops", "flops_exact", "loss"}
OWN |= {"weight", "loss_se", "unique_tokens", "predicted_tokens", "epochs", "budget"}
SPEC = ("recipe.", "model.", "data.", "objective.")  # settings of a run of this project, all of them
SEEDS = {"seed", "seeds"}
REPEATS = {"run", "rep", "repeat", "replicate", "replica", "trial"}  # names, whole, of a number of repeats
LABELS = {"id", "name", "notes", "note", "user", "tags", "created", "updated", "runtime", "sweep", "hostname", "state"}
LABELS |= {"status", "description", "commit", "path", "url", "date", "time", "timestamp", "checkpoint", "comment"}
MEASURED = {"loss", "losses", "bpb", "bpc", "bpt", "ppl", "perplexity", "bits", "nll", "acc", "accuracy", "score"}
MEASURED |= {"err", "se", "sd", "std", "stderr", "grad", "gradient", "runtime", "seconds", "hours", "duration"}
MEASURED |= {"elapsed", "wall", "throughput", "mfu", "tps", "memory", "mem", "s"}
KNOWN = {"lr", "learning", "batch", "bs", "bsz", "gbs", "gbsz", "wd", "decay", "beta", "beta1", "beta2", "warmup"}
KNOWN |= {"dropout", "optimizer", "schedule", "rate", "momentum", "eps", "experts", "router", "arch", "depth", "width"}
CODED = {"experiment", "exp", "series", "arch", "architecture", "domain", "dataset", "corpus", "family", "variant"}
CODED |= {"group", "study", "setup", "router", "ablation"}  # words, where a table codes them as numbers
DERIVED = {"step", "steps", "iteration", "iterations", "iter", "samples", "sequences", "epoch", "flops", "tokens"}


def cells_of(table: pd.DataFrame) -> NDArray[np.intp]:
    """The number of each row's cell (n,): equal for runs of one size and token count, to SAME_CELL."""
    known = [name for name in ("params", "tokens") if table[name].notna().any()] or ["flops"]
    parts = pd.DataFrame({name: _rounded(table[name].to_numpy(dtype=float)) for name in known})
    numbers: NDArray[np.intp] = np.asarray(parts.groupby(known, sort=False).ngroup(), dtype=np.intp)
    return numbers


def not_best(table: pd.DataFrame) -> "pd.Series[bool]":
    """Whether another row of its cell has a lower loss; of equal losses the first is best."""
    best = table["loss"].groupby(cells_of(table)).idxmin()
    return pd.Series(~table.index.isin(best), index=table.index)


def last_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of each run at its most tokens: several where a run was measured in several ways."""
    return table[~(table["tokens"] < table.groupby("run_id", sort=False)["tokens"].transform("max"))]


def setting_columns(table: pd.DataFrame) -> list[str]:
    """The columns that set a run apart from its repeats, whether or not they differ."""
    names = [str(name) for name in table.columns if _may_set(str(name))]
    runs = last_rows(table)
    if len(runs) < len(table):
        names = [name for name in names if not _changes(table, name)]
    seeded = any(_is_seed(str(name)) and runs[name].nunique() > 1 for name in runs.columns)
    return [name for name in names if not _labels_or_measures(runs, name, seeded=seeded)]


def varying_settings(table: pd.DataFrame) -> list[str]:
    """The settings that differ within a cell of size and tokens; one that others decide is left out."""
    last = last_rows(table)
    cell = cells_of(last)
    names = [name for name in setting_columns(table) if _differs(last[name], cell)]
    names.sort(key=lambda name: (bool(DERIVED & set(words_of(name))), not KNOWN & set(words_of(name))))
    kept: list[str] = []
    for name in names:
        alike = last[kept].assign(cell=cell).groupby(["cell", *kept], sort=False, dropna=False).ngroup()
        if not kept or _differs(last[name], np.asarray(alike, dtype=np.intp)):
            kept.append(name)
    return kept


def varying_warning(table: pd.DataFrame) -> list[str]:
    """A line on the settings that differ between runs of one size and token count, with the ways to part them."""
    names = varying_settings(table) if table[["params", "tokens", "flops"]].notna().any(axis=None) else []
    if not names:
        return []
    listed = ", ".join(f"{name} ({table[name].nunique(dropna=False)} values)" for name in names)
    return [
        f"{listed} {'differs' if len(names) == 1 else 'differ'} between runs of one size and token count: settings, no "
        f"seeds, and one law goes through all of their runs; --best-of-cell keeps the best run of each size and token "
        f"count, --by '{names[0]}' fits each value apart, --where keeps some"
    ]


def text_settings(table: pd.DataFrame) -> list[str]:
    """The settings in words, truth values or coded words that differ between runs."""
    return [name for name in _differing(table) if _is_text(table[name]) or CODED & set(words_of(name))]


def number_settings(table: pd.DataFrame) -> list[str]:
    """The settings in numbers that take few values, but for those that differ within a cell."""
    varying = {*text_settings(table), *varying_settings(table)}
    return [name for name in _differing(table) if name not in varying and table[name].nunique() <= FEW]


def _differing(table: pd.DataFrame) -> list[str]:
    found = [name for name in [*setting_columns(table), "group"] if name in table.columns]
    return [name for name in found if table[name].nunique() > 1]


def _may_set(name: str) -> bool:
    if name.startswith(SPEC):
        return True
    words = set(words_of(name))
    own = name in OWN or name.startswith(("params_", "price.", "truth.", "Unnamed:")) or _is_seed(name)
    label = usual(name) in NAMES["run_id"] or usual(name) in LABELS or bool(words & MEASURED)
    return not own and not label


def _is_seed(name: str) -> bool:
    return not name.startswith(SPEC) and bool(SEEDS & set(words_of(name)) or usual(name) in REPEATS)


def _is_text(column: "pd.Series[Any]") -> bool:
    return bool(pd.api.types.is_bool_dtype(column) or not pd.api.types.is_numeric_dtype(column))


def _changes(table: pd.DataFrame, name: str) -> bool:
    """Whether a column changes as a run goes on; a domain, which differs at one token count of a run, does not."""
    of_run = bool((table.groupby("run_id", sort=False)[name].nunique() > 1).any())
    return of_run and not bool(
        (table.groupby(["run_id", "tokens"], sort=False, dropna=False)[name].nunique() > 1).any()
    )


def _labels_or_measures(runs: pd.DataFrame, name: str, *, seeded: bool) -> bool:
    """Whether a column's values are all distinct: a name if text, a measurement if runs differ in a seed, too."""
    if len(runs) < 4 or "." in name or KNOWN & set(words_of(name)) or runs[name].nunique() < len(runs):
        return False
    return _is_text(runs[name]) or seeded


def _differs(column: "pd.Series[Any]", cell: NDArray[np.intp]) -> bool:
    return bool((column.groupby(cell).nunique(dropna=False) > 1).any())


def _rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values (n,) with each within SAME_CELL above a smaller one brought to it."""
    distinct: Sequence[float] = np.unique(values[np.isfinite(values)]).tolist()
    anchors, last = [], -np.inf
    for one in distinct:
        last = one if one > last * (1 + SAME_CELL) or not np.isfinite(last) else last
        anchors.append(last)
    return np.array([np.nan, *anchors])[np.searchsorted(distinct, values, side="right") * np.isfinite(values)]
