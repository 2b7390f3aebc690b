"""The compute envelope: the lowest loss that any training curve reaches at each compute, and the size that reaches it.

Hoffmann et al. 2022, section 3.1 (approach 1): the minimum over runs in bins of log compute; beside it the lower convex
hull of those minima in log loss. The envelope compares runs in mid-run, which a learning-rate cooldown forbids.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scaling.analysis.isoflop.power_law import power_law
from scaling.analysis.runs.observations import Observations
from scaling.analysis.schema.curves import EnvelopeLaw, EnvelopeMethod
from scaling.analysis.schema.intervals import Interval
from scaling.analysis.schema.numbers import number

Array = NDArray[np.float64]
Power = tuple[float, float]  # exponent and coefficient

BINS_PER_DECADE = 12
LEAST_RUNS = 3  # runs that must be under way at a compute before the lowest of them means anything
DRAWS = 200
COLUMNS = ("run_id", "params", "tokens", "flops", "loss")  # of the curves
WARM_UP = 0.02  # of each run's tokens, left out (assumed: the learning rate is still rising there)


@dataclass(frozen=True)
class Envelope:
    """Bins of compute with at least LEAST_RUNS runs: the lowest loss, the run that reached it, and the run's tokens."""

    flops: Array  # (b,) bin centres
    loss: Array  # (b,) nats
    params: Array  # (b,)
    tokens: Array  # (b,)
    run_ids: tuple[str, ...]
    interior: NDArray[np.bool_]  # (b,) neither the smallest nor the largest model under way won
    hull: NDArray[np.intp]  # bins on the lower convex hull of log loss against log compute
    laws: Mapping[EnvelopeMethod, EnvelopeLaw]
    draws: int
    warnings: tuple[str, ...]


def measure(observations: Observations, *, seed: int, level: float, draws: int = DRAWS) -> Envelope | None:
    """The envelope of the training curves, intervals by resampling runs; None without enough curves."""
    if observations.curves is None:
        return None
    curves = _past_warm_up(observations.curves)
    if curves["run_id"].nunique() < LEAST_RUNS:
        return None
    names, params, edges, loss, tokens = _bin(curves)
    enough = np.isfinite(loss).sum(axis=0) >= LEAST_RUNS
    if enough.sum() < LEAST_RUNS:
        return None
    centres = np.exp((edges[1:] + edges[:-1]) / 2)[enough]
    loss, tokens = loss[:, enough], tokens[:, enough]
    winner = np.nanargmin(loss, axis=0)
    under_way = np.where(np.isfinite(loss), params[:, None], np.nan)
    interior = (params[winner] > np.nanmin(under_way, axis=0)) & (params[winner] < np.nanmax(under_way, axis=0))
    bins = np.arange(len(centres))
    rng = np.random.default_rng(seed)
    drawn = [
        _laws(centres, loss[picked], params[picked]) for picked in rng.integers(len(names), size=(draws, len(names)))
    ]
    laws = {name: _stated(name, value, drawn, level) for name, value in _laws(centres, loss, params).items()}
    return Envelope(
        flops=centres,
        loss=loss[winner, bins],
        params=params[winner],
        tokens=tokens[winner, bins],
        run_ids=tuple(names[k] for k in winner),
        interior=interior,
        hull=lower_hull(np.log(centres), np.log(loss[winner, bins])),
        laws=laws,
        draws=draws,
        warnings=tuple(cooldown_warnings(observations)),
    )


def cooldown_warnings(observations: Observations) -> list[str]:
    """Reasons why points of these runs in mid-run do not compare, in words; empty where they do."""
    table = observations.table
    if "recipe.schedule.kind" not in table.columns:
        return [
            "envelope: the learning-rate schedule is not recorded; if it cools down, points in mid-run lie too high"
        ]
    kind = table["recipe.schedule.kind"]
    cooled = kind == "cosine"
    if "recipe.schedule.cooldown_steps" in table.columns:
        cooled |= pd.to_numeric(table["recipe.schedule.cooldown_steps"], errors="coerce").fillna(0) > 0
    if not cooled.any():
        return []
    kinds = ", ".join(sorted({str(name) for name in kind[cooled]}))
    return [
        f"envelope: {cooled.sum()} of {len(table)} runs cool their learning rate down ({kinds}); points "
        "before the end of such a run lie above what a run of that length reaches, so only ends are "
        "comparable: trust the isoFLOP optima"
    ]


def _past_warm_up(curves: pd.DataFrame) -> pd.DataFrame:
    """The rows with a loss at a compute, without each run's warm-up."""
    usable = (curves["flops"] > 0) & (curves["loss"] > 0) & np.isfinite(curves["loss"])
    tokens = curves["tokens"].where(usable)
    last = tokens.groupby(curves["run_id"], sort=False, observed=True).transform("max")
    kept = (tokens >= WARM_UP * last).to_numpy()
    return pd.DataFrame({name: curves[name].array[kept] for name in COLUMNS}, copy=False)


def _bin(curves: pd.DataFrame) -> tuple[list[str], Array, Array, Array, Array]:
    """Mean loss and tokens by run and bin of log compute (runs, bins), NaN where a run has no point."""
    log_flops = np.log(curves["flops"].to_numpy(dtype=float))
    decades = (log_flops.max() - log_flops.min()) / np.log(10)
    count = max(int(np.ceil(decades * BINS_PER_DECADE)), 3)
    edges = np.linspace(log_flops.min(), log_flops.max() + 1e-9, count + 1)
    run_of, names = curves["run_id"].factorize()
    cell = np.clip(np.searchsorted(edges[:-1], log_flops, side="right") - 1, 0, None)
    cell += run_of * count
    shape = (len(names), count)
    n = np.bincount(cell, minlength=len(names) * count).astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        loss = (np.bincount(cell, curves["loss"].to_numpy(float), len(n)) / n).reshape(shape)
        tokens = (np.bincount(cell, curves["tokens"].to_numpy(float), len(n)) / n).reshape(shape)
    params = curves["params"].groupby(run_of).first().to_numpy(float)
    return [str(name) for name in names], params, edges, loss, tokens


def _laws(flops: Array, loss: Array, params: Array) -> dict[EnvelopeMethod, Power]:
    """Exponent and coefficient of params against compute over interior bins, and over the hull's."""
    seen = np.isfinite(loss).any(axis=0)
    flops, loss = flops[seen], loss[:, seen]
    winner = np.nanargmin(loss, axis=0)
    under_way = np.where(np.isfinite(loss), params[:, None], np.nan)
    size = params[winner]
    interior = (size > np.nanmin(under_way, axis=0)) & (size < np.nanmax(under_way, axis=0))
    hull = lower_hull(np.log(flops), np.log(loss[winner, np.arange(len(flops))]))
    within: dict[EnvelopeMethod, NDArray[np.intp]] = {"binned": np.flatnonzero(interior), "hull": hull[interior[hull]]}
    found: dict[EnvelopeMethod, Power] = {}
    for name, bins in within.items():
        if len(bins) >= 2:
            exponent, coefficient = power_law(flops[bins], size[bins, None])
            found[name] = (float(exponent[0]), float(coefficient[0]))
    return found


def _stated(name: EnvelopeMethod, value: Power, drawn: list[dict[EnvelopeMethod, Power]], level: float) -> EnvelopeLaw:
    exponents = np.array([draw[name][0] for draw in drawn if name in draw])
    interval: Interval | None = None
    if len(exponents) >= 0.95 * max(len(drawn), 1) and len(exponents):
        low, high = np.quantile(exponents, [(1 - level) / 2, (1 + level) / 2])
        interval = {"low": number(low), "high": number(high), "level": level, "method": "bootstrap over runs"}
    return {"exponent": value[0], "coefficient": value[1], "interval": interval}


def lower_hull(x: Array, y: Array) -> NDArray[np.intp]:
    """Indices of the lower convex hull of points sorted by x (Andrew's monotone chain)."""
    chain: list[int] = []
    for k in range(len(x)):
        while len(chain) >= 2:
            i, j = chain[-2], chain[-1]
            if (x[j] - x[i]) * (y[k] - y[i]) - (y[j] - y[i]) * (x[k] - x[i]) > 0:
                break
            chain.pop()
        chain.append(k)
    return np.array(chain, dtype=np.intp)
