"""The gradient noise scale of every run against its batch, and the tokens that the batch costs.

McCandlish et al. 2018 (arXiv 1812.06162): with G the gradient and Sigma its covariance over single tokens, the noise
scale tr(Sigma) / |G|^2 is the batch, in tokens, at which noise and signal are equal. Where it is the critical batch, a
run at batch B needs 1 + B / B_noise times the fewest tokens that reach its loss, and 1 + B_noise / B times the fewest
steps (section 2). It is plain gradient descent's: an adaptive optimizer's critical batch need only be near it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scaling.analysis.runs.observations import Observations
from scaling.analysis.schema.health import BatchSide, NoiseScale, NoiseScaleRuns, Undiagnosed
from scaling.analysis.schema.numbers import numbers
from scaling.analysis.words import bounded, count

Array = NDArray[np.float64]

COLUMNS = ("grad_square", "grad_trace", "noise_steps")  # of a training curve
RUN_COLUMNS = ("run_id", "params", "flops", "loss", "tokens", "predicted_tokens")
KIND, COOLDOWN = "recipe.schedule.kind", "recipe.schedule.cooldown_steps"
LEAST_MEASURED = 8  # rows of a run with a measurement, for a bootstrap to see how they scatter
DRAWS = 1000
AT_ONCE = 256  # runs whose draws are held at once


@dataclass(frozen=True)
class Measured:
    """One run's batch and noise scale with its interval, in training tokens; an end may be infinite."""

    run_id: str
    params: float
    flops: float
    loss: float
    batch: float
    steps: int  # whose gradients were measured
    value: float
    low: float
    high: float

    @property
    def side(self) -> BatchSide:
        """The side of the noise scale on which the batch lies."""
        return "below" if self.batch < self.low else "above" if self.batch > self.high else "not told"

    @property
    def extra_tokens(self) -> float:
        """Tokens that the batch costs over the fewest, as a share of these."""
        return self.batch / self.value if self.value > 0 else np.inf


def noise_scale_section(observations: Observations, *, seed: int, level: float) -> NoiseScale | Undiagnosed:
    """Every run's noise scale and batch, or the reason why no noise scale could be stated.

    Both are in the training tokens of the table, whatever share of them is predicted.
    """
    curves = observations.curves
    if curves is None:
        return {"why": "the source holds no training curves, only final losses"}
    if not set(COLUMNS) <= set(curves.columns) or not (curves["noise_steps"] > 0).any():
        return {
            "why": "no run logged the noise of its gradients: it takes batches of two sequences or more, and runs "
            "trained since it is measured"
        }
    table = observations.table.drop_duplicates("run_id")
    measured_runs = _measure(window(curves, table), table, seed, level)
    if not measured_runs:
        return {
            "why": f"no run has {LEAST_MEASURED} measurements between half way and its cooldown; every 64th step "
            "is measured, so it takes runs of some 1,300 steps"
        }
    verdict = _verdict(measured_runs, len(table) - len(measured_runs))
    return {"why": "", "level": level, "runs": _columns(measured_runs), "verdict": verdict}


def _columns(runs: Sequence[Measured]) -> NoiseScaleRuns:
    return {
        "run_id": [run.run_id for run in runs],
        "params": [run.params for run in runs],
        "flops": [run.flops for run in runs],
        "loss": [run.loss for run in runs],
        "batch": [run.batch for run in runs],
        "measured_steps": [run.steps for run in runs],
        "value": numbers([run.value for run in runs]),
        "low": numbers([run.low for run in runs]),
        "high": numbers([run.high for run in runs]),
        "side": [run.side for run in runs],
        "extra_tokens": numbers([run.extra_tokens for run in runs]),
    }


def window(curves: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The measured rows of every run in the later half of its steps before the cooldown, of all where none is known."""
    cooldown = pd.Series(0.0, index=table["run_id"])
    if {KIND, COOLDOWN} <= set(table.columns):
        cooldown[:] = table[COOLDOWN].where(table[KIND] == "wsd", 0.0).fillna(0.0).to_numpy(float)
    steps, run_ids = curves["step"], curves["run_id"].astype("category")
    cooldown_of = cooldown.reindex(run_ids.cat.categories).to_numpy()[run_ids.cat.codes]  # missing: a run of no table
    end = steps.groupby(run_ids, sort=False, observed=True).transform("max") - cooldown_of
    return curves[(curves["noise_steps"] > 0) & (steps > end / 2) & (steps <= end)]


def scale_with_interval(
    square: Array, trace: Array, steps: Array, seed: int, level: float
) -> tuple[Array, Array, Array]:
    """tr(Sigma) / |G|^2 of runs, and its interval by a bootstrap over measurements (…, n); an end may be infinite.

    The ratio is that of the means over measurements. Runs of equally many measurements share the resamples, so that the
    interval of a run does not depend on the runs beside it.
    """
    n = square.shape[-1]
    times_drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=DRAWS).T
    value = _ratio((steps * trace).sum(axis=-1), (steps * square).sum(axis=-1))
    draws = _ratio((steps * trace) @ times_drawn, (steps * square) @ times_drawn)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=-1, method="closest_observation")
    return value, low, high


def _ratio(above: Array, below: Array) -> Array:
    """The ratio of tr(Sigma) to |G|^2; infinite where |G|^2 is not positive."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Array = np.where(below > 0, np.maximum(above, 0.0) / below, np.inf)
    return found


def _measure(measured: pd.DataFrame, table: pd.DataFrame, seed: int, level: float) -> list[Measured]:
    """The runs of the table that have enough measurements, in its order."""
    columns = {name: measured[name].to_numpy(float) for name in (*COLUMNS, "tokens", "step")}
    rows_of = measured.groupby("run_id", sort=False, observed=True).indices
    by_count: dict[int, list[str]] = {}
    for run_id in table["run_id"]:
        if (n := len(rows_of.get(run_id, ()))) >= LEAST_MEASURED:
            by_count.setdefault(n, []).append(run_id)
    intervals: dict[str, tuple[float, float, float]] = {}
    for run_ids in by_count.values():
        for some in (run_ids[k : k + AT_ONCE] for k in range(0, len(run_ids), AT_ONCE)):
            rows = np.array([rows_of[run_id] for run_id in some])
            square, trace, steps = (columns[name][rows] for name in COLUMNS)
            found = scale_with_interval(square, trace, steps, seed, level)
            intervals |= zip(some, zip(*(ends.tolist() for ends in found), strict=True), strict=True)
    runs = zip(table["run_id"], table[list(RUN_COLUMNS)].itertuples(index=False), strict=True)
    return [
        _in_tokens(run, {name: values[rows_of[run_id]] for name, values in columns.items()}, intervals[run_id])
        for run_id, run in runs
        if run_id in intervals
    ]


def _in_tokens(run: Any, measured: Mapping[str, Array], scale: tuple[float, float, float]) -> Measured:
    """The noise scale of a run from that in predicted tokens."""
    predicted = run.predicted_tokens
    read = run.tokens / predicted if np.isfinite(predicted) and predicted > 0 else 1.0  # tokens a predicted one
    value, low, high = (read * one for one in scale)
    return Measured(
        run_id=run.run_id,
        params=float(run.params),
        flops=float(run.flops),
        loss=float(run.loss),
        batch=float(measured["tokens"][-1] / measured["step"][-1]),
        steps=int(measured["noise_steps"].sum()),
        value=value,
        low=low,
        high=high,
    )


def _verdict(runs: Sequence[Measured], unmeasured: int) -> str:
    sides, extra = [run.side for run in runs], np.array([run.extra_tokens for run in runs])
    below, above, untold = (sides.count(side) for side in ("below", "above", "not told"))
    typical, worst = float(np.median(extra)), runs[int(np.argmax(extra))]
    cost = (
        f"the median run takes {bounded(1 + typical)} times the fewest tokens that reach its loss"
        if np.isfinite(typical)
        else "for the median run the gradient may be noise alone"
    )
    most = (
        f", the worst, {worst.run_id} ({count(worst.params)} parameters, batch of "
        f"{count(worst.batch)} tokens against {count(worst.value)}), {bounded(1 + worst.extra_tokens)} times"
        if np.isfinite(worst.extra_tokens) and worst.extra_tokens > 0 and len(sides) > 1
        else ""
    )
    lead = "Batches lie below the critical batch" if below > len(sides) / 2 else "Batches lie above the critical batch"
    if max(below, above) <= len(sides) / 2:
        lead = "Batches lie on both sides of the critical batch, or too near it to decide"
    parts = [(below, "below"), (above, "above"), (untold, "too near to decide"), (unmeasured, "not measured")]
    counted = ", ".join(f"{n} {side}" for n, side in parts if n)
    return f"{lead} ({counted}, by the measured noise scale): {cost}{most}."
