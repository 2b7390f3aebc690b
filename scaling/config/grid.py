"""A sweep's grid turned into cells, each a row of overrides, and the cells turned into runs."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig

from scaling.config.config import Known, asked_objective, compose, model_shape, run_of, typed
from scaling.config.sections import Rows
from scaling.config.settings import Grid, ModelSettings
from scaling.plan.branches import reference_flops
from scaling.plan.run import Run
from scaling.shapes.matmuls import parameter_counts

MOST_CELLS = 100_000  # planned in minutes; a larger grid is more often a slip than a wish


def grid_of(cfg: DictConfig) -> Grid:
    """The sweeper's settings, validated; ValueError when another sweeper is configured."""
    names = [f.name for f in dataclasses.fields(Grid)]
    if not set(names) <= set(cfg.hydra.sweeper):
        raise ValueError(f"hydra/sweeper={cfg.hydra.sweeper._target_} has no plan to show; use hydra/sweeper=isoflop")
    grid = typed(cfg.hydra.sweeper, Grid, "hydra.sweeper")
    if cfg.init_from is not None and (grid.shapes or any(name.startswith("model") for name in grid.axes)):
        raise ValueError(f"init_from={cfg.init_from}: every run has its parent's model; leave the sweep's shapes out")
    return grid


def split_axes(overrides: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Command-line overrides that hold in every cell, and the axes to sweep over (`seed=0,1`), apart."""
    fixed: list[str] = []
    axes: dict[str, list[str]] = {}
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise ValueError(str(error).partition("\n")[0]) from error
    for override in parsed:
        if override.is_sweep_override():
            values = override.sweep_string_iterator()
            axes[override.get_key_element()] = list(itertools.islice(values, MOST_CELLS + 1))
        else:
            assert override.input_line is not None
            fixed.append(override.input_line)
    return fixed, axes


def cells(grid: Grid, axes: Mapping[str, Sequence[str]], rows: Rows) -> list[tuple[str, ...]]:
    """Every cell of the grid as overrides: budgets x shapes (or the sizes that each budget gets) x axes.

    `axes` are further axes from the command line, key -> values in Hydra's own spelling. The family of each cell counts
    the cell's sizes. ValueError, with the arithmetic, for more than MOST_CELLS cells.
    """
    own = {key: [spell(v) for v in values] for key, values in grid.axes.items() if values}
    axes = {**own, **axes}
    zipped = [tuple(zip(grid.zip, map(spell, row), strict=True)) for row in zip(*grid.zip.values(), strict=True)]
    _refuse_too_many(grid, axes)
    if grid.branches and len(grid.budgets) < 2:
        raise ValueError(
            "hydra.sweeper.branches=true lets budgets share trunks: give at least two hydra.sweeper.budgets"
        )
    crossed = [[((key, value),) for value in values] for key, values in axes.items()] + ([zipped] if zipped else [])
    others = [tuple(f"{key}={value}" for group in row for key, value in group) for row in itertools.product(*crossed)]
    shapes = [tuple(f"model.{name}={spell(value)}" for name, value in shape.items()) for shape in grid.shapes or [{}]]
    count = cache(partial(_count, rows))
    found: list[tuple[float | None, tuple[str, ...], tuple[str, ...]]] = []
    budgets: list[float | None] = list(grid.budgets) or [None]
    for budget in budgets:
        if grid.sizes is None:
            pairs = list(itertools.product(shapes, others))
        else:
            pairs = [(shape, other) for other in others for shape in _sized(grid, budget, shapes, other, count)]
        found += [(budget, shape, other) for shape, other in pairs]
    families: dict[Any, set[float]] = {}  # budgets of the cells that differ in their budget alone
    for budget, *same in found:
        if budget is not None:
            families.setdefault(tuple(same), set()).add(budget)
    cells: list[tuple[str, ...]] = []
    for budget, shape, other in found:
        at_budget = [] if budget is None else [f"budget.flops={spell(budget)}"]
        family = families.get((shape, other), set())
        if grid.branches and len(family) > 1:
            at_budget.insert(0, f"recipe.reference_flops={reference_flops(family):g}")
        cells.append((*at_budget, *shape, *other))
    return cells


def _refuse_too_many(grid: Grid, axes: Mapping[str, Sequence[str]]) -> None:
    """ValueError, with the arithmetic, for a grid of more than MOST_CELLS cells."""
    shapes = grid.sizes.count if grid.sizes is not None else len(grid.shapes)
    sides = {"budgets": len(grid.budgets), "shapes": shapes} | {key: len(values) for key, values in axes.items()}
    sides |= {f"zipped {name}": len(values) for name, values in list(grid.zip.items())[:1]}
    product = math.prod(count for count in sides.values() if count)
    if product > MOST_CELLS:
        words = " x ".join(f"{count:,} {name}" for name, count in sides.items() if count > 1)
        cells = f"{product:,} cells" if max(sides.values()) <= MOST_CELLS else "more cells still"  # an axis was cut
        raise ValueError(
            f"the grid has {words} = {cells}, over the limit of {MOST_CELLS:,}: drop values, or plan it in parts"
        )


def _sized(
    grid: Grid,
    budget: float | None,
    shapes: Sequence[tuple[str, ...]],
    other: tuple[str, ...],
    count: Callable[[tuple[str, ...]], int],
) -> list[tuple[str, ...]]:
    """The shapes nearest to the sizes of this budget, smallest first."""
    sizes = grid.sizes
    assert sizes is not None
    if budget is None or not grid.shapes:
        raise ValueError("hydra.sweeper.sizes picks shapes for budgets: give hydra.sweeper.budgets and .shapes too")
    optimum = sizes.optimum_params * (budget / sizes.at_flops) ** sizes.exponent
    step = sizes.span ** (2 / max(1, sizes.count - 1))
    targets = [optimum / sizes.span * step**i for i in range(sizes.count)]
    counted = sorted(((count((*shape, *other)), shape) for shape in shapes), key=lambda pair: pair[0])
    if len(counted) < sizes.count:
        raise ValueError(f"hydra.sweeper.sizes.count={sizes.count}, but only {len(counted)} shapes are given")
    picked: list[int] = []
    for target in targets:
        free = [i for i in range(len(counted)) if i not in picked]
        picked.append(min(free, key=lambda i: abs(math.log(counted[i][0] / target))))
    return [counted[i][1] for i in sorted(picked)]


def _count(rows: Rows, row: tuple[str, ...]) -> int:
    """Non-embedding parameters of the model of a row."""
    config = rows.config(row)
    values: dict[str, Any] = vars(config.model) | {"vocab_size": None}  # sizes are non-embedding
    shape = model_shape(ModelSettings(**values), config.data.vocab_size, asked_objective(config.objective))
    return parameter_counts(shape)["non_embedding"]


def spell(value: Any) -> str:
    """A value in the spelling of Hydra's override grammar, with as many digits as it has."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return str(value)


def cell_runs(rows: Rows, cells: Sequence[Sequence[str]]) -> list[Run]:
    """The runs of a grid's cells."""
    known: Known = {}
    return [dataclasses.replace(run_of(rows.config(cell), known), overrides=tuple(cell)) for cell in cells]


def load_like(cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """A cell's configuration composed outside a Hydra app; `cfg` stands where Hydra's own loader takes its master."""
    return compose(overrides)
