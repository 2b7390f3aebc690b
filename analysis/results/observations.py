"""The observations in a results document: rows, ranges and cost, and the compute over which laws are drawn."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scaling.analysis.laws.cost import Cost
from scaling.analysis.runs.budgets import BudgetRuns
from scaling.analysis.runs.observations import Observations
from scaling.analysis.schema.document import CostSection, Excluded, ObservationColumns, Range
from scaling.analysis.schema.numbers import finite, integers, numbers
from scaling.analysis.words import share_text

Array = NDArray[np.float64]

GRID_POINTS = 81
GRID_DECADES_BEYOND = 3.0  # the reach of the bands past the largest compute
TARGET_BEYOND = 10.0  # the decision's compute, unless given, as a multiple of the largest measured, rounded


@dataclass(frozen=True)
class ComputeGrid:
    """The compute of the decision, and the computes over which laws are drawn (g,), in FLOPs; none without FLOPs."""

    target: float  # NaN without FLOPs
    flops: Array


def compute_grid(observations: Observations, target_flops: float | None) -> ComputeGrid:
    """The grid from the least measured compute to past the largest and the target."""
    flops = observations.column("flops")
    if "flops" in observations.missing:
        return ComputeGrid(np.nan, np.array([]))
    target = float(f"{flops.max() * TARGET_BEYOND:.3g}") if target_flops is None else target_flops
    return ComputeGrid(
        target, np.geomspace(flops.min(), max(flops.max() * 10**GRID_DECADES_BEYOND, target), GRID_POINTS)
    )


def refuse_equal_losses(observations: Observations) -> None:
    """ValueError where every loss is the same."""
    losses = observations.column("loss")
    if np.ptp(losses) <= 1e-12 * losses.max():
        raise ValueError(f"every loss is the same, {losses[0]:g} (n = {len(losses)}): there is nothing to fit")


def observations_section(observations: Observations, budgets: Sequence[BudgetRuns]) -> ObservationColumns:
    """The rows that the fits use, column by column, each with its budget's number."""
    table = observations.table
    number: list[int | None] = [None] * len(table)
    for k, budget in enumerate(budgets):
        for row in budget.rows:
            number[row] = k
    return {
        "row": integers(table["row"]),
        "run_id": table["run_id"].tolist(),
        "origin": table["origin"].tolist(),
        "group": table["group"].tolist(),
        "params": numbers(table["params"]),
        "tokens": numbers(table["tokens"]),
        "flops": numbers(table["flops"]),
        "loss": finite(table["loss"]),
        "weight": finite(table["weight"]),
        "unique_tokens": numbers(table["unique_tokens"]),
        "predicted_tokens": numbers(table["predicted_tokens"]),
        "budget": number,
    }


def notes_section(observations: Observations) -> list[str]:
    """The assumptions, but for those among the inferences, which stand at the top."""
    inferred = observations.inferred
    return [note for note in observations.notes if not any(line.endswith(f": {note}") for line in inferred)]


def excluded_section(observations: Observations) -> list[Excluded]:
    """The rows and runs that no fit uses, each with its reason."""
    return [{"row": one.row, "run_id": one.run_id, "reason": one.reason} for one in observations.excluded]


def range_section(observations: Observations) -> Range:
    """The least and the largest value of every quantity."""
    params, tokens = observations.column("params"), observations.column("tokens")
    return {
        "params": _ends(params),
        "tokens": _ends(tokens),
        "flops": _ends(observations.column("flops")),
        "loss": _ends(observations.column("loss")),
        "tokens_per_param": _ends(tokens / params),
    }


def _ends(values: Array) -> list[float]:
    return [float(values.min()), float(values.max())] if np.isfinite(values).all() else []


def cost_section(observations: Observations) -> CostSection:
    """The cost of the runs, and the distance of their FLOPs from it and from C = 6 N D."""
    cost = observations.cost
    ratio = observations.column("flops") / (observations.column("params") * observations.column("tokens"))
    least, most = _ends(ratio) or (cost.k, cost.k)
    words = str(cost)
    if cost != Cost():
        words += (
            f", fitted to the runs' FLOPs (which scatter {share_text(cost.spread)} about it): C / (N D) is not 6 here "
            f"but {least:.3g} to {most:.3g}; every optimum at a compute rests on it"
        )
    section: CostSection = {
        "k": cost.k,
        "gamma": cost.gamma,
        "spread": cost.spread,
        "ratio": {"least": least, "most": most},
        "words": words,
    }
    if cost.limit:
        section["limit"] = cost.limit
    return section
