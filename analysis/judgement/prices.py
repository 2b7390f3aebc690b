"""Prices of the runs that were profiled: loss against stored bytes, latency, memory and training FLOPs.

A run is on the front of a price when none that costs as little or less has a lower loss. Losses are those of one
objective on one text, since a study is analysed by what its losses measure (`comparable`). Seconds and memory of
different machines do not compare: only those of the machine that most runs were profiled on are used.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scaling.analysis.runs.observations import Observations
from scaling.analysis.schema.numbers import finite, numbers
from scaling.analysis.schema.prices import PriceMeasure, PriceName, PricesSection, WeightFormat

Array = NDArray[np.float64]
Series = Mapping[WeightFormat, tuple[Array, Array]]  # prices and losses, (r,) each, by the format of the weights

FORMATS: tuple[WeightFormat, ...] = ("fp32", "bf16", "int8")
LEAST_RUNS = 2
# Columns that `readers` takes from a profile, as measures with axis labels.
MEASURES: Mapping[PriceName, tuple[str, str]] = {
    "prefill": ("price.prefill_s", "prefill latency, seconds"),
    "token": ("price.token_s", "latency of a generated token, seconds"),
    "memory": ("price.memory_bytes", "peak memory at batch 1, bytes"),
}


def prices_section(observations: Observations) -> PricesSection | None:
    """The prices and their fronts; None where fewer than two runs were profiled."""
    table = observations.table
    if "price.machine" not in table.columns:
        return None
    table = table[table["price.machine"].notna()]
    if len(table) < LEAST_RUNS:
        return None
    machine = str(table["price.machine"].mode().iloc[0])
    here = (table["price.machine"] == machine).to_numpy()
    loss = table["loss"].to_numpy(float)
    nowhere = np.full(len(table), np.nan)
    measures: dict[PriceName, PriceMeasure] = {
        "bytes": _measure("stored weights, bytes", _bytes(table, loss)),
        "train_flops": _measure(observations.conventions["flops"], {"": (table["flops"].to_numpy(float), loss)}),
    }
    for name, (column, label) in MEASURES.items():
        values = np.where(here, table[column].to_numpy(float), nowhere)
        measures[name] = _measure(label, {"": (values, loss)})
    first = table[here].iloc[0]
    return {
        "run_id": table["run_id"].tolist(),
        "machine": machine,
        "elsewhere": int((~here).sum()),
        "words": {"prefill": first["price.prefill_words"], "token": first["price.token_words"]},
        "measures": {name: one for name, one in measures.items() if len(one["front"]["price"])},
    }


def _bytes(table: pd.DataFrame, loss: Array) -> Series:
    """Bytes in each format, with the loss of the weights in that format."""
    series = {}
    for name in FORMATS:
        left = table[f"price.{name}_loss"].to_numpy(float)
        own = loss if name == "fp32" else left
        series[name] = (table[f"price.{name}_bytes"].to_numpy(float), own)
    return series


def _measure(label: str, series: Series) -> PriceMeasure:
    """The prices with one front over all formats."""
    price = np.concatenate([one for one, _ in series.values()])
    loss = np.concatenate([one for _, one in series.values()])
    rows = front(price, loss)
    return {
        "label": label,
        "series": {name: {"price": numbers(one), "loss": numbers(own)} for name, (one, own) in series.items()},
        "front": {"price": finite(price[rows]), "loss": finite(loss[rows])},
    }


def front(price: Array, loss: Array) -> NDArray[np.intp]:
    """Positions on the Pareto front, cheapest first: lower in loss than all that cost as little or less."""
    known = np.flatnonzero(np.isfinite(price) & np.isfinite(loss))
    order = known[np.lexsort((loss[known], price[known]))]
    best = np.minimum.accumulate(np.concatenate([[np.inf], loss[order]]))[:-1]
    return order[loss[order] < best]
