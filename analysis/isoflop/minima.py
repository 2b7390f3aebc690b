"""IsoFLOP optima: the model size with the lowest loss at each compute budget, by several curve models side by side.

Hoffmann et al. 2022, section 3.2 (approach 2): runs of one budget trace loss against log params; the curve's minimum is
the budget's optimum. Intervals come from redraws of the losses: another set of the same runs would have measured these.
Resampled runs would leave budgets of 5 points without a parabola, so sizes stay and losses are redrawn.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from scaling.analysis.isoflop.curve_models import CURVES, LEAST_SIZES_OF, Minima, parabola, polynomial
from scaling.analysis.runs.budgets import LEAST_SIZES, LEAST_UNNAMED, TOLERANCE, BudgetRuns, group_budgets
from scaling.analysis.runs.observations import Observations
from scaling.analysis.runs.repeats import deviations
from scaling.analysis.schema.intervals import Quantity
from scaling.analysis.schema.isoflop import CurveModel, MinimumEntry, NoiseMethod
from scaling.analysis.schema.numbers import number

Array = NDArray[np.float64]

MANY_SIZES = 10  # from here a budget's own residuals stand for its noise
LEAST_MINIMA = 0.95  # share of the draws that must have a minimum for its interval to be stated


@dataclass(frozen=True)
class Noise:
    """The noise of one loss: how losses are redrawn, its standard deviation and the degrees of freedom behind that."""

    method: NoiseMethod
    words: str
    loss_sd_nats: float
    degrees_of_freedom: int
    seeds: Array = field(default_factory=lambda: np.zeros(0))  # every repeat's deviation from its cell, rescaled


@dataclass(frozen=True)
class IsoFlop:
    """Budgets, the minima of every curve model at each, and the noise behind their draws."""

    budgets: tuple[BudgetRuns, ...]
    minima: tuple[Mapping[CurveModel, Minima], ...]  # one mapping a budget
    noise: Noise
    draws: int
    outside: int  # runs that belong to no budget


def measure(observations: Observations, *, draws: int, seed: int, tolerance: float = TOLERANCE) -> IsoFlop:
    """Group runs into budgets; find every budget's minimum by every curve model, of the data and of `draws` redraws.

    ValueError where no budget has enough sizes.
    """
    budgets, outside = group_budgets(observations, tolerance)
    if not budgets:
        raise ValueError(
            f"no compute budget has {LEAST_UNNAMED} or more model sizes within ±{tolerance:.0%}, "
            f"nor {LEAST_SIZES} with a budget column: no isoFLOP optima"
        )
    rng = np.random.default_rng(seed)
    noise = choose_noise(budgets)
    draws = draws if noise.degrees_of_freedom > 0 else 0
    # One spread a redraw for all budgets, since it was pooled over them; drawn from its scaled inverse chi-square
    # posterior, so that few degrees of freedom give Student's wider tails.
    free = max(noise.degrees_of_freedom, 1)
    spread = np.sqrt(free / rng.chisquare(free, size=draws))
    minima = []
    for budget in budgets:
        losses = draw_losses(budget, noise, draws, rng)
        if losses.shape[1] > 1:
            losses[:, 1:] = budget.loss[:, None] + (losses[:, 1:] - budget.loss[:, None]) * spread
        curves = {
            name: find for name, find in CURVES.items() if len(np.unique(budget.log_params)) >= LEAST_SIZES_OF[name]
        }
        minima.append({name: find(budget.log_params, losses, budget.weights) for name, find in curves.items()})
    return IsoFlop(budgets, tuple(minima), noise, draws, outside)


def choose_noise(budgets: tuple[BudgetRuns, ...]) -> Noise:
    """The noise of seeds about their cells' means where there are repeats, else of residuals about the parabolas.

    Residuals of a budget with many sizes get random signs (wild bootstrap: Wu 1986); those of budgets with few are
    pooled to one standard deviation.
    """
    repeats = [_repeats(budget) for budget in budgets]
    seeds = np.concatenate([scaled for scaled, _ in repeats])
    free = sum(own for _, own in repeats)
    cells = sum(len(np.unique(budget.cells)) for budget in budgets)
    if free >= max(cells / 2, 3):
        words = f"seeds' deviations from the mean of their size and budget, resampled ({free} degrees of freedom)"
        return Noise("seeds", words, float(np.sqrt((seeds**2).mean())), free, seeds)
    if all(len(np.unique(budget.clusters)) <= 3 for budget in budgets):  # checkpoints of a run are no more runs
        return Noise("parametric", "no intervals: every parabola passes through all its points", 0.0, 0)
    squares = sum(float((_residuals(budget) ** 2).sum()) for budget in budgets)
    free = sum(len(budget.rows) - 3 for budget in budgets)
    sd = float(np.sqrt(max(squares, 0.0) / max(free, 1)))
    shared = any(len(np.unique(budget.clusters)) < len(budget.clusters) for budget in budgets)
    if shared or min(len(budget.rows) for budget in budgets) >= MANY_SIZES:
        words = f"wild bootstrap: residuals of each budget's parabola with random signs ({free} degrees of freedom)"
        return Noise("wild", words, sd, free)
    words = (
        f"parametric bootstrap: too few runs a budget to resample them; normal noise of {sd:.2g} nats, "
        f"the residual spread about the parabolas pooled over {len(budgets)} budgets "
        f"({free} degrees of freedom)"
    )
    return Noise("parametric", words, sd, free)


def _residuals(budget: BudgetRuns) -> Array:
    fitted = parabola(budget.log_params, budget.loss[:, None], budget.weights).curve(budget.log_params)
    residuals: Array = (budget.loss - fitted) * np.sqrt(budget.weights)
    return residuals


def draw_losses(budget: BudgetRuns, noise: Noise, draws: int, rng: np.random.Generator) -> Array:
    """The measured losses, then redraws of them: (n, 1 + draws), nats."""
    n = len(budget.rows)
    if draws == 0 or noise.degrees_of_freedom < 1:
        return budget.loss[:, None]
    if noise.method == "seeds":
        errors = rng.choice(noise.seeds, size=(n, draws))
    elif noise.method == "wild":
        x = np.vander(budget.log_params - budget.log_params.mean(), 3) * np.sqrt(budget.weights)[:, None]
        leverage = np.einsum("ij,ji->i", x, np.linalg.pinv(x))
        scaled = _residuals(budget) / np.sqrt(np.maximum(1 - leverage, 1e-3) * budget.weights)
        _, cluster = np.unique(budget.clusters, return_inverse=True)
        errors = scaled[:, None] * rng.choice([-1.0, 1.0], size=(cluster.max() + 1, draws))[cluster]
    else:
        errors = noise.loss_sd_nats * rng.standard_normal((n, draws)) / np.sqrt(budget.weights)[:, None]
    return np.concatenate([budget.loss[:, None], budget.loss[:, None] + errors], axis=1)


def _repeats(budget: BudgetRuns) -> tuple[Array, int]:
    """Losses of repeated sizes less their size's mean, scaled to the spread of single ones; their degrees of freedom.

    The deviations of all sizes and budgets are resampled together: two or three of one size do not determine its own.
    """
    _, number, counts = np.unique(budget.cells, return_inverse=True, return_counts=True)
    off, free = deviations(budget.loss, budget.cells)
    count = counts[number].astype(float)
    repeated = count > 1
    scaled: Array = off[repeated] * np.sqrt(count[repeated] / (count[repeated] - 1))
    return scaled, free


def vertex_variance(budget: BudgetRuns, noise: Noise) -> float:
    """Variance of the log params at a parabola's vertex, to first order in the noise; infinite without a minimum."""
    x = budget.log_params - budget.log_params.mean()
    _, b, a = polynomial(x, budget.loss[:, None], budget.weights, 2)[:, 0]
    if a <= 0:
        return float("inf")
    design = np.vander(x, 3, increasing=True) * np.sqrt(budget.weights)[:, None]
    slope = np.array([0.0, -1 / (2 * a), b / (2 * a**2)])
    return float(noise.loss_sd_nats**2 * slope @ np.linalg.pinv(design.T @ design) @ slope)


def edge(budget: BudgetRuns, minimum: Minima) -> str:
    """The reason to distrust a budget's minimum, in words; empty where the minimum lies inside the sizes tried."""
    x, low, high = minimum.log_params[0], budget.log_params[0], budget.log_params[-1]
    least, most = np.exp(low), np.exp(high)
    sizes, cell = np.unique(budget.log_params, return_inverse=True)
    means = np.bincount(cell, budget.loss) / np.bincount(cell)
    at = f"at {budget.flops:.3g} FLOPs"
    if not np.isfinite(x):
        return f"{at} the loss has no minimum between the sizes tried ({least:.3g} to {most:.3g} parameters)"
    smallest, largest = (
        f"the smallest model ({least:.3g} parameters)",
        f"the largest model ({most:.3g} parameters)",
    )
    if x <= low or x >= high:
        end, remedy = (smallest, "smaller") if x <= low else (largest, "larger")
        return f"{at} the minimum is on the grid's edge: {end}; try {remedy} ones"
    if means.argmin() in (0, len(sizes) - 1):
        end, remedy = (smallest, "smaller") if means.argmin() == 0 else (largest, "larger")
        return f"{at} the lowest loss is on the grid's edge: {end}; try {remedy} ones"
    return ""


def percentiles(draws: Array, level: float) -> tuple[Array, Array]:
    """Percentile interval of every row of `draws` (m, r); NaN where fewer than LEAST_MINIMA of a row are numbers."""
    known = np.isfinite(draws).mean(axis=1) >= LEAST_MINIMA
    ends = np.full((2, len(draws)), np.nan)
    if known.any():
        ends[:, known] = np.nanquantile(draws[known], [(1 - level) / 2, (1 + level) / 2], axis=1)
    return ends[0], ends[1]


def as_draws(budget: BudgetRuns, minimum: Minima) -> dict[Quantity, Array]:
    """Params, tokens, loss and tokens per parameter at the minimum, (1 + draws,) each."""
    params, tokens = np.exp(minimum.log_params), budget.tokens_at(minimum.log_params)
    return {"params": params, "tokens": tokens, "loss": minimum.loss, "tokens_per_param": tokens / params}


def stated(values: Array, level: float) -> MinimumEntry:
    """A value with its percentile interval over the redraws, (1 + draws,); none where too many lack a minimum."""
    draws = values[1:]
    found = float(np.isfinite(draws).mean()) if len(draws) else 0.0
    value = number(values[0])
    if value is None or found < LEAST_MINIMA:
        return {"value": value, "low": None, "high": None, "draws_with_minimum": found}
    (low,), (high,) = percentiles(draws[None, :], level)
    return {"value": value, "low": number(low), "high": number(high), "draws_with_minimum": found}
