"""Cells of a search: the sizes and budgets that stand for a whole sweep."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scaling.config.grid import spell
from scaling.plan.run import Run
from scaling.quantities import short
from scaling.shapes import flops
from scaling.shapes.matmuls import parameter_counts

SIZES = 3  # smallest, middle, largest
BUDGET_RATIO = 4.0  # ratio of the two budgets: at a single budget C = 6ND ties N to D, and their exponents stay unknown
SHARE_OF_SWEEP = 0.25  # default cap of a search, as a share of the sweep's FLOPs
FIRST_SHARE = 2 / 3  # share of the cap for the first points of all cells; the rest is for minima at an edge
# Settings that may differ between the runs of a sweep under one learning-rate law.
SIZE_KEYS = {f"model.{name}" for name in ("n_layers", "d_model", "n_heads", "n_kv_heads", "d_ff", "ff_ratio")}
FREE_KEYS = SIZE_KEYS | {"budget.flops", "budget.tokens", "seed"}


@dataclass(frozen=True)
class Cell:
    """A cell: a size of the sweep at a budget."""

    overrides: tuple[str, ...]
    shape: str  # layers x width / heads
    params: int  # non-embedding
    budget_flops: float


def check_alike(runs: Sequence[Run]) -> None:
    """Raise ValueError for a sweep that varies other settings than sizes, budgets and seeds."""
    settings: dict[str, set[str]] = {}
    for run in runs:
        for override in run.overrides:
            key, _, value = override.partition("=")
            settings.setdefault(key, set()).add(value)
    for key, values in settings.items():
        if len(values) > 1 and key not in FREE_KEYS:
            raise ValueError(
                f"the sweep varies {key} ({', '.join(sorted(values)[:4])}), and one law of learning rate and batch "
                f"serves one of them: sweep over sizes, budgets and seeds alone, or tune each in a sweep of its own"
            )


def choose_cells(runs: Sequence[Run], cap: float, budgets: Sequence[float], runs_per_cell: int) -> list[Cell]:
    """Cells of the smallest, middle and largest size at each budget.

    A size that would see fewer tokens a parameter at a budget than every run of the sweep is left out there. Without
    `budgets`, two budgets a factor BUDGET_RATIO apart are taken, at which `runs_per_cell` runs of every cell cost
    FIRST_SHARE of `cap` FLOPs, and which do not exceed the sweep's largest. Raises ValueError for fewer than two sizes.
    """
    check_alike(runs)
    sizes: dict[int, Run] = {}
    for run in runs:
        sizes.setdefault(parameter_counts(run.spec.model)["non_embedding"], run)
    if len(sizes) < 2:
        raise ValueError(
            f"the sweep has one size ({short(next(iter(sizes)))} parameters), and a law in N takes two: give it more "
            f"shapes, or search by hand with  scaling train -m recipe.learning_rate=1e-3,2e-3,4e-3"
        )
    if not budgets:
        cells_worth = min(SIZES, len(sizes)) * (1 + 1 / BUDGET_RATIO)
        high = min(FIRST_SHARE * cap / (runs_per_cell * cells_worth), max(run.allocation.scale.flops for run in runs))
        budgets = [float(f"{budget:.2g}") for budget in (high / BUDGET_RATIO, high)]
    ratio = min(run.allocation.scale.tokens / run.allocation.scale.params for run in runs)
    cells = []
    for budget in sorted(set(budgets)):
        fed = {n: run for n, run in sizes.items() if budget / flops.exact(run.spec.model) >= ratio * n}
        cells += [_cell(n, fed[n], budget) for n in _spread(sorted(fed))]
    if len({cell.params for cell in cells}) < 2:
        spent = " and ".join(f"{budget:.3g}" for budget in sorted(set(budgets)))
        raise ValueError(
            f"at {spent} FLOPs a run fewer than two of the sweep's sizes see {ratio:.3g} tokens a parameter, the least "
            f"in the sweep; give larger --budgets, or a larger --flops (now {cap:.3g})"
        )
    return cells


def _spread(sizes: Sequence[int]) -> list[int]:
    """The smallest size, the size nearest the geometric middle, and the largest; all of no more than SIZES sizes."""
    if len(sizes) <= SIZES:
        return list(sizes)
    middle = math.sqrt(sizes[0] * sizes[-1])
    return [sizes[0], min(sizes[1:-1], key=lambda n: abs(math.log(n / middle))), sizes[-1]]


def _cell(params: int, run: Run, budget: float) -> Cell:
    model = run.spec.model
    kept = tuple(override for override in run.overrides if not override.startswith("budget."))
    return Cell(
        ("budget.tokens=null", *kept, f"budget.flops={spell(budget)}"),
        f"{model.n_layers}x{model.d_model}/{model.n_heads}",
        params,
        budget,
    )
