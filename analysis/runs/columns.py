"""The columns of a source: parameters, tokens, FLOPs and loss by their names or a user's choice, and their counting.

A quantity under two names that differ, or parameters counted in several ways, must be chosen; each name that is not
the schema's own is stated.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from scaling.analysis.runs.choices import Choices
from scaling.analysis.runs.column_names import (
    COUNTS_OF_PARAMS,
    NAMES,
    counted_params,
    find_names,
    resembling,
    usual,
    words_of,
)
from scaling.analysis.runs.reading import Reading
from scaling.analysis.schema.document import Conventions

COUNTS_OF_FLOPS = ("exact", "6nd")
SYMBOLS = {"params": "N", "tokens": "D", "flops": "C"}
OPTIONS = {"params": "--params", "tokens": "--tokens", "flops": "--flops", "loss": "--loss-column", "run_id": "--run"}
OTHER_UNITS = {  # pattern of a column's name -> its unit, the way to nats
    r"bits_?per_?tok|bpt": ("bits per token", "declare it with --loss-unit bits_per_token: nats are bits x ln 2"),
    r"bits_?per_?(byte|char)|bpb|bpc": (
        "bits per byte or character",
        "declare it with --bytes-per-token R (characters, for bits per character): nats are bits x ln 2 x R",
    ),
    r"bits": (
        "bits",
        "multiply bits per token by ln 2 = 0.693147 (--loss-unit bits_per_token); bits per byte need --bytes-per-token",
    ),
    r"ppl|perplexity": ("perplexity", "take its natural logarithm and name it loss, or --loss-unit perplexity does"),
}


@dataclass(frozen=True)
class Columns:
    """The source's columns by the schema's names, the words for each axis, and what was assumed or is missing."""

    found: Mapping[str, str]  # schema's name -> source's column
    conventions: Conventions
    notes: tuple[str, ...]
    inferred: tuple[str, ...]
    loss_factor: float | None  # of the loss column to nats per token; None for a perplexity
    missing: Mapping[str, str]  # quantity that neither the source nor C = 6 N D gives -> the message of its absence


def find_columns(reading: Reading, choices: Choices) -> Columns:
    """Find every quantity's column, with the axis's words; ValueError for one that is missing or ambiguous."""
    table, source = reading.table, reading.source
    notes: list[str] = []
    counted = counted_params(table)
    params_column, params_words = _params(reading, choices.params, counted, notes)
    loss_column, factor, unit = _loss(table, source, choices)
    found = {
        "params": params_column,
        "tokens": _chosen(table, "tokens", choices.tokens, source),
        "flops": _flops(reading, choices.flops),
        "loss": loss_column,
        "run_id": _chosen(table, "run_id", choices.run_column, source)
        if choices.run_column
        else _run(table, params_column),
        **{name: _only(table, name, source) for name in ("weight", "loss_se", "unique_tokens", "budget")},
    }
    if found["flops"] is None and (found["tokens"] is None or found["params"] is None):
        found["flops"] = found["budget"]
    named = [
        choices.params,
        choices.tokens,
        choices.flops,
        choices.loss_column,
        choices.run_column,
        *choices.rename.values(),
    ]
    inferred = [
        f"{name} = column {column!r}"
        for name, column in found.items()
        if column not in (None, name, *named) and column not in [f"params_{one}" for one in counted]
    ]
    found |= {f"params_{convention}": column for convention, column in counted.items()}
    words = reading.flops_words or ("not stated" if found["flops"] is None else f"column {found['flops']!r}")
    short = words.partition(":")[0]
    if short != words:
        notes.append(f"training FLOPs are counted so: {words}")
    loss_words = "validation loss" if reading.counts_known else f"loss (column {loss_column!r}{unit})"
    conventions: Conventions = {
        "params": params_words,
        "tokens": "training tokens",
        "flops": f"training FLOPs ({short})",
        "loss": f"{loss_words}, nats per token",
    }
    present = {name: column for name, column in found.items() if column is not None}
    return Columns(
        present, conventions, tuple(notes), tuple(inferred), factor, _missing(present, table, choices, source)
    )


def _missing(found: Mapping[str, str], table: pd.DataFrame, choices: Choices, source: str) -> dict[str, str]:
    """The quantities among params, tokens and flops that two others do not give.

    ValueError where all are missing, but for laws of the table's own columns.
    """
    absent = [name for name in ("params", "tokens", "flops") if name not in found]
    if len(absent) == 3 and choices.own_columns:
        return {name: _no_column(name, table, source) for name in absent}
    if len(absent) == 3:
        raise ValueError(_no_column("params", table, source, "; or name one with --params COLUMN"))
    if len(absent) < 2:
        return {}
    by_step = ", or --tokens-per-step T, and tokens = step x T" if find_names(table, "step") else ""
    remedies = {
        "params": "; or name one with --params COLUMN, or a table of the runs with --runs FILE",
        "tokens": f"; or name one with --tokens COLUMN{by_step}, or give flops, and tokens = C / 6N",
        "flops": "; or name one with --flops COLUMN",
    }
    (only,) = {"params", "tokens", "flops"} - set(absent)
    alone = f"; a law of {SYMBOLS[only]} alone needs no more: --law power:{SYMBOLS[only]}"
    return {name: _no_column(name, table, source, remedies[name] + alone) for name in absent}


def _params(
    reading: Reading, params: str | None, counted: Mapping[str, str], notes: list[str]
) -> tuple[str | None, str]:
    """The column of parameters, if any, and words for their counting."""
    table, source = reading.table, reading.source
    unsaid = "counting not stated"
    if params is not None and params not in COUNTS_OF_PARAMS:
        column = _existing(table, params, "--params", source, tuple(COUNTS_OF_PARAMS))
        stated = next((words for name, words in COUNTS_OF_PARAMS.items() if counted.get(name) == column), None)
        return column, stated or f"parameters (column {column!r}; {unsaid})"
    if params is None and reading.counts_known and "non_embedding" in counted:
        params = "non_embedding"
    if params is not None and params in counted:
        return counted[params], COUNTS_OF_PARAMS[params]
    plain = _only(table, "params", source)
    if params is None:
        ways = ([plain] if plain else []) + list(counted.values())
        if plain is None and counted:  # a mixture of experts counts the parameters that a token meets, beside all
            ways += [name for name in resembling(table, "params") if {"active", "activated"} & {*words_of(name)}]
        if len(ways) > 1:
            listed = ", ".join(ways)
            raise ValueError(f"{source} counts parameters in {len(ways)} ways ({listed}); choose with --params COLUMN")
        if not ways:
            return None, "parameters (not stated)"
        stated = next((COUNTS_OF_PARAMS[name] for name, column in counted.items() if column == ways[0]), None)
        return ways[0], stated or f"parameters (column {ways[0]!r}; {unsaid})"
    if plain is None or counted:
        has = ", ".join(f"params_{name}" for name in counted) or "none of the conventions"
        raise ValueError(f"{source} has no column params_{params}; it has {has}; name a column with --params COLUMN")
    words = COUNTS_OF_PARAMS[params]
    notes.append(f"{source}: column {plain!r} is taken for {words}, as asked; the file itself does not say")
    return plain, words


def _flops(reading: Reading, flops: str | None) -> str | None:
    if flops is not None and flops not in COUNTS_OF_FLOPS:
        return _existing(reading.table, flops, "--flops", reading.source, COUNTS_OF_FLOPS)
    column = _only(reading.table, "flops", reading.source)
    if flops == "exact" and column is None:
        raise ValueError(f"{reading.source} has no flops column for --flops exact; use --flops 6nd")
    return column


def _loss(table: pd.DataFrame, source: str, choices: Choices) -> tuple[str, float | None, str]:
    """The column of the loss, its factor to nats per token (None: a perplexity), and words for a unit but nats."""
    column, unit = _chosen(table, "loss", choices.loss_column, source), choices.unit
    in_unit = _in_another_unit(table)
    if choices.loss_column is None and unit not in (None, "nats") and len(in_unit) == 1:
        column = in_unit[0]
    if column is None and choices.loss_column is None and unit is not None and len(in_unit) > 1:
        raise ValueError(
            f"{source} names a loss {len(in_unit)} times ({', '.join(in_unit)}); name it with --loss-column"
        )
    if column is None:
        raise ValueError(_no_loss(table, source))
    if unit is None and (other := _unit_of(column)) and choices.loss_column is not None:
        raise ValueError(f"{source}: column {column!r} is in {other[0]}; {other[1]}; --loss-unit nats if it is not")
    ratio = choices.bytes_per_token or 1.0
    if unit == "perplexity":
        return column, None, ", its logarithm"
    if unit in ("bits_per_token", "bits_per_byte"):
        times = f" x {ratio:g}" if unit == "bits_per_byte" else ""
        return column, math.log(2) * ratio, f" x ln 2{times}"
    return column, 1.0, ""


def _run(table: pd.DataFrame, params: str | None) -> str | None:
    """The column that names a row's run; one whose values recur over sizes names none, but for run_id itself."""
    if "run_id" in table.columns:
        return "run_id"
    for column in sorted(find_names(table, "run_id"), key=lambda one: NAMES["run_id"].index(usual(one))):
        if params is None or table[params].groupby(table[column]).nunique().max() <= 1:
            return column
    return None


def _chosen(table: pd.DataFrame, name: str, column: str | None, source: str) -> str | None:
    """The column that the user names for a quantity, else the one that its name gives."""
    return _only(table, name, source) if column is None else _existing(table, column, OPTIONS[name], source)


def _only(table: pd.DataFrame, name: str, source: str) -> str | None:
    """The one column that holds `name`, under any of its usual names; two that differ are refused."""
    found = find_names(table, name)
    distinct = [
        column
        for k, column in enumerate(found)
        if not any(table[column].equals(table[earlier]) for earlier in found[:k])
    ]
    if len(distinct) > 1:
        remedy = f"choose with {OPTIONS[name]} COLUMN" if name in OPTIONS else "keep one"
        raise ValueError(
            f"{source} names {name} {len(distinct)} times, and they differ ({', '.join(distinct)}); {remedy}"
        )
    return distinct[0] if distinct else None


def _existing(table: pd.DataFrame, column: str, option: str, source: str, choices: tuple[str, ...] = ()) -> str:
    if column in table.columns:
        return column
    names = ", ".join(str(name) for name in table.columns)
    either = f"{', '.join(choices)} or a column" if choices else "a column"
    raise ValueError(f"{option} {column!r} is not a column of {source}; choose {either}: {names}")


def _no_column(name: str, table: pd.DataFrame, source: str, remedy: str = "") -> str:
    names = ", ".join(str(column) for column in table.columns if column != "source_row")
    understood = ", ".join(NAMES[name])
    alike = resembling(table, name)
    perhaps = f" (perhaps {', '.join(alike)})" if alike else ""
    return f"{source} has no {name} column ({understood} are understood); it has: {names}{remedy}{perhaps}"


def _unit_of(column: str) -> tuple[str, str] | None:
    """The unit but nats that a loss column's name states, and the way to nats."""
    text = "_".join(words_of(column))
    return next((found for pattern, found in OTHER_UNITS.items() if re.search(pattern, text)), None)


def _in_another_unit(table: pd.DataFrame) -> list[str]:
    return [str(name) for name in table.columns if _unit_of(str(name)) and table[name].notna().any()]


def _no_loss(table: pd.DataFrame, source: str) -> str:
    for column in table.columns:
        if found := _unit_of(str(column)):
            unit, remedy = found
            rows = f"rows 1 to {len(table)}"
            return f"{source} has no loss in nats: column {column!r} ({rows}) is in {unit}; {remedy}"
    return _no_column("loss", table, source, "; or name one with --loss-column COLUMN")
