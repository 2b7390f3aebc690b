"""Seed noise: the scatter of final losses of runs that differ in their seed alone, and its trend with size.

Runs of equal size, tokens, FLOPs and settings are one cell; each cell of n runs gives n - 1 degrees of freedom. Losses
about their cell's mean are taken as normal, so that a pooled variance has a scaled chi-square distribution.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from scaling.analysis.quantiles import chi2_quantile, t_quantile
from scaling.analysis.runs.observations import Observations
from scaling.analysis.runs.repeats import cells
from scaling.analysis.schema.document import Errors
from scaling.analysis.schema.health import SeedNoiseFound, SeedTrend, Undiagnosed
from scaling.analysis.schema.numbers import finite, integers, number, numbers
from scaling.registry import choose

Array = NDArray[np.float64]

ERRORS = ("given", "seeds")  # choices of the runs' weights: the source's own, if any; by the measured seed noise
LEAST_SIZES = 3  # with repeats, for a trend
LEAST_FREEDOM = 6  # degrees of freedom, for a trend
SCORING_STEPS = 100
NO_REPEATS = (
    "no two runs differ in their seed alone; repeats measure it, e.g. `scaling train +sweep=SWEEP seed=0,1,2 -m` "
    "trains every cell of a sweep three times (raise budget.total_flops with it)"
)


@dataclass(frozen=True)
class Trend:
    """sd proportional to N^slope."""

    slope: float
    low: float
    high: float
    level: float  # log sd, nats, at the centre
    centre: float  # log N

    @property
    def told(self) -> bool:
        """Whether the interval of the slope leaves zero out."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class SeedNoise:
    """The standard deviation of the final loss between seeds, nats: of each cell (c,), and pooled over the cells."""

    rows: Sequence[NDArray[np.intp]]  # of each cell, into the observations
    params: Array
    sd: Array
    freedom: NDArray[np.intp]
    pooled_sd: float
    trend: Trend | None  # None where too few sizes or runs were repeated

    def at(self, params: Array) -> Array:
        """The standard deviation at these sizes: the trend's where told, held beyond the repeated sizes, else one."""
        if self.trend is None or not self.trend.told:
            return np.full(len(params), self.pooled_sd)
        log_params = np.log(np.clip(params, self.params.min(), self.params.max()))
        found: Array = np.exp(self.trend.level + self.trend.slope * (log_params - self.trend.centre))
        return found


def measure(observations: Observations, level: float) -> SeedNoise | None:
    """The seed noise of the cells with repeats, intervals at `level`; None without repeats, or when all are alike."""
    loss, cell = observations.column("loss"), cells(observations)
    first = ~observations.table.duplicated("run_id").to_numpy()  # a run's checkpoints are no repeats of it
    groups = [rows for number in np.unique(cell) if len(rows := np.flatnonzero((cell == number) & first)) > 1]
    if not groups:
        return None
    sizes, flops = observations.column("params"), observations.column("flops")
    groups.sort(key=lambda rows: (sizes[rows[0]], flops[rows[0]]))
    params = np.array([sizes[rows[0]] for rows in groups])
    freedom = np.array([len(rows) - 1 for rows in groups])
    sd = np.array([loss[rows].std(ddof=1) for rows in groups])
    pooled = float(np.sqrt((freedom * sd**2).sum() / freedom.sum()))
    if pooled == 0:
        return None
    return SeedNoise(groups, params, sd, freedom, pooled, _trend(np.log(params), sd**2, freedom, level))


def interval(sd: Array, freedom: NDArray[np.intp] | int, level: float) -> tuple[Array, Array]:
    """The ends of standard deviations' intervals by chi-square."""
    low, high = (np.sqrt(freedom / chi2_quantile((1 + side * level) / 2, freedom)) for side in (1, -1))
    return sd * low, sd * high


def _trend(log_params: Array, variance: Array, freedom: NDArray[np.intp], level: float) -> Trend | None:
    """Maximum likelihood of variances that are chi-square about a power law of N, by Fisher scoring.

    The interval is Student's, with the degrees of freedom left.
    """
    if len(np.unique(log_params)) < LEAST_SIZES or freedom.sum() < LEAST_FREEDOM:
        return None
    centre = float(np.average(log_params, weights=freedom))
    design = np.stack([np.ones(len(log_params)), log_params - centre], axis=1)
    spread = np.linalg.inv(design.T @ (design * freedom[:, None]) / 2)
    found = np.array([np.log(np.average(variance, weights=freedom)), 0.0])
    for _ in range(SCORING_STEPS):
        excess = np.minimum(variance * np.exp(-design @ found), 10.0) - 1  # a far outlier must not throw the step
        found = found + spread @ (design.T @ (freedom * excess)) / 2
    half = float(t_quantile((1 + level) / 2, freedom.sum() - 2)) * float(np.sqrt(spread[1, 1]))
    slope = float(found[1])
    return Trend(slope / 2, (slope - half) / 2, (slope + half) / 2, float(found[0]) / 2, centre)


def apply_errors(observations: Observations, errors: str, noise: SeedNoise | None) -> tuple[Observations, Errors, str]:
    """The observations weighted as asked, the weighting and its words.

    "seeds": by 1 / sd^2 of the seed noise at each run's size, mean 1; ValueError where no seed noise was measured.
    """
    choose("errors", dict.fromkeys(ERRORS), errors)
    if errors == "given":
        own = float(np.ptp(observations.column("weight"))) > 0
        way = "by the source's own weights or errors" if own else "equally"
        return observations, "given" if own else "equal", f"runs are weighed {way}"
    if noise is None:
        raise ValueError(f"errors 'seeds': {NO_REPEATS}")
    weight = noise.at(observations.column("params")) ** -2.0
    told = noise.trend if noise.trend is not None and noise.trend.told else None
    how = "one sd, since no trend with size is determined" if told is None else f"sd ~ N^{told.slope:.2f}"
    statement = f"runs are weighed by 1 / sd^2 of the measured seed noise ({how})"
    notes = tuple(note for note in observations.notes if not note.startswith("rows are weighted"))
    table = observations.table.assign(weight=weight / weight.mean())
    return replace(observations, table=table, notes=(*notes, statement)), "seeds", statement


def seed_noise_section(
    observations: Observations, noise: SeedNoise | None, level: float
) -> SeedNoiseFound | Undiagnosed:
    """The seed noise with its verdict, or the command that measures it."""
    if noise is None:
        return {"why": NO_REPEATS}
    ends = interval(noise.sd, noise.freedom, level)
    free = int(noise.freedom.sum())
    low, high = (float(end) for end in interval(np.array(noise.pooled_sd), free, level))
    grid = np.geomspace(noise.params.min(), noise.params.max(), 2)
    flops = observations.column("flops")
    return {
        "why": "",
        "cells": {
            "params": finite(noise.params),
            "flops": finite([flops[rows[0]] for rows in noise.rows]),
            "runs": integers(noise.freedom + 1),
            "sd_nats": finite(noise.sd),
            "low": numbers(ends[0]),
            "high": numbers(ends[1]),
        },
        "pooled": {"sd_nats": noise.pooled_sd, "low": low, "high": high, "degrees_of_freedom": free},
        "trend": None if noise.trend is None else _trend_section(noise.trend, grid),
        "level": level,
        "verdict": _verdict(noise, low, high, free, level),
    }


def _trend_section(trend: Trend, grid: Array) -> SeedTrend:
    line = np.exp(trend.level + trend.slope * (np.log(grid) - trend.centre))
    return {
        "slope": number(trend.slope),
        "low": number(trend.low),
        "high": number(trend.high),
        "told": trend.told,
        "line": {"params": finite(grid), "sd_nats": numbers(line)},
    }


def _verdict(noise: SeedNoise, low: float, high: float, free: int, level: float) -> str:
    statement = (
        f"Between seeds the final loss scatters by {noise.pooled_sd:.2g} nats ({level:.0%} interval {low:.2g} to "
        f"{high:.2g}; {free} degrees of freedom in {len(noise.rows)} repeated settings)"
    )
    trend = noise.trend
    if trend is None:
        return f"{statement}; too few sizes or runs were repeated for a trend with size."
    slope = f"N^{trend.slope:.2f} ({trend.low:.2f} to {trend.high:.2f})".replace("-", "−")
    if not trend.told:
        return f"{statement}, with no trend with size: {slope}."
    way = "grows" if trend.slope > 0 else "falls"
    return f"{statement}, and {way} with size as {slope}; `--errors seeds` weighs by it."
