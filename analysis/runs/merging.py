"""Sources merged into one table: a run that two of them hold is used once, and each quantity is counted in one way."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from scaling.analysis.runs.observation_table import MAX_ROWS, Observations
from scaling.analysis.runs.reading import Exclusion
from scaling.analysis.schema.document import Conventions


def merge(parts: Sequence[Observations], chosen: Mapping[str, str | None]) -> Observations:
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
        _as_one(histories) if histories else None,
        damaged=tuple(dict.fromkeys(one for part in parts for one in part.damaged)),
        inferred=tuple(dict.fromkeys(one for part in parts for one in part.inferred)),
        doubts=tuple(dict.fromkeys(one for part in parts for one in part.doubts)),
        missing={name: why for part in parts for name, why in part.missing.items()},
        pooled=any(part.pooled for part in parts),
        renamed={own: name for part in parts for own, name in part.renamed.items()},
    )


def _as_one(histories: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The training curves of several sources, rows that two of them hold once."""
    curves = pd.concat([one.astype({"run_id": object}) for one in histories], ignore_index=True).drop_duplicates()
    return curves.astype({"run_id": "category"})


def _one_convention(name: str, words: Sequence[str], chosen: Mapping[str, str | None]) -> str:
    """The sources' words for one axis; ValueError where they count a quantity differently and none was chosen."""
    distinct = list(dict.fromkeys(words))
    alike = {re.sub(r"column '[^']*'", "column", text) for text in distinct}
    if name in chosen and chosen[name] is None and len(alike) > 1:
        raise ValueError(f"the sources count {name} differently ({'; '.join(distinct)}); say which with --{name}")
    return "; or ".join(distinct)
