"""One run, or one set of weights, that a table holds twice: losses that agree to seven digits.

Published revisions of a run are known to hold the weights of another. Two trainings never agree so closely.
"""

import numpy as np
import pandas as pd

from scaling.analysis.runs.row_checks import RowChecks

DIGITS = 7  # significant digits that a loss must have, and share
SPAN = 1.5  # times the tokens, from where two losses that a figure's colours round to one are none
MOST_ROWS = 200  # of one size: among more, two losses may agree by chance
MOST_NAMED = 3


def exclude_repeated_losses(judge: RowChecks, doubts: list[str]) -> None:
    """Take out repeats of one set of weights at other token counts, and runs that repeat another's losses."""
    table = judge.table
    if table["params"].isna().any() or table["tokens"].isna().any():
        return
    alike = table.assign(exact=_precise(table["loss"]))
    alike = alike[alike["exact"].notna()]
    alike = alike[alike.duplicated(["params", "exact"], keep=False)]  # few, where the table may hold millions
    if alike.empty:
        return
    if "run_id" in table.columns:
        _exclude_repeated_runs(judge, alike[alike["run_id"].notna()], doubts)
    _exclude_repeated_weights(judge, alike[alike.index.isin(judge.table.index)], doubts)


def _precise(loss: "pd.Series[float]") -> "pd.Series[float]":
    """Losses to DIGITS digits, NaN where the source gives fewer."""
    values = loss.to_numpy(dtype=float)
    sizes = np.log10(np.abs(np.where(values == 0, 1.0, values)))
    unit = 10.0 ** (np.floor(sizes) - (DIGITS - 1))
    fewer = np.isclose(np.round(values / (10 * unit)) * 10 * unit, values, rtol=1e-12, atol=0)
    return pd.Series(np.where(fewer, np.nan, np.round(values / unit) * unit), index=loss.index)


def _exclude_repeated_weights(judge: RowChecks, alike: pd.DataFrame, doubts: list[str]) -> None:
    table = judge.table
    sizes = table[table["params"].isin(alike["params"].unique())].groupby("params")
    if (sizes["loss"].nunique() == 1).all():
        return  # a loss that tokens do not move is a law, and no fault
    tokens = alike.groupby(["params", "exact"], sort=False)["tokens"]
    many = alike["params"].map(sizes.size()) > MOST_ROWS
    far = (tokens.transform("max") > SPAN * tokens.transform("min")) & ~many
    repeated = alike[(tokens.transform("nunique") > 2 + many.astype(int)) | far]
    if repeated.empty:
        return
    kept = repeated.groupby(["params", "exact"], sort=False)["tokens"].transform("idxmax")
    out = kept[kept != kept.index]
    doubts.append(
        f"one set of weights at several token counts? Losses of one size agree to {DIGITS} digits in "
        f"{_named(repeated)}: of each such set only the row of most tokens is kept"
    )
    row = pd.Series(table.loc[out, "row"].to_numpy(), index=out.index).astype("Int64").reindex(table.index)
    reason = f"the same loss as row {{value}} to {DIGITS} digits at another token count"
    judge.exclude(pd.Series(table.index.isin(out.index), index=table.index), reason, row)


def _exclude_repeated_runs(judge: RowChecks, alike: pd.DataFrame, doubts: list[str]) -> None:
    """Take out the later of two runs of one size that share the losses of several token counts, or all they have."""
    cell = ["params", "tokens", "exact"]
    again, earlier = alike[alike.duplicated(cell)], alike.drop_duplicates(cell)
    pairs = again.merge(earlier, on=cell, suffixes=("", "_before"))
    pairs = pairs[pairs["run_id"] != pairs["run_id_before"]]
    if pairs.empty:
        return
    table = judge.table
    rows = table.loc[table["run_id"].isin({*pairs["run_id"], *pairs["run_id_before"]})].groupby("run_id").size()
    counts = pairs.groupby(["run_id", "run_id_before"], sort=False)["tokens"].nunique()
    twins = dict(
        counts.index[[n > 1 or rows[a] == 1 == rows[b] for (a, b), n in zip(counts.index, counts, strict=True)]]
    )
    if not twins:
        return
    listed = list(twins.items())
    named = ", ".join(f"{run} repeats {before}" for run, before in listed[:MOST_NAMED])
    more = f" and {len(listed) - MOST_NAMED} more" if len(listed) > MOST_NAMED else ""
    doubts.append(f"the same run twice: {named}{more}, with losses equal to {DIGITS} digits; only the first is kept")
    judge.exclude(table["run_id"].isin(twins), "the same losses as run {value}", table["run_id"].map(twins))


def _named(rows: pd.DataFrame) -> str:
    named = [f"row {row}" for row in rows["row"].head(MOST_NAMED)]
    if "run_id" in rows.columns:
        named = [f"{run} ({row})" for run, row in zip(rows["run_id"], named, strict=False)]
    more = f" and {len(rows) - MOST_NAMED} more" if len(rows) > MOST_NAMED else ""
    return ", ".join(named) + more
