"""The columns of a source: parameters, tokens, FLOPs and loss under their usual names, and the counting of each.

Nothing is guessed: a quantity under two names that differ, or parameters counted in several ways, must be chosen.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from scaling.analysis.runs.reading import Reading
from scaling.analysis.schema.document import Conventions

COUNTS_OF_PARAMS = {
    "non_embedding": "non-embedding parameters",
    "total": "parameters with embeddings",
    "non_embedding_head": "non-embedding parameters and head",
}
COUNTS_OF_FLOPS = ("exact", "6nd")
NAMES: Mapping[str, tuple[str, ...]] = {
    "params": ("params", "N", "n_params", "num_params", "parameters", "num_parameters", "model_size"),
    "tokens": ("tokens", "D", "n_tokens", "num_tokens", "train_tokens", "training_tokens"),
    "flops": ("flops", "C", "train_flops", "training_flops", "training_flop", "compute"),
    "loss": ("loss", "L", "val_loss", "final_loss", "eval_loss", "test_loss", "loss_nats", "val_loss_nats"),
    "weight": ("weight",),
    "loss_se": ("loss_se",),
    "unique_tokens": ("unique_tokens",),
    "budget": ("budget", "budget_flops"),
}
OTHER_UNITS = {  # pattern of a column's name -> its unit, the way to nats
    r"bits|bpb|bpc|bpt": ("bits", "multiply bits per token by ln 2 = 0.693147 and name it loss"),
    r"ppl|perplexity": ("perplexity", "take its natural logarithm and name it loss"),
}


@dataclass(frozen=True)
class Columns:
    """The source's columns by the schema's names, the words for each axis, and the assumptions."""

    found: Mapping[str, str]  # schema's name -> source's column
    conventions: Conventions
    notes: tuple[str, ...]


def find_columns(reading: Reading, params: str | None, flops: str | None) -> Columns:
    """Find every quantity's column, with the axis's words; ValueError for one that is missing or ambiguous."""
    table, source = reading.table, reading.source
    notes: list[str] = []
    params_column, params_words = _params(reading, params, notes)
    flops_column = _flops(reading, flops)
    loss_column = _only(table, "loss", source, "keep one")
    if loss_column is None:
        raise ValueError(_no_loss(table, source))
    tokens_column = _only(table, "tokens", source, "keep one")
    if tokens_column is None and flops_column is None:
        raise ValueError(_no_column("tokens", table, source, "; or give flops, and tokens = C / 6N"))
    found = {"params": params_column, "tokens": tokens_column, "flops": flops_column, "loss": loss_column}
    for name in ("weight", "loss_se", "unique_tokens", "budget"):
        found[name] = _only(table, name, source, "keep one")
    counted = _counted(table)
    found |= {f"params_{name}": f"params_{name}" for name in counted}
    words = reading.flops_words or f"column {flops_column!r}"
    short = words.partition(":")[0]
    if short != words:
        notes.append(f"training FLOPs are counted so: {words}")
    loss_words = "validation loss" if reading.counts_known else f"loss (column {loss_column!r})"
    conventions: Conventions = {
        "params": params_words,
        "tokens": "training tokens",
        "flops": f"training FLOPs ({short})",
        "loss": f"{loss_words}, nats per token",
    }
    present = {name: column for name, column in found.items() if column is not None}
    return Columns(present, conventions, tuple(notes))


def _counted(table: pd.DataFrame) -> list[str]:
    return [name for name in COUNTS_OF_PARAMS if f"params_{name}" in table.columns]


def _params(reading: Reading, params: str | None, notes: list[str]) -> tuple[str, str]:
    """The column of parameters, and words for their counting."""
    table, source, counted = reading.table, reading.source, _counted(reading.table)
    unsaid = "counting not stated"
    if params is not None and params not in COUNTS_OF_PARAMS:
        column = _existing(table, params, "--params", source, tuple(COUNTS_OF_PARAMS))
        return column, COUNTS_OF_PARAMS.get(column.removeprefix("params_"), f"parameters (column {column!r}; {unsaid})")
    if params is None and reading.counts_known and "non_embedding" in counted:
        params = "non_embedding"
    if params in counted:
        return f"params_{params}", COUNTS_OF_PARAMS[params]
    plain = _only(table, "params", source, "choose with --params COLUMN")
    if params is None:
        ways = ([plain] if plain else []) + [f"params_{name}" for name in counted]
        if len(ways) > 1:
            listed = ", ".join(ways)
            raise ValueError(f"{source} counts parameters in {len(ways)} ways ({listed}); choose with --params COLUMN")
        if not ways:
            raise ValueError(_no_column("params", table, source, "; or name one with --params COLUMN"))
        stated = ways[0].removeprefix("params_")
        return ways[0], COUNTS_OF_PARAMS.get(stated, f"parameters (column {ways[0]!r}; {unsaid})")
    if plain is None or counted:
        has = ", ".join(f"params_{name}" for name in counted) or "none of the conventions"
        raise ValueError(f"{source} has no column params_{params}; it has {has}; name a column with --params COLUMN")
    words = COUNTS_OF_PARAMS[params]
    notes.append(f"{source}: column {plain!r} is taken for {words}, as asked; the file itself does not say")
    return plain, words


def _flops(reading: Reading, flops: str | None) -> str | None:
    if flops is not None and flops not in COUNTS_OF_FLOPS:
        return _existing(reading.table, flops, "--flops", reading.source, COUNTS_OF_FLOPS)
    column = _only(reading.table, "flops", reading.source, "choose with --flops COLUMN")
    if flops == "exact" and column is None:
        raise ValueError(f"{reading.source} has no flops column for --flops exact; use --flops 6nd")
    return column


def _only(table: pd.DataFrame, name: str, source: str, remedy: str) -> str | None:
    """The one column that holds `name`, under any of its usual names; two that differ are refused."""
    found = [str(column) for column in table.columns if _understood(str(column), NAMES[name])]
    distinct = [
        column
        for k, column in enumerate(found)
        if not any(table[column].equals(table[earlier]) for earlier in found[:k])
    ]
    if len(distinct) > 1:
        raise ValueError(
            f"{source} names {name} {len(distinct)} times, and they differ ({', '.join(distinct)}); {remedy}"
        )
    return distinct[0] if distinct else None


def _understood(column: str, accepted: tuple[str, ...]) -> bool:
    return column in accepted or (len(column) > 1 and re.sub(r"[\s-]+", "_", column.strip().lower()) in accepted)


def _existing(table: pd.DataFrame, column: str, option: str, source: str, choices: tuple[str, ...]) -> str:
    if column in table.columns:
        return column
    names = ", ".join(str(name) for name in table.columns)
    raise ValueError(
        f"{option} {column!r} is not a column of {source}; choose {', '.join(choices)} or a column: {names}"
    )


def _no_column(name: str, table: pd.DataFrame, source: str, remedy: str = "") -> str:
    names = ", ".join(str(column) for column in table.columns)
    understood = ", ".join(NAMES[name])
    return f"{source} has no {name} column ({understood} are understood); it has: {names}{remedy}"


def _no_loss(table: pd.DataFrame, source: str) -> str:
    for pattern, (unit, remedy) in OTHER_UNITS.items():
        for column in table.columns:
            if re.search(pattern, str(column).lower()):
                rows = f"rows 1 to {len(table)}"
                return f"{source} has no loss in nats: column {column!r} ({rows}) is in {unit}; {remedy}"
    return _no_column("loss", table, source)
