"""Frontiers of the final losses: the runs that none of fewer parameters, tokens or FLOPs beats, and their power laws.

Kaplan et al. 2020, figure 1 and equations 1.1 to 1.3: the loss falls as (X_c / X)^alpha in parameters where data are
ample, in tokens where the model is large enough, and in compute where both are chosen well. Here a run's data are ample
with FACTOR times the tokens per parameter of the compute optimum, its size with 1 / FACTOR of them. Neither is endless,
so these exponents lie between those of a surface law and its compute optimum's.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from scaling.analysis.isoflop.power_law import power_law
from scaling.analysis.quantiles import t_quantile
from scaling.analysis.runs.budgets import TOLERANCE
from scaling.analysis.runs.observations import Observations
from scaling.analysis.runs.settings import SAME_CELL, cells_of
from scaling.analysis.schema.curves import FrontierEntry, FrontierLaw, FrontiersSection, FrontierVariable
from scaling.analysis.schema.fits import FitEntry
from scaling.analysis.schema.isoflop import IsoflopSection
from scaling.analysis.schema.numbers import finite, integers, numbers

Array = NDArray[np.float64]

FACTOR = 4.0  # from the optimal tokens per parameter (assumed; Kaplan et al. trained to convergence)
LEAST_POINTS = 3  # of a line with an interval
ALIKE: dict[FrontierVariable, float] = {"params": SAME_CELL, "tokens": SAME_CELL, "flops": TOLERANCE}


def measure(
    observations: Observations, study: IsoflopSection | None, fits: Sequence[FitEntry], level: float
) -> FrontiersSection | None:
    """The frontier against every quantity that the runs state; None where a loss is not positive."""
    table = observations.table
    if not (observations.column("loss") > 0).all():
        return None
    cells = table.groupby(cells_of(table))
    means = cells[["params", "tokens", "flops", "loss"]].mean().to_numpy(dtype=float)
    counts = np.array(cells["run_id"].nunique(), dtype=float)
    ratio, basis = _optimal_ratio(study, fits)
    by: dict[FrontierVariable, FrontierEntry] = {}
    for place, name in enumerate(ALIKE):
        if np.isfinite(means[:, place]).all():
            kept = _frontier(means[:, place], means[:, 3], ALIKE[name])
            by[name] = _entry(name, means[kept], counts[kept], ratio, level)
    return {"optimal_tokens_per_param": ratio, "basis": basis, "factor": FACTOR, "by": by} if by else None


def _frontier(x: Array, loss: Array, alike: float) -> NDArray[np.intp]:
    """Positions of the points that no point of as little x beats, by rising x; values that are alike are equal."""
    order = np.lexsort((loss, x))
    reach = np.searchsorted(x[order], x[order] * (1 + alike), side="right")
    lowest = np.minimum.accumulate(loss[order])[reach - 1]
    kept: NDArray[np.intp] = order[loss[order] <= lowest]
    return kept


def _entry(name: FrontierVariable, points: Array, counts: Array, ratio: float | None, level: float) -> FrontierEntry:
    params, tokens, _, loss = points.T
    x = points[:, list(ALIKE).index(name)]
    known = np.full(len(x), np.nan) if ratio is None else tokens / params / ratio
    ample = {"params": known >= FACTOR, "tokens": known <= 1 / FACTOR, "flops": np.full(len(x), True)}[name]
    law = _law(x[ample], loss[ample], level)
    short = {"params": "have ample data", "tokens": "are of ample size", "flops": "lie on the frontier"}[name]
    why = "" if law else f"a law needs {LEAST_POINTS} points, and {int(ample.sum())} {short}"
    if name != "flops" and ratio is None:
        why = "no compute optimum is known, so nothing states which runs count"
    return {
        "x": finite(x),
        "loss": finite(loss),
        "runs": integers(counts),
        "params": numbers(params),
        "tokens": numbers(tokens),
        "ample": [bool(one) for one in ample],
        "law": law,
        "why": why,
    }


def _law(x: Array, loss: Array, level: float) -> FrontierLaw | None:
    """The line in logs by least squares; None through fewer than LEAST_POINTS."""
    if len(x) < LEAST_POINTS:
        return None
    (slope,), (coefficient,) = power_law(x, loss[:, None])
    off = np.log(loss) - np.log(coefficient) - slope * np.log(x)
    free = len(x) - 2
    error = float(np.sqrt((off**2).sum() / free / ((np.log(x) - np.log(x).mean()) ** 2).sum()))
    half = error * float(t_quantile((1 + level) / 2, free))
    exponent = -float(slope)
    return {
        "exponent": exponent,
        "scale": float(np.exp(np.log(coefficient) / exponent)),
        "interval": {"low": exponent - half, "high": exponent + half, "level": level},
    }


def _optimal_ratio(study: IsoflopSection | None, fits: Sequence[FitEntry]) -> tuple[float | None, str]:
    """Tokens per parameter of the compute optimum: of the isoFLOP minima, else of a law amid its compute."""
    found = [] if study is None else [budget["estimates"].get(study["used"]) for budget in study["budgets"]]
    inside = [one["tokens_per_param"]["value"] for one in found if one and not one["edge"]]
    known = [value for value in inside if value is not None]
    if known:
        return float(np.median(known)), f"the median of {len(known)} isoFLOP minima"
    for entry in fits:
        if entry["status"] != "refused" and entry["optimum"]:
            ratios = [value for value in entry["optimum"]["tokens_per_param"]["value"] if value is not None]
            if ratios:
                return float(np.median(ratios)), f"the {entry['name']} law's optimum"
    return None, "no compute optimum is known"
