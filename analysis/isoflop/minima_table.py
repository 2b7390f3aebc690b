"""A table of minima that others found, one row a budget with a standard error, and the weighted line through them.

The line is log params = log coefficient + exponent · log FLOPs, weighted by the inverse variances. Where the minima
scatter by more than their errors state, errors are multiplied by Birge's ratio (1932).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scaling.analysis.quantiles import chi2_tail, normal_quantile, t_quantile
from scaling.analysis.runs.column_names import NAMES
from scaling.analysis.runs.files import read_file

Array = NDArray[np.float64]

ERROR_NAMES = ("se", "std", "stderr", "std_err")


class MinimaLine(TypedDict):
    """The power law through a table of minima."""

    source: str
    n: int
    error_column: str
    exponent: float
    exponent_se: float
    low: float
    high: float
    level: float
    coefficient: float
    chi_squared: float
    degrees_of_freedom: int
    probability: float | None
    birge_ratio: float


@dataclass(frozen=True)
class MinimaTable:
    """Minima of N at budgets, by rising compute, with the standard errors of their natural logarithms."""

    source: str
    flops: Array  # (b,)
    params: Array  # (b,)
    log_se: Array  # (b,)
    error_column: str


def read_minima(path: Path, *, rename: Mapping[str, str] | None = None, where: str | None = None) -> MinimaTable | None:
    """Read a table of params, flops and the standard error of either's minimum; None for a table of another kind.

    A table with a loss holds runs and is none. An error of params (`params_se`) is divided by params; one of their
    natural logarithm (`log_params_se`) is not. ValueError names the row that is no positive number.
    """
    if not path.is_file() or path.suffix.lower() not in (".csv", ".tsv", ".json", ".jsonl", ".parquet"):
        return None
    table = read_file(path).table.rename(columns=dict(rename or {}))
    columns = {str(column).lower(): str(column) for column in table.columns}
    found = {
        name: next((columns[one.lower()] for one in NAMES[name] if one.lower() in columns), None) for name in NAMES
    }
    names = [
        (scale, f"{scale}{one}_{end}".lower())
        for scale in ("log_", "")
        for one in NAMES["params"]
        for end in ERROR_NAMES
    ]
    error = next(((scale, columns[name]) for scale, name in names if name in columns), None)
    params, flops = found["params"], found["flops"]
    if error is None or params is None or flops is None or found["loss"] is not None:
        return None
    try:
        table = table.query(where) if where else table
    except Exception as wrong:  # pandas raises what the query's text calls for
        raise ValueError(f"{path}: --where {where!r} is not a query of its columns ({wrong})") from None
    values = {name: pd.to_numeric(table[name], errors="coerce") for name in (params, flops, error[1])}
    for name, column in values.items():
        bad = table.index[~(np.isfinite(column) & (column > 0))]
        if len(bad):
            raise ValueError(
                f"{path}: row {int(bad[0]) + 1}: {name} is {table.loc[bad[0], name]}, not a positive number; leave "
                "the row out with --where"
            )
    if len(np.unique(values[flops])) < 2:
        raise ValueError(f"{path}: {len(table)} minima at fewer than 2 different {flops}; a line needs two")
    size, spent, se = (values[name].to_numpy(float) for name in (params, flops, error[1]))
    order = np.argsort(spent, kind="stable")
    return MinimaTable(str(path), spent[order], size[order], (se if error[0] else se / size)[order], error[1])


def fit_line(table: MinimaTable, level: float) -> MinimaLine:
    """The weighted line through minima, with the interval of its exponent."""
    x, y, weights = np.log(table.flops), np.log(table.params), table.log_se**-2
    centre = np.average(x, weights=weights)
    spread = float((weights * (x - centre) ** 2).sum())
    exponent = float((weights * (x - centre) * y).sum()) / spread
    start = float(np.average(y, weights=weights)) - exponent * centre
    squares, free = float((weights * (y - start - exponent * x) ** 2).sum()), len(x) - 2
    ratio = max(1.0, float(np.sqrt(squares / free))) if free else 1.0
    se = ratio / spread**0.5
    reach = se * float(t_quantile((1 + level) / 2, free) if ratio > 1 else normal_quantile((1 + level) / 2))
    return {
        "source": table.source,
        "n": len(x),
        "error_column": table.error_column,
        "exponent": exponent,
        "exponent_se": se,
        "low": exponent - reach,
        "high": exponent + reach,
        "level": level,
        "coefficient": float(np.exp(start)),
        "chi_squared": squares,
        "degrees_of_freedom": free,
        "probability": float(chi2_tail(squares, free)) if free else None,
        "birge_ratio": ratio,
    }


def describe_line(line: MinimaLine) -> str:
    """The line in words: the inference that the table holds minima first."""
    scatter = (
        "two minima leave nothing to judge the line by"
        if line["probability"] is None
        else f"chi² {line['chi_squared']:.3g} on {line['degrees_of_freedom']} (p = {line['probability']:.2g})"
    )
    wider = (
        f"; errors multiplied by {line['birge_ratio']:.3g}, as the minima scatter" if line["birge_ratio"] > 1 else ""
    )
    return (
        f"inferred: {line['source']} holds minima and no runs (no loss, but {line['error_column']})\n"
        f"N* = {line['coefficient']:.4g} C^{line['exponent']:.4f}, exponent {line['level']:.0%} "
        f"[{line['low']:.4g}, {line['high']:.4g}]: a line through {line['n']} minima weighted by their errors; "
        f"{scatter}{wider}"
    )
