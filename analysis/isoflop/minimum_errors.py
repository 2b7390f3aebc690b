"""Standard errors of a budget's quoted minimum by the noise of its losses, without redraws."""

import numpy as np

from scaling.analysis.isoflop.curve_models import GRID, parabola
from scaling.analysis.isoflop.local_sizes import EXACT
from scaling.analysis.isoflop.minima import Array, Noise, minima_of
from scaling.analysis.runs.budgets import BudgetRuns
from scaling.analysis.schema.isoflop import CurveModel


def standard_errors(budget: BudgetRuns, followed: BudgetRuns, noise: Noise, model: CurveModel) -> tuple[float, float]:
    """Return the errors of log params and of the loss, nats, at a minimum.

    Infinite where noise may take the minimum away, and where none was measured.

    Each loss is moved by its noise up and down in turn: half the minimum's move is one run's share, and shares add in
    quadrature. Runs of one size and weight have equal shares, of which one is reckoned. `followed` holds the runs that
    a parabola goes through.
    """
    if noise.degrees_of_freedom < 1 or noise.loss_sd_nats <= EXACT:
        return float("inf"), float("inf")
    kinds = np.stack([budget.log_params, budget.weights])
    _, first, runs = np.unique(kinds, axis=1, return_index=True, return_counts=True)
    steps = np.zeros((len(budget.loss), len(first)))
    steps[first, np.arange(len(first))] = noise.loss_sd_nats / np.sqrt(budget.weights[first])
    losses = budget.loss[:, None] + np.concatenate([steps, -steps], axis=1)
    if model == "parabola":
        part = losses[np.isin(budget.rows, followed.rows)]
        moved, rounding = parabola(followed.log_params, part, followed.weights), 0.0
    else:
        moved = minima_of(budget, followed, losses)[model]
        rounding = float(np.ptp(budget.log_params)) / (GRID - 1) / np.sqrt(12)  # splines' minima lie on a grid

    def error(values: Array) -> float:
        up, down = np.split(values, 2)
        size = float(np.sqrt((runs * ((up - down) / 2) ** 2).sum()))
        return size if np.isfinite(size) else float("inf")

    return float(np.hypot(error(moved.log_params), rounding)), error(moved.loss)
