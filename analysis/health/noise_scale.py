"""The gradient noise scale of every run against its batch, and what that batch costs in data.

McCandlish et al. 2018 (arXiv 1812.06162): with G the gradient and Sigma its covariance over single tokens, the noise
scale tr(Sigma) / |G|^2 is the batch, in tokens, at which noise and signal are equal. Where it is the critical batch, a
run at batch B needs 1 + B / B_noise times the fewest tokens that reach its loss, and 1 + B_noise / B times the fewest
steps (section 2). It is plain gradient descent's: an adaptive optimizer's critical batch need only be near it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.runs.observations import Observations
from analysis.words import count

Array = NDArray[np.float64]

COLUMNS = (
    "grad_square",
    "grad_trace",
    "noise_steps",
)  # of a training curve
LEAST_MEASURED = 8  # rows of a run with a measurement, for a bootstrap to see how they scatter
DRAWS = 1000


def noise_scale_section(observations: Observations, *, seed: int, level: float) -> dict[str, Any]:
    """Every run's noise scale and batch, in the schema of `results`, or why none could be stated.

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
    rng = np.random.default_rng(seed)
    table = observations.table.drop_duplicates("run_id")
    by_run = dict(list(curves.groupby("run_id", sort=False)))
    rows = [
        _measure(run, measured, rng, level)
        for _, run in table.iterrows()
        if run["run_id"] in by_run and len(measured := window(by_run[run["run_id"]], run)) >= LEAST_MEASURED
    ]
    if not rows:
        return {
            "why": f"no run has {LEAST_MEASURED} measurements between half way and its cooldown; every 64th step "
            "is measured, so it takes runs of some 1,300 steps"
        }
    runs: dict[str, Any] = {name: [row[name] for row in rows] for name in rows[0]}
    return {"why": "", "level": level, "runs": runs, "verdict": _verdict(runs, len(table) - len(rows))}


def window(curve: pd.DataFrame, run: "pd.Series[Any]") -> pd.DataFrame:
    """The measured rows of a run in the later half of its steps before the cooldown; of all where none is recorded."""
    steps = float(curve["step"].max())
    cooldown = run.get("recipe.schedule.cooldown_steps", 0.0) if run.get("recipe.schedule.kind") == "wsd" else 0.0
    end = steps - (float(cooldown) if pd.notna(cooldown) else 0.0)
    return curve[(curve["noise_steps"] > 0) & (curve["step"] > end / 2) & (curve["step"] <= end)]


def ratio(square: Array, trace: Array, steps: Array) -> Array:
    """tr(Sigma) / |G|^2 from estimates (…, n) of both: the ratio of their means; infinite without a positive |G|^2."""
    above, below = (steps * trace).sum(axis=-1), (steps * square).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Array = np.where(below > 0, np.maximum(above, 0.0) / below, np.inf)
    return found


def scale_with_interval(
    square: Array, trace: Array, steps: Array, rng: np.random.Generator, level: float
) -> tuple[float, float, float]:
    """The ratio and its interval by a bootstrap over the measurements (n,); an end may be infinite."""
    picked = rng.integers(len(square), size=(DRAWS, len(square)))
    draws = ratio(square[picked], trace[picked], steps[picked])
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], method="closest_observation")
    return float(ratio(square, trace, steps)), float(low), float(high)


def _measure(run: "pd.Series[Any]", measured: pd.DataFrame, rng: np.random.Generator, level: float) -> dict[str, Any]:
    square, trace, steps = (measured[name].to_numpy(float) for name in COLUMNS)
    predicted = run["predicted_tokens"]
    read = run["tokens"] / predicted if np.isfinite(predicted) and predicted > 0 else 1.0  # tokens a predicted one
    value, low, high = (read * one for one in scale_with_interval(square, trace, steps, rng, level))
    last = measured.iloc[-1]
    batch = float(last["tokens"] / last["step"])
    return {
        "run_id": run["run_id"],
        "params": float(run["params"]),
        "flops": float(run["flops"]),
        "loss": float(run["loss"]),
        "batch": batch,
        "measured_steps": int(steps.sum()),
        "value": value,
        "low": low,
        "high": high,
        "side": "below" if batch < low else "above" if batch > high else "not told",
        "extra_tokens": batch / value if value > 0 else np.inf,
    }


def _verdict(runs: Mapping[str, Any], unmeasured: int) -> str:
    sides, extra = runs["side"], np.array(runs["extra_tokens"])
    below, above, untold = (sides.count(side) for side in ("below", "above", "not told"))
    typical, worst = float(np.median(extra)), int(np.argmax(extra))
    cost = (
        f"the median run takes {1 + typical:.2f} times the fewest tokens that reach its loss"
        if np.isfinite(typical)
        else "for the median run no gradient was told from noise"
    )
    most = (
        f", the worst, {runs['run_id'][worst]} ({count(runs['params'][worst])} parameters, batch of "
        f"{count(runs['batch'][worst])} tokens against {count(runs['value'][worst])}), {1 + extra[worst]:.2f} times"
        if np.isfinite(extra[worst]) and extra[worst] > 0 and len(sides) > 1
        else ""
    )
    lead = "Batches lie below the critical batch" if below > len(sides) / 2 else "Batches lie above the critical batch"
    if max(below, above) <= len(sides) / 2:
        lead = "Batches lie on both sides of the critical batch, or too near it to tell"
    parts = [(below, "below"), (above, "above"), (untold, "too near to tell"), (unmeasured, "not measured")]
    counted = ", ".join(f"{n} {said}" for n, said in parts if n)
    return f"{lead} ({counted}, by the measured noise scale): {cost}{most}."
