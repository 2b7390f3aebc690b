"""The runs that could be bought next: repeats of the cells that a study has, and new sizes and budgets around them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scaling.analysis.runs.observations import Observations
from scaling.analysis.runs.repeats import cells

Array = NDArray[np.float64]

SHAPE = ("n_layers", "d_model", "n_heads")
STEP = np.sqrt(10.0)  # between the budgets of new cells
WIDER = (0.5, 0.71, 1.41, 2.0)  # widths of new sizes, as factors of the narrowest and the widest
RATIO_SLACK = 3.0  # factor by which tokens per parameter may leave the runs' range
MOST_EPOCHS = 4.0  # passes over the training tokens; more are worth clearly less (Muennighoff et al. 2023)


@dataclass(frozen=True)
class Cell:
    """A run that could be bought, and the runs of it that there are."""

    params: float
    tokens: float
    flops: float  # as asked of a sweep: the budget of a trained cell, where it has one
    trained: int
    next_seed: int
    shape: tuple[int, ...]  # SHAPE; empty where the source states none


def candidates(observations: Observations, most_flops: float) -> list[Cell]:
    """The cells that a study has, then new ones, each within `most_flops`."""
    known = trained_cells(observations)
    sizes = _sizes(known)
    flops = observations.column("flops")
    steps = int(np.floor(np.log(max(most_flops / flops.min(), 1.0)) / np.log(STEP)))
    budgets = flops.min() * STEP ** np.arange(steps + 1)
    ratio = observations.column("tokens") / observations.column("params")
    unique = observations.column("unique_tokens")
    most_tokens = MOST_EPOCHS * np.nanmin(unique) if np.isfinite(unique).any() else np.inf
    new = []
    for params, shape in sizes:
        for budget in budgets:
            tokens = float(observations.cost.tokens(budget, params))
            near = any(abs(np.log(params / one.params)) + abs(np.log(tokens / one.tokens)) < 0.3 for one in known)
            inside = ratio.min() / RATIO_SLACK <= tokens / params <= ratio.max() * RATIO_SLACK
            if inside and not near and tokens <= most_tokens:
                new.append(Cell(params, tokens, float(budget), 0, 0, shape))
    return [one for one in (*known, *new) if one.flops <= most_flops]


def trained_cells(observations: Observations) -> list[Cell]:
    """The cells of the runs so far, each with its number of runs and the first seed that none of them has."""
    table, number = observations.table, cells(observations)
    columns = [f"model.{name}" for name in SHAPE]
    shaped = all(name in table.columns for name in columns)
    found = []
    for cell in np.unique(number):
        rows = table[number == cell]
        first = rows.iloc[0]
        seeds = rows["seed"] if "seed" in rows.columns else None
        found.append(
            Cell(
                float(first["params"]),
                float(first["tokens"]),
                float(first["budget"] if np.isfinite(first["budget"]) else first["flops"]),
                len(rows),
                len(rows) if seeds is None else int(seeds.max()) + 1,
                tuple(int(first[name]) for name in columns) if shaped else (),
            )
        )
    return found


def _sizes(known: Sequence[Cell]) -> list[tuple[float, tuple[int, ...]]]:
    """Every size that was trained, and wider and narrower ones: parameters grow with the square of the width."""
    sizes = {(one.params, one.shape) for one in known}
    ends = (min(known, key=lambda one: one.params), max(known, key=lambda one: one.params))
    for end, factors in zip(ends, (WIDER[:2], WIDER[2:]), strict=True):
        for factor in factors:
            if not end.shape:
                sizes.add((end.params * factor**2, ()))
                continue
            layers, width, heads = end.shape
            new = max(round(width * factor / (2 * heads)), 1) * 2 * heads
            sizes.add((end.params * (new / width) ** 2, (layers, new, heads)))
    return sorted(sizes)
