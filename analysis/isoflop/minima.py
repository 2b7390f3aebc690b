"""IsoFLOP optima: the model size with the lowest loss at each compute budget, by several curve models side by side.

Hoffmann et al. 2022, section 3.2 (approach 2): runs of one budget trace loss against log params; the curve's minimum is
the budget's optimum. Intervals come from redraws of the losses: another set of the same runs would have measured these.
Resampled runs would leave budgets of 5 points without a parabola, so sizes stay and losses are redrawn.

A parabola through all sizes is quoted as long as noise hides its misfit. Elsewhere the mean of a local cubic's minimum
and an Akima spline's is: of published exponents, theirs lie nearest.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from scaling.analysis.isoflop.curve_models import (
    LEAST_SIZES_OF_AKIMA,
    LEAST_SIZES_OF_CUBIC,
    Minima,
    akima,
    cubic,
    mean,
    parabola,
    polynomial,
)
from scaling.analysis.isoflop.local_sizes import LackOfFit, lack_of_fit, near, pure_error, residual_squares, residuals
from scaling.analysis.runs.budgets import LEAST_SIZES, LEAST_UNNAMED, TOLERANCE, BudgetRuns, group_budgets
from scaling.analysis.runs.observations import Observations
from scaling.analysis.runs.repeats import deviations
from scaling.analysis.schema.intervals import Quantity
from scaling.analysis.schema.isoflop import CurveModel, MinimumEntry, NoiseMethod
from scaling.analysis.schema.numbers import number

Array = NDArray[np.float64]

MANY_SIZES = 10  # from here a budget's own residuals stand for its noise
LEAST_FREE = 5  # degrees of freedom from which a budget has a spread of its own
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
    followed: tuple[BudgetRuns, ...]  # the runs of each that its parabola goes through: all, or the nearest sizes
    minima: tuple[Mapping[CurveModel, Minima], ...]  # one mapping a budget
    noise: Noise
    draws: int
    outside: int  # runs that belong to no budget
    misfit: LackOfFit  # of parabolas through all sizes

    @property
    def quoted(self) -> CurveModel:
        """The curve model of the runs alone whose minima are quoted."""
        return "mean" if self.misfit.rejected else "parabola"


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
    return measure_budgets(budgets, outside, draws=draws, seed=seed)


def measure_budgets(budgets: tuple[BudgetRuns, ...], outside: int = 0, *, draws: int, seed: int) -> IsoFlop:
    """Find the minimum of each of these budgets by every curve model, of the data and of `draws` redraws."""
    repeated = has_repeats(budgets)
    misfit = lack_of_fit(budgets, repeated=repeated)
    followed = tuple(near(budget) for budget in budgets) if misfit.rejected else budgets
    degree = 3 if misfit.rejected else 2
    rng = np.random.default_rng(seed)
    noise = choose_noise(budgets, followed, degree, repeated=repeated)
    draws = draws if noise.degrees_of_freedom > 0 else 0
    # The spread is drawn from its scaled inverse chi-square posterior, so that few degrees of freedom give Student's
    # wider tails: once a redraw where it was pooled over budgets, apart where residuals of each budget are its own.
    free = max(noise.degrees_of_freedom, 1)
    pooled = np.sqrt(free / rng.chisquare(free, size=draws))
    minima = []
    for budget, part in zip(budgets, followed, strict=True):
        losses = draw_losses(budget, noise, draws, rng, part, degree)
        own = len(part.rows) - degree - 1
        alone = noise.method == "wild" and own >= LEAST_FREE
        spread = np.sqrt(own / rng.chisquare(own, size=draws)) if alone else pooled
        if losses.shape[1] > 1:
            losses[:, 1:] = budget.loss[:, None] + (losses[:, 1:] - budget.loss[:, None]) * spread
        minima.append(minima_of(budget, part, losses))
    widened = minima if misfit.rejected else _with_doubt(budgets, minima, rng)
    return IsoFlop(budgets, followed, tuple(widened), noise, draws, outside, misfit)


def _with_doubt(
    budgets: Sequence[BudgetRuns], minima: Sequence[dict[CurveModel, Minima]], rng: np.random.Generator
) -> list[dict[CurveModel, Minima]]:
    """Minima whose parabolas' draws share an offset of the size of their mean distance to local curves.

    A parabola through all sizes is off by much the same factor at every budget where losses rise faster on one side of
    the minimum, long before its misfit shows in noisy losses. The distance holds the local curves' own noise too, so
    that it is more often too large than too small.
    """
    distances = [
        one["cubic" if len(np.unique(budget.log_params)) >= LEAST_SIZES_OF_CUBIC else "mean"].log_params[0]
        - one["parabola"].log_params[0]
        for budget, one in zip(budgets, minima, strict=True)
    ]
    known = [distance for distance in distances if np.isfinite(distance)]
    size = abs(float(np.mean(known))) if known else 0.0
    shift = size * rng.standard_normal(len(minima[0]["parabola"].log_params))
    shift[0] = 0.0  # the minimum of the data itself
    parabolas = [replace(one["parabola"], log_params=one["parabola"].log_params + shift) for one in minima]
    return [one | {"parabola": own} for one, own in zip(minima, parabolas, strict=True)]


def minima_of(budget: BudgetRuns, followed: BudgetRuns, losses: Array) -> dict[CurveModel, Minima]:
    """The minima of every curve model that the budget has sizes for, of losses (n, 1 + draws)."""

    def through(find: Callable[[Array, Array, Array], Minima], part: BudgetRuns) -> Minima:
        return find(part.log_params, losses[np.isin(budget.rows, part.rows)], part.weights)

    sizes = len(np.unique(budget.log_params))
    found: dict[CurveModel, Minima] = {
        "parabola": through(parabola, followed),
        "cubic": through(cubic if sizes >= LEAST_SIZES_OF_CUBIC else parabola, near(budget)),
    }
    if sizes >= LEAST_SIZES_OF_AKIMA:
        found["akima"] = through(akima, budget)
    found["mean"] = mean([found[name] for name in ("cubic", "akima") if name in found])
    return found


def has_repeats(budgets: tuple[BudgetRuns, ...]) -> bool:
    """Whether repeats measure the noise: a degree of freedom for every second cell, and three."""
    cells = sum(len(np.unique(budget.cells)) for budget in budgets)
    return pure_error(budgets)[1] >= max(cells / 2, 3)


def choose_noise(
    budgets: tuple[BudgetRuns, ...], followed: tuple[BudgetRuns, ...], degree: int, *, repeated: bool
) -> Noise:
    """The noise of seeds about their cells' means where there are repeats, else of residuals about local polynomials.

    Residuals of a budget with many sizes get random signs (wild bootstrap: Wu 1986); those of budgets with few are
    pooled to one standard deviation.
    """
    if repeated:
        repeats = [_repeats(budget) for budget in budgets]
        seeds, free = np.concatenate([scaled for scaled, _ in repeats]), sum(own for _, own in repeats)
        words = f"seeds' deviations from the mean of their size and budget, resampled ({free} degrees of freedom)"
        return Noise("seeds", words, float(np.sqrt((seeds**2).mean())), free, seeds)
    if all(len(np.unique(budget.clusters)) <= 3 for budget in budgets):  # checkpoints of a run are no more runs
        return Noise("parametric", "no intervals: every parabola passes through all its points", 0.0, 0)
    squares, free = residual_squares(followed, degree)
    sd = float(np.sqrt(max(squares, 0.0) / max(free, 1)))
    curves = "parabolas" if degree == 2 else "cubics of the sizes near each minimum"
    shared = any(len(np.unique(budget.clusters)) < len(budget.clusters) for budget in budgets)
    if shared or (degree == 2 and min(len(budget.rows) for budget in budgets) >= MANY_SIZES):
        words = f"wild bootstrap: residuals of the {curves} with random signs ({free} degrees of freedom)"
        return Noise("wild", words, sd, free)
    words = (
        f"parametric bootstrap: too few runs a budget to resample them; normal noise of {sd:.2g} nats, "
        f"the residual spread about the {curves} pooled over {len(budgets)} budgets "
        f"({free} degrees of freedom)"
    )
    return Noise("parametric", words, sd, free)


def draw_losses(
    budget: BudgetRuns,
    noise: Noise,
    draws: int,
    rng: np.random.Generator,
    followed: BudgetRuns | None = None,
    degree: int = 2,
) -> Array:
    """The measured losses, then redraws of them: (n, 1 + draws), nats.

    Wild redraws turn residuals about the polynomial through the runs `followed`, all by default; others' is the spread.
    """
    n = len(budget.rows)
    if draws == 0 or noise.degrees_of_freedom < 1:
        return budget.loss[:, None]
    if noise.method == "seeds":
        errors = rng.choice(noise.seeds, size=(n, draws))
    elif noise.method == "wild":
        part = budget if followed is None else followed
        x = np.vander(part.log_params - part.log_params.mean(), degree + 1) * np.sqrt(part.weights)[:, None]
        leverage = np.einsum("ij,ji->i", x, np.linalg.pinv(x))
        scaled = noise.loss_sd_nats / np.sqrt(budget.weights)  # of runs far from the minimum, which no curve follows
        scaled[np.isin(budget.rows, part.rows)] = residuals(part, degree) / np.sqrt(
            np.maximum(1 - leverage, 1e-3) * part.weights
        )
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
    if not np.isfinite(x):
        return f"{at} the loss has no minimum between the sizes tried ({least:.3g} to {most:.3g} parameters)"
    return ""


def percentiles(draws: Array, level: float) -> tuple[Array, Array]:
    """Percentile interval of every row of `draws` (m, r); NaN where fewer than LEAST_MINIMA of a row are numbers."""
    known = np.isfinite(draws).mean(axis=1) >= LEAST_MINIMA
    ends = np.full((2, len(draws)), np.nan)
    if known.any():
        quantile = np.quantile if np.isfinite(draws).all() else np.nanquantile  # the latter goes row by row
        ends[:, known] = quantile(draws[known], [(1 - level) / 2, (1 + level) / 2], axis=1)
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
