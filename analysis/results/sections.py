"""Parts of a results document as plain JSON values, each from one measurement; `results` puts them together."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from analysis.fitting.fit import Loss
from analysis.isoflop import envelope as envelopes
from analysis.judgement.holdout import Score, Unscored
from analysis.laws.cost import Cost
from analysis.runs.budgets import BudgetRuns
from analysis.runs.observations import Observations

CURVE_POINTS = 120  # of one run's training curve
MOST_CURVES = 400


def plain(value: Any) -> Any:
    """Numbers, arrays and mappings as JSON values; what is not finite becomes null."""
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def loss_section(loss: Loss) -> dict[str, Any]:
    """How residuals were penalised."""
    return {"name": loss.name, "delta": loss.delta, "on": loss.on, "reduction": "sum"}


def observations_section(observations: Observations, budgets: Sequence[BudgetRuns]) -> dict[str, Any]:
    """The rows used, column by column, each with its budget's number (null: in none)."""
    number = np.full(len(observations.table), -1)
    for k, budget in enumerate(budgets):
        number[budget.rows] = k
    names = (
        "row",
        "run_id",
        "origin",
        "group",
        "params",
        "tokens",
        "flops",
        "loss",
        "weight",
        "unique_tokens",
        "predicted_tokens",
    )
    section = {name: observations.table[name].tolist() for name in names}
    return {**section, "budget": [int(k) if k >= 0 else None for k in number]}


def cost_section(observations: Observations) -> dict[str, Any]:
    """What the runs cost: the power law of their FLOPs, and how far from it and from C = 6 N D they lie."""
    cost = observations.cost
    ratio = observations.column("flops") / (observations.column("params") * observations.column("tokens"))
    least, most = float(ratio.min()), float(ratio.max())
    words = str(cost)
    if cost != Cost():
        words += (
            f", fitted to the runs' FLOPs (which scatter {cost.spread:.1%} about it): C / (N D) is not 6 here but "
            f"{least:.3g} to {most:.3g}; every optimum at a compute rests on it"
        )
    return {**asdict(cost), "ratio": {"least": least, "most": most}, "words": words}


def envelope_section(observations: Observations, *, seed: int, level: float, draws: int) -> dict[str, Any] | None:
    """The envelope of the training curves, or None without curves."""
    found = envelopes.measure(observations, seed=seed, level=level, draws=draws)
    if found is None:
        return None
    return {
        "flops": found.flops,
        "loss": found.loss,
        "params": found.params,
        "tokens": found.tokens,
        "run_id": found.run_ids,
        "interior": found.interior,
        "hull": found.hull,
        "laws": found.laws,
        "draws": found.draws,
        "warnings": found.warnings,
    }


def curves_section(observations: Observations) -> list[dict[str, Any]]:
    """Training curves, thinned evenly in log compute, smallest model first."""
    if observations.curves is None:
        return []
    sections: list[dict[str, Any]] = []
    for run_id, rows in observations.curves.groupby("run_id", sort=False):
        rows = rows[(rows["flops"] > 0) & (rows["tokens"] > 0)].sort_values("tokens")
        if rows.empty:
            continue
        log_flops = np.log(rows["flops"].to_numpy(float))
        wanted = np.linspace(log_flops[0], log_flops[-1], CURVE_POINTS)
        thin = np.unique(np.minimum(np.searchsorted(log_flops, wanted), len(rows) - 1))
        scored = np.flatnonzero(rows["val_loss"].notna().to_numpy())
        kept = rows.iloc[np.union1d(thin, scored[:: max(1, len(scored) // CURVE_POINTS)])]
        sections.append(
            {
                "run_id": str(run_id),
                "params": float(kept["params"].iloc[0]),
                "tokens": kept["tokens"].to_numpy(float),
                "flops": kept["flops"].to_numpy(float),
                "loss": kept["loss"].to_numpy(float),
                "val_loss": kept["val_loss"].to_numpy(float),
                "points_measured": len(rows),
            }
        )
    sections.sort(key=lambda section: section["params"])
    return sections[:: max(1, -(-len(sections) // MOST_CURVES))]


def holdout_section(
    scores: Sequence[Score], unscored: Sequence[Unscored], table: list[dict[str, Any]]
) -> dict[str, Any]:
    """The table of laws by what predicted best, and every single prediction behind it."""
    rows = [
        {
            "law": s.law,
            "quantity": s.quantity,
            "trained_to_flops": s.trained_to_flops,
            "tested_at_flops": s.tested_at_flops,
            "horizon_decades": s.horizon_decades,
            "n_trained": s.n_trained,
            "n_tested": s.n_tested,
            "bias": s.bias,
            "rmse": s.rmse,
            "coverage": s.covered / s.n_tested if np.isfinite(s.z).all() else None,
        }
        for s in scores
    ]
    return {
        "table": table,
        "predictions": rows,
        "unscored": [{"law": u.law, "trained_to_flops": u.trained_to_flops, "why": u.why} for u in unscored],
    }
