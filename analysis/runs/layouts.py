"""Layouts of tables, brought to one row an observation: renamed columns, W&B's exports, and a column a run.

W&B exports a table of runs (`Name, State, …`) and charts (`Step`, then `RUN - METRIC` with `__MIN` and `__MAX` a run).
A wide table has steps or tokens in its first column and each run's loss in a column of its own. Both become one row an
observation, with the run's name in run_id.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scaling.analysis.runs.choices import Choices
from scaling.analysis.runs.column_names import NAMES, find_names
from scaling.analysis.runs.files import read_file
from scaling.analysis.runs.number_text import parse_count
from scaling.analysis.runs.reading import Reading
from scaling.analysis.runs.row_checks import LARGEST_LOSS_NATS

CHART = re.compile(r"(?P<run>.+) - (?P<metric>[^ ]+?)(?P<end>__MIN|__MAX)?")
OF_THE_CHART = ("_step", "_runtime", "_timestamp")  # metrics that W&B adds to each chart
SIZE_IN_NAME = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?[KMBTkmbt])(?![A-Za-z0-9])")
QUANTITIES = ("params", "tokens", "flops", "loss")
PARAMS_OF_TRACKER = {f"n_params.{name}": f"params_{name}" for name in ("total", "non_embedding", "non_embedding_head")}


def arrange(reading: Reading, choices: Choices) -> Reading:
    """A file's table with one row an observation, and the inferences of its layout; ValueError for one of none."""
    reading = _renamed(reading, choices.rename)
    reading = _unfold(reading, choices)
    if choices.runs is not None:
        reading = _joined(reading, Path(choices.runs))
    reading = _wandb_runs(reading)
    return _tokens_of_steps(reading, choices)


def _renamed(reading: Reading, names: Mapping[str, str]) -> Reading:
    table = reading.table
    for old, new in names.items():
        if old not in table.columns:
            columns = ", ".join(map(str, table.columns))
            raise ValueError(
                f"--rename {old}={new}: {old!r} is not a column of {reading.source}; choose from {columns}"
            )
        if new in table.columns and new not in names:
            raise ValueError(f"--rename {old}={new}: {reading.source} has a column {new!r} already; rename that, too")
    return replace(reading, table=table.rename(columns=dict(names)))


def _wandb_runs(reading: Reading) -> Reading:
    """W&B's table of runs: its ID names a run, and this project's own counts have the names of its records."""
    table = reading.table
    own = {old: new for old, new in PARAMS_OF_TRACKER.items() if old in table.columns and new not in table.columns}
    known = reading.counts_known or {"params_total", "params_non_embedding"} <= set(own.values())
    if {"Name", "State"} <= set(table.columns) and "run_id" not in table.columns:
        named = "ID" if "ID" in table.columns and table["ID"].is_unique else "Name"
        if table[named].is_unique:
            own[named] = "run_id"
            reading = replace(reading, inferred=(*reading.inferred, f"W&B's table of runs: run_id = column {named!r}"))
    return replace(reading, table=table.rename(columns=own), counts_known=known) if own else reading


def _unfold(reading: Reading, choices: Choices) -> Reading:
    """A chart or a wide table with a row for every run and step; another table as it is."""
    table = reading.table
    charted = [CHART.fullmatch(str(name)) for name in table.columns[1:]]
    if charted and all(charted):
        return _chart(reading, [found for found in charted if found], choices)
    if _is_wide(table, choices):
        columns = [str(name) for name in table.columns[1:]]
        first = str(table.columns[0])
        long = _melt(table, first, {name: (name, "loss") for name in columns})
        said = f"a wide table: {len(columns)} runs, each a column of losses by {first!r}"
        return _with_sizes(
            _with_tokens(replace(reading, table=long, inferred=(*reading.inferred, said)), first, choices), choices
        )
    return reading


def _chart(reading: Reading, charted: "list[re.Match[str]]", choices: Choices) -> Reading:
    first = str(reading.table.columns[0])
    drawn = [one for one in charted if one["end"] is None and one["metric"] not in OF_THE_CHART]
    long = _melt(reading.table, first, {one[0]: (one["run"], one["metric"]) for one in drawn})
    runs, metrics = {one["run"] for one in drawn}, list(dict.fromkeys(one["metric"] for one in drawn))
    said = f"W&B's chart: {len(runs)} runs' {', '.join(metrics)} by {first!r}; columns __MIN and __MAX are left out"
    reading = replace(reading, table=long, inferred=(*reading.inferred, said))
    return _with_sizes(_with_tokens(reading, first, choices), choices)


def _is_wide(table: pd.DataFrame, choices: Choices) -> bool:
    """Whether a table holds steps or tokens first, then nothing but columns of losses that mostly fall."""
    if len(table.columns) < 3 or choices.loss_column is not None or find_names(table, "loss"):
        return False
    first, rest = str(table.columns[0]), table.iloc[:, 1:]
    if not any(find_names(table[[first]], name) for name in ("step", "tokens")):
        return False
    known = any(find_names(rest, name) for name in ("params", "tokens", "flops", "run_id", "step", "tokens_per_step"))
    if known or not all(pd.api.types.is_numeric_dtype(kind) for kind in rest.dtypes):
        return False
    ends = [one.dropna() for _, one in rest.items() if one.notna().sum() > 1]
    falling = sum(bool(one.iloc[0] > one.iloc[-1]) for one in ends)
    return bool(rest.min().min() > 0 and rest.max().max() < LARGEST_LOSS_NATS and falling > len(ends) / 2)


def _melt(table: pd.DataFrame, first: str, columns: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """One row a run and value of `first`, a column a metric; empty cells give no row."""
    parts: dict[str, list[pd.DataFrame]] = {}
    for column, (run, metric) in columns.items():
        filled = table[column].notna()
        part = pd.DataFrame({first: table.loc[filled, first], metric: table.loc[filled, column]})
        parts.setdefault(run, []).append(part.assign(run_id=run, source_row=np.flatnonzero(filled) + 1))
    frames = []
    for found in parts.values():
        whole = found[0]
        for more in found[1:]:
            whole = whole.merge(more, on=[first, "run_id", "source_row"], how="outer")
        frames.append(whole)
    return pd.concat(frames, ignore_index=True)


def _with_tokens(reading: Reading, first: str, choices: Choices) -> Reading:
    """The tokens of a wide table from a second table of the same layout, which --tokens names."""
    path = None if choices.tokens is None else Path(choices.tokens)
    if path is None or choices.tokens in reading.table.columns or not path.is_file():
        return reading
    second = read_file(path).table
    if first not in second.columns:
        raise ValueError(f"--tokens {path} has no column {first!r}, by which {reading.source} lists its losses")
    runs = reading.table["run_id"].unique()
    named = {str(name): (CHART.fullmatch(str(name)) or {"run": str(name)})["run"] for name in second.columns}
    columns = {
        name: (run, "tokens") for name, run in named.items() if run in runs and not name.endswith(("__MIN", "__MAX"))
    }
    lacking = [run for run in runs if run not in {run for run, _ in columns.values()}]
    if lacking:
        raise ValueError(f"--tokens {path} has no column for run {lacking[0]!r} of {reading.source}")
    tokens = _melt(second, first, columns).drop(columns="source_row")
    table = reading.table.merge(tokens, on=[first, "run_id"], how="left", validate="many_to_one")
    return replace(reading, table=table, inferred=(*reading.inferred, f"tokens by run and {first!r} from {path}"))


def _with_sizes(reading: Reading, choices: Choices) -> Reading:
    """The sizes that runs' names state, as gpt-19M does, where each states one and nothing else gives them."""
    if choices.params is not None or choices.runs is not None:
        return reading
    stated = {run: SIZE_IN_NAME.findall(run) for run in reading.table["run_id"].unique()}
    if not all(len(found) == 1 for found in stated.values()):
        return reading
    sizes = {run: number[0] for run, found in stated.items() if (number := parse_count(found[0]))}
    run, (text,) = next(iter(stated.items()))
    said = f"params from the runs' names: {run!r} has {text} = {sizes[run]:,.10g}"
    return replace(
        reading,
        table=reading.table.assign(params=reading.table["run_id"].map(sizes)),
        inferred=(*reading.inferred, said),
    )


def _joined(reading: Reading, path: Path) -> Reading:
    """The table with the columns of a table of runs, one row a run, joined by the run's name."""
    if not path.is_file():
        raise ValueError(f"--runs {path} is no file; give a table with one row a run")
    facts = read_file(path).table
    table, own = reading.table, find_names(reading.table, "run_id")
    if not own:
        raise ValueError(f"--runs {path}: {reading.source} names no run; choose its column with --run COLUMN")
    wanted = set(table[own[0]].dropna().astype(str))
    keys = [str(name) for name in facts.columns if wanted & set(facts[name].astype(str))]
    if not keys:
        raise ValueError(f"--runs {path}: no column names the runs of {reading.source}, such as {min(wanted)!r}")
    key = max(keys, key=lambda name: len(wanted & set(facts[name].astype(str))))
    if (lacking := sorted(wanted - set(facts[key].astype(str)))) or facts[key].duplicated().any():
        fault = f"has no row for run {lacking[0]!r}" if lacking else f"names a run of column {key!r} twice"
        raise ValueError(f"--runs {path} {fault}; it needs one row a run of {reading.source}")
    new = [name for name in facts.columns if name not in table.columns and name != key]
    again = {quantity for quantity in QUANTITIES if find_names(table, quantity)} | {"step"}
    kept = [name for name in new if not any(name in find_names(facts, quantity) for quantity in again)]
    joined = facts[kept].assign(**{own[0]: facts[key].astype(str)})
    table = table.assign(**{own[0]: table[own[0]].astype(str)}).merge(joined, on=own[0], how="left")
    said = f"{len(kept)} columns of {path}, joined by its column {key!r}"
    return replace(reading, table=table, inferred=(*reading.inferred, said))


def _tokens_of_steps(reading: Reading, choices: Choices) -> Reading:
    """Tokens as step x tokens_per_step, where --tokens-per-step says so or the table holds both and no tokens."""
    table, per_step = reading.table, choices.tokens_per_step
    steps = find_names(table, "step")
    if per_step is None:
        named = find_names(table, "tokens_per_step")
        if choices.tokens is not None or find_names(table, "tokens") or len(named) != 1 or len(steps) != 1:
            return reading
        per_step = named[0]
    if not steps:
        raise ValueError(f"--tokens-per-step: {reading.source} has no column of steps ({', '.join(NAMES['step'])})")
    factor: Any = table[per_step] if per_step in table.columns else None
    if factor is None:
        number = (float(per_step), False) if isinstance(per_step, int | float) else parse_count(per_step)
        if number is None:
            raise ValueError(f"--tokens-per-step {per_step!r} is neither a number nor a column of {reading.source}")
        factor = number[0]
    else:
        factor = factor.map(lambda one: one if isinstance(one, int | float) else (parse_count(str(one)) or [np.nan])[0])
    tokens = pd.to_numeric(table[steps[0]], errors="coerce") * factor
    said = f"tokens = column {steps[0]!r} x {per_step if isinstance(per_step, str) else f'{per_step:g}'}"
    return replace(reading, table=table.assign(tokens=tokens), inferred=(*reading.inferred, said))
