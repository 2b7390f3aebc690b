"""Diagnostics of a study: scaling collapse, gradient noise scale and seed noise, each with a verdict or a reason."""

from typing import Annotated, Literal, TypeAlias, TypedDict, final

from scaling.analysis.schema.intervals import Ends

BatchSide: TypeAlias = Literal["below", "above", "not told"]


@final
class Undiagnosed(TypedDict):
    """A diagnostic that these runs do not carry."""

    why: Annotated[str, "reason"]


class FloorEntry(Ends):
    """The irreducible loss that is taken off before curves are compared."""

    law: Annotated[str, "name of the fit that it comes from"]
    value: Annotated[float, "irreducible loss E, nats per token"]
    weak: Annotated[str, "reason why E is not identified; empty where it is"]


class CollapseRuns(TypedDict):
    """The compared runs, by budget, seeds of one model side by side: one entry a run."""

    run_id: Annotated[list[str], "the run"]
    params: Annotated[list[float], "parameters"]
    flops: Annotated[list[float], "training FLOPs"]
    model: Annotated[list[int], "number of the model, equal for its seeds"]
    normalised: Annotated[list[list[float | None]], "(L(x) - E) / (L(1) - E), one row a run, one column a share of it"]
    departure: Annotated[list[float], "root mean square distance from the median curve, a share of it"]
    mean_departure: Annotated[list[float], "mean distance from the median curve, a share of it"]


@final
class Collapse(TypedDict):
    """Loss curves of compute-optimal runs on normalised axes (Qiu et al. 2025)."""

    why: Annotated[Literal[""], "empty"]
    x: Annotated[list[float], "shares of a run's compute"]
    kind: Annotated[Literal["validation", "training"], "losses that were compared"]
    floor: Annotated[FloorEntry, "irreducible loss"]
    runs: Annotated[CollapseRuns, "the runs"]
    compared_from: Annotated[float, "share of a run from which on curves are compared"]
    spread: Annotated[list[float | None], "standard deviation over curves at each x, a share of their mean"]
    overall_spread: Annotated[float, "root mean square of the spread where curves are compared"]
    overall_at_floors: Annotated[list[float], "the same at the ends of the interval of E that lie below every loss"]
    seed_noise: Annotated[
        list[float | None] | None, "standard deviation over seeds of one model at each x; null without repeats"
    ]
    overall_seed_noise: Annotated[float | None, "root mean square of the seed noise; null without repeats"]
    seed_degrees_of_freedom: Annotated[int, "degrees of freedom behind the seed noise"]
    allowed: Annotated[float, "spread up to which curves are called collapsed"]
    cooldown_from: Annotated[float | None, "share of a run from which the learning rate falls; null where unrecorded"]
    holds: Annotated[bool, "whether the curves collapse"]
    tight: Annotated[bool, "whether they lie within the seed noise while the learning rate falls (supercollapse)"]
    departing: Annotated[list[int], "runs furthest from the rest, the furthest first, from 0"]
    verdict: Annotated[str, "verdict in a sentence"]


class NoiseScaleRuns(TypedDict):
    """The measured runs, one entry a run."""

    run_id: Annotated[list[str], "the run"]
    params: Annotated[list[float], "parameters"]
    flops: Annotated[list[float], "training FLOPs"]
    loss: Annotated[list[float], "loss, nats per token"]
    batch: Annotated[list[float], "batch, tokens"]
    measured_steps: Annotated[list[int], "steps whose gradient noise was measured"]
    value: Annotated[list[float | None], "noise scale, tokens; null where it is infinite"]
    low: Annotated[list[float | None], "lower end, tokens; null where it is infinite"]
    high: Annotated[list[float | None], "upper end, tokens; null where it is infinite"]
    side: Annotated[list[BatchSide], "side of the noise scale on which the batch lies"]
    extra_tokens: Annotated[list[float | None], "tokens that the batch costs over the fewest, a share of these"]


@final
class NoiseScale(TypedDict):
    """Each run's gradient noise scale beside its batch (McCandlish et al. 2018)."""

    why: Annotated[Literal[""], "empty"]
    level: Annotated[float, "confidence level of the intervals, a share"]
    runs: Annotated[NoiseScaleRuns, "the runs"]
    verdict: Annotated[str, "verdict in a sentence"]


class SeedCells(TypedDict):
    """The settings that were trained from several seeds, by size and compute: one entry a setting."""

    params: Annotated[list[float], "parameters"]
    flops: Annotated[list[float], "training FLOPs"]
    runs: Annotated[list[int], "seeds"]
    sd_nats: Annotated[list[float], "standard deviation of the final loss, nats"]
    low: Annotated[list[float | None], "lower end, nats"]
    high: Annotated[list[float | None], "upper end, nats"]


class PooledNoise(TypedDict):
    """The standard deviation between seeds, pooled over settings."""

    sd_nats: Annotated[float, "standard deviation of the final loss, nats"]
    low: Annotated[float, "lower end, nats"]
    high: Annotated[float, "upper end, nats"]
    degrees_of_freedom: Annotated[int, "degrees of freedom"]


class TrendLine(TypedDict):
    """The trend at the least and the largest size."""

    params: Annotated[list[float], "parameters"]
    sd_nats: Annotated[list[float | None], "standard deviation, nats"]


class SeedTrend(Ends):
    """The standard deviation between seeds as a power of size."""

    slope: Annotated[float | None, "exponent of N"]
    told: Annotated[bool, "whether the interval leaves 0 out"]
    line: Annotated[TrendLine, "the trend"]


@final
class SeedNoiseFound(TypedDict):
    """The scatter of the final loss between runs that differ in their seed alone."""

    why: Annotated[Literal[""], "empty"]
    cells: Annotated[SeedCells, "settings with repeats"]
    pooled: Annotated[PooledNoise, "pooled over settings"]
    trend: Annotated[SeedTrend | None, "trend with size; null where too few sizes or runs were repeated"]
    level: Annotated[float, "confidence level of the intervals, a share"]
    verdict: Annotated[str, "verdict in a sentence"]


class HealthSection(TypedDict):
    """The diagnostics."""

    collapse: Annotated[Collapse | Undiagnosed, "whether loss curves of all sizes have one shape"]
    noise_scale: Annotated[NoiseScale | Undiagnosed, "whether batches are near the gradient noise scale"]
    seed_noise: Annotated[SeedNoiseFound | Undiagnosed, "how far losses scatter between seeds"]
