"""Pools of runs that a word parts: a text column, such as an architecture or a domain, that explains their residuals.

A smooth surface of log N and log D, of second or third order, is fitted to the log losses by least squares, once alone
and once with an offset, and slopes where the runs suffice, for each value of the column. Runs whose residual variance
these explain for the most part follow laws of their own.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scaling.analysis.quantiles import f_tail
from scaling.analysis.runs.observations import Observations
from scaling.analysis.runs.settings import number_settings, text_settings

Array = NDArray[np.float64]

MOST = 0.5  # share of the residual variance, per degree of freedom, that the values explain
SURE = 1e-3  # probability of as large a share by chance
LEAST_SCATTER = 2e-3  # of the log loss: below this the law would be good enough without the column
LEAST_FREE = 3  # degrees of freedom that must be left
LEAST_FOR_SLOPES = 6  # runs of every value
CUBIC_FROM = 40  # runs, for a surface of third order


def refuse_pooled_words(observations: Observations) -> None:
    """ValueError where a text column explains most of the residual, unless the user asked for one pool."""
    if observations.pooled:
        return
    table = observations.table
    for name in text_settings(table):
        share = explained_share(table, table[name].astype(str).to_numpy())
        if share is not None:
            values = table[name].value_counts()
            first = ", ".join(f"{value} ({count} rows)" for value, count in values.head(3).items())
            more = f" and {len(values) - 3} more" if len(values) > 3 else ""
            raise ValueError(
                f"{', '.join(observations.source)}: column {name!r} explains {share:.0%} of the scatter about one law "
                f"({first}{more}): its values follow laws of their own; --by {name!r} fits each apart, --where keeps "
                "some, --best-of-cell keeps each cell's best, --pool fits one law all the same"
            )


def explaining_warnings(observations: Observations) -> list[str]:
    """Lines on the settings in numbers that explain most of the residual."""
    table = observations.table
    shares = {name: explained_share(table, table[name].astype(str).to_numpy()) for name in number_settings(table)}
    return [
        f"column {name!r} explains {share:.0%} of the scatter about one law; --by {name!r} fits each value apart"
        for name, share in shares.items()
        if share is not None
    ]


def explained_share(table: pd.DataFrame, values: NDArray[np.object_]) -> float | None:
    """The share of residual variance that a column's values (n,) explain; None where it is no more than half."""
    quantities = [np.log(table[name].to_numpy(dtype=float)) for name in ("params", "tokens", "flops")]
    axes = [axis for axis in quantities if np.isfinite(axis).all()][:2]
    if not axes or any(_separable(axis, values) for axis in quantities if np.isfinite(axis).all()):
        return None  # a name of the size, or of another part of the grid
    losses = table["loss"].to_numpy(dtype=float)
    y = np.log(losses) if (losses > 0).all() else losses / np.abs(losses).max()
    _, group = np.unique(values, return_inverse=True)
    surface = _surface(axes, order=3 if len(y) >= CUBIC_FROM else 2)
    offsets = (group[:, None] == np.arange(1, group.max() + 1)).astype(float)
    slopes = [offsets * (axis - axis.mean())[:, None] for axis in axes]
    alone, free = _residual(surface, y)
    sloped = np.bincount(group).min() >= LEAST_FOR_SLOPES
    apart, free_apart = _residual(np.hstack([surface, offsets, *(slopes if sloped else ())]), y)
    if free_apart < LEAST_FREE or alone / free < LEAST_SCATTER**2:
        return None
    share = 1 - (apart / free_apart) / (alone / free)
    ratio = ((alone - apart) / max(free - free_apart, 1)) / (apart / free_apart) if apart > 0 else np.inf
    chance = float(f_tail(ratio, max(free - free_apart, 1), free_apart))
    return float(share) if share > MOST and chance < SURE else None


def _surface(axes: list[Array], order: int) -> Array:
    """Products of powers of the axes, brought to unit range, up to an order: (n, terms)."""
    scaled = [(axis - axis.mean()) / max(float(np.ptp(axis)), 1e-12) for axis in axes]
    if len(scaled) == 1:
        return np.stack([scaled[0] ** k for k in range(order + 1)], axis=1)
    return np.stack([scaled[0] ** i * scaled[1] ** j for i in range(order + 1) for j in range(order + 1 - i)], axis=1)


def _residual(design: Array, y: Array) -> tuple[float, int]:
    """The sum of squares about the least-squares fit, and the degrees of freedom left."""
    found, _, rank, _ = np.linalg.lstsq(design, y, rcond=1e-9)
    return float(((y - design @ found) ** 2).sum()), len(y) - int(rank)


def _separable(axis: Array, values: NDArray[np.object_]) -> bool:
    """Whether the values lie beside each other along an axis, no two in one range."""
    frame = (
        pd.DataFrame({"axis": axis, "value": values}).groupby("value")["axis"].agg(["min", "max"]).sort_values("min")
    )
    return bool((frame["max"].to_numpy()[:-1] < frame["min"].to_numpy()[1:]).all())
