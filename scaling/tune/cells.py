"""Which sizes at which budgets stand for a whole sweep while its learning rate and batch are searched."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scaling.plan.run import Run
from scaling.quantities import short
from scaling.shapes import flops
from scaling.shapes.matmuls import parameter_counts

SIZES = 3  # smallest, middle, largest
BUDGET_RATIO = 4.0  # between the two budgets: at one budget N and D are tied by C = 6ND, and no law tells them apart
SHARE_OF_SWEEP = 0.25  # of the sweep's FLOPs, that a search may cost unless told otherwise
FIRST_SHARE = 2 / 3  # of the cap, for the points of every cell; the rest is for minima at an edge
# What may differ between the runs of a sweep that one learning-rate law is to serve.
SIZE_KEYS = {f"model.{name}" for name in ("n_layers", "d_model", "n_heads", "n_kv_heads", "d_ff", "ff_ratio")}
FREE_KEYS = SIZE_KEYS | {"budget.flops", "budget.tokens", "seed"}


@dataclass(frozen=True)
class Cell:
    """A size of the sweep at a budget."""

    overrides: tuple[str, ...]
    shape: str  # layers x width / heads
    params: int  # non-embedding
    budget_flops: float


def check_alike(runs: Sequence[Run]) -> None:
    """ValueError when the sweep compares something else than sizes and budgets."""
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
    """Smallest, middle and largest size at each budget, of those that see as many tokens a parameter as the sweep's.

    Without `budgets`: the two, a factor BUDGET_RATIO apart, at which `runs_per_cell` runs of every cell cost
    FIRST_SHARE of `cap` FLOPs, at most the sweep's largest.
    """
    check_alike(runs)
    sizes: dict[int, Run] = {}
    for run in runs:
        sizes.setdefault(parameter_counts(run.spec.model)["non_embedding"], run)
    if len(sizes) < 2:
        raise ValueError(
            f"the sweep has one size ({short(next(iter(sizes)))} parameters), and a law in N takes two: give it more "
            f"shapes, or search by hand with  scaling train -m recipe.learning_rate.value=1e-3,2e-3,4e-3"
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
    """The smallest, the one nearest the geometric middle, and the largest; all where they are no more than that."""
    if len(sizes) <= SIZES:
        return list(sizes)
    middle = math.sqrt(sizes[0] * sizes[-1])
    return [sizes[0], min(sizes[1:-1], key=lambda n: abs(math.log(n / middle))), sizes[-1]]


def _cell(params: int, run: Run, budget: float) -> Cell:
    model = run.spec.model
    kept = tuple(one for one in run.overrides if not one.startswith("budget."))
    return Cell(
        ("budget.tokens=null", *kept, f"budget.flops={budget:g}"),
        f"{model.n_layers}x{model.d_model}/{model.n_heads}",
        params,
        budget,
    )
