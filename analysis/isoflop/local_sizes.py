"""The sizes near a budget's minimum, and the test of whether one parabola follows the losses of all sizes.

Losses rise faster than a square far from the minimum, and to one side faster than to the other, so that a parabola
through all sizes of a wide grid has its vertex off the minimum. Noise has to be small for that to show.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from scaling.analysis.isoflop.curve_models import polynomial
from scaling.analysis.quantiles import f_tail
from scaling.analysis.runs.budgets import BudgetRuns
from scaling.analysis.runs.repeats import deviations

Array = NDArray[np.float64]

NEAR = 0.04  # share of the least loss within which a size is near its minimum
LEAST_NEAR = 5  # sizes near a minimum, the next best ones among them where fewer are that near
JUDGES = 6  # sizes nearest a minimum whose cubic measures the noise, so that two degrees of freedom are left
REJECTED = 0.001  # probability below which parabolas are rejected: local curves scatter three times as far
EXACT = 1e-9  # nats: residuals below are rounding


@dataclass(frozen=True)
class LackOfFit:
    """Fisher's F of the parabolas through all sizes against the noise of repeats or of the nearest sizes."""

    F: float
    probability: float  # of this F or more where the parabolas are right; 1 where nothing judges them

    @property
    def rejected(self) -> bool:
        """Whether parabolas through all sizes miss the losses by more than noise does."""
        return self.probability < REJECTED


def near(budget: BudgetRuns, share: float = NEAR, least: int = LEAST_NEAR) -> BudgetRuns:
    """The budget's runs of sizes about its lowest mean loss: all up to `share` above it, and `least` in any case."""
    sizes, cell = np.unique(budget.log_params, return_inverse=True)
    means = np.bincount(cell, budget.loss * budget.weights) / np.bincount(cell, budget.weights)
    first = last = int(means.argmin())
    low_enough = means <= means[first] * (1 + share)
    padded = np.concatenate([[np.inf], means, [np.inf]])  # losses beside sizes first and last: [first], [last + 2]
    while last - first + 1 < len(sizes):
        left, right = padded[first], padded[last + 2]
        nearest = first - 1 if left <= right else last + 1
        if last - first + 1 >= least and not low_enough[nearest]:
            break
        first, last = min(first, nearest), max(last, nearest)
    return of_rows(budget, (cell >= first) & (cell <= last))


def of_rows(budget: BudgetRuns, kept: NDArray[np.bool_]) -> BudgetRuns:
    """The budget with these of its runs (n,) alone."""
    names = ("rows", "log_params", "log_tokens", "loss", "weights", "clusters", "cells")
    return replace(budget, **{name: getattr(budget, name)[kept] for name in names})


def residuals(budget: BudgetRuns, degree: int) -> Array:
    """Losses less their polynomial in log params, times the root of their weights (n,), nats."""
    x = budget.log_params - budget.log_params.mean()
    fitted = np.vander(x, degree + 1, increasing=True) @ polynomial(x, budget.loss[:, None], budget.weights, degree)
    scaled: Array = (budget.loss - fitted[:, 0]) * np.sqrt(budget.weights)
    return scaled


def residual_squares(budgets: Sequence[BudgetRuns], degree: int) -> tuple[float, int]:
    """Sum of squared residuals of a polynomial through each budget, nats², and its degrees of freedom."""
    able = [budget for budget in budgets if len(np.unique(budget.log_params)) > degree + 1]
    squares = sum(float((residuals(budget, degree) ** 2).sum()) for budget in able)
    return squares, sum(len(budget.rows) - degree - 1 for budget in able)


def pure_error(budgets: Sequence[BudgetRuns]) -> tuple[float, int]:
    """Sum of squared deviations of repeats from their cells' means, nats², and its degrees of freedom."""
    each = [deviations(budget.loss, budget.cells) for budget in budgets]
    return sum(float((off**2).sum()) for off, _ in each), sum(free for _, free in each)


def lack_of_fit(budgets: Sequence[BudgetRuns], *, repeated: bool) -> LackOfFit:
    """Judge parabolas through all sizes: against repeats where there are enough, else a cubic of the nearest sizes."""
    squares, free = residual_squares(budgets, 2)
    below, below_free = (
        pure_error(budgets) if repeated else residual_squares([near(budget, 0.0, JUDGES) for budget in budgets], 3)
    )
    if below_free < 1 or free <= below_free or squares <= free * EXACT**2:
        return LackOfFit(0.0, 1.0)
    unit = max(below / below_free, EXACT**2)
    F = max(squares - below, 0.0) / (free - below_free) / unit
    return LackOfFit(F, float(f_tail(F, free - below_free, below_free)))
