"""A sweep's grid turned into cells, each a row of overrides, and the cells turned into runs."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict

from scaling.config.config import Known, asked_objective, compose, model_shape, to_run, typed
from scaling.config.settings import Grid, ModelSettings
from scaling.plan.branches import reference_flops
from scaling.plan.run import Run
from scaling.shapes.matmuls import parameter_counts


def grid_of(cfg: DictConfig) -> Grid:
    """The sweeper's settings, validated; ValueError when another sweeper is configured."""
    names = [f.name for f in dataclasses.fields(Grid)]
    if not set(names) <= set(cfg.hydra.sweeper):
        raise ValueError(f"hydra/sweeper={cfg.hydra.sweeper._target_} has no plan to show; use hydra/sweeper=isoflop")
    return typed(cfg.hydra.sweeper, Grid)


def split_axes(overrides: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Command-line overrides that hold in every cell, and the axes to sweep over (`seed=0,1`), apart."""
    fixed: list[str] = []
    axes: dict[str, list[str]] = {}
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        if override.is_sweep_override():
            axes[override.get_key_element()] = list(override.sweep_string_iterator())
        else:
            assert override.input_line is not None
            fixed.append(override.input_line)
    return fixed, axes


def cells(
    grid: Grid,
    cfg: DictConfig,
    axes: Mapping[str, Sequence[str]],
    load: Callable[[Sequence[str]], DictConfig],
) -> list[tuple[str, ...]]:
    """Every cell of the grid as overrides: budgets x shapes (or the sizes that each budget gets) x axes.

    `axes` are further axes from the command line, key -> values in Hydra's own spelling. The family of each cell counts
    the cell's sizes; `load` composes the configuration of a family that an axis picks.
    """
    axes = {**{key: [_spell(v) for v in values] for key, values in grid.axes.items()}, **axes}
    others = list(itertools.product(*([f"{key}={value}" for value in values] for key, values in axes.items())))
    budgets: list[float | None] = list(grid.budgets) or [None]
    if grid.branches and len(grid.budgets) < 2:
        raise ValueError(
            "hydra.sweeper.branches=true lets budgets share trunks: give at least two hydra.sweeper.budgets"
        )
    models = [] if grid.sizes is None else [_with_values(cfg, other) or load(other) for other in others]
    found: list[tuple[float | None, tuple[str, ...], tuple[str, ...]]] = []
    for budget in budgets:
        if grid.sizes is None:
            pairs = list(itertools.product(grid.shapes or [{}], others))
        else:
            sized = [_sized(grid, model, budget) for model in models]
            pairs = [(shape, other) for shapes, other in zip(sized, others, strict=True) for shape in shapes]
        for shape, other in pairs:
            found.append((budget, tuple(f"model.{name}={_spell(value)}" for name, value in shape.items()), other))
    rows: list[tuple[str, ...]] = []
    for budget, at_shape, other in found:
        at_budget = [] if budget is None else [f"budget.flops={_spell(budget)}"]
        family = {flops for flops, *same in found if flops is not None and same == [at_shape, other]}
        if grid.branches and len(family) > 1:
            at_budget.insert(0, f"recipe.reference_flops={_spell(reference_flops(family))}")
        rows.append((*at_budget, *at_shape, *other))
    return rows


def _sized(grid: Grid, cfg: DictConfig, budget: float | None) -> list[dict[str, Any]]:
    """The shapes nearest to the sizes of this budget, smallest first."""
    sizes = grid.sizes
    assert sizes is not None
    if budget is None or not grid.shapes:
        raise ValueError("hydra.sweeper.sizes picks shapes for budgets: give hydra.sweeper.budgets and .shapes too")
    optimum = sizes.optimum_params * (budget / sizes.at_flops) ** sizes.exponent
    step = sizes.span ** (2 / max(1, sizes.count - 1))
    targets = [optimum / sizes.span * step**i for i in range(sizes.count)]
    model = OmegaConf.to_container(cfg.model, resolve=True)
    assert isinstance(model, dict)
    asked = OmegaConf.to_container(cfg.objective, resolve=True)
    assert isinstance(asked, dict)
    objective = asked_objective({str(k): v for k, v in asked.items()})
    counted = []
    for shape in grid.shapes:
        values = {str(k): v for k, v in model.items()} | shape | {"vocab_size": None}  # sizes are non-embedding
        resolved = model_shape(ModelSettings(**values), int(cfg.data.vocab_size), objective)
        counted.append((parameter_counts(resolved)["non_embedding"], shape))
    counted.sort(key=lambda pair: pair[0])
    if len(counted) < sizes.count:
        raise ValueError(f"hydra.sweeper.sizes.count={sizes.count}, but only {len(counted)} shapes are given")
    picked: list[int] = []
    for target in targets:
        free = [i for i in range(len(counted)) if i not in picked]
        picked.append(min(free, key=lambda i: abs(math.log(counted[i][0] / target))))
    return [counted[i][1] for i in sorted(picked)]


def _spell(value: Any) -> str:
    """A value in the spelling of Hydra's override grammar."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def cell_runs(
    master: DictConfig, rows: Sequence[Sequence[str]], load: Callable[[Sequence[str]], DictConfig]
) -> list[Run]:
    """The runs of a grid's cells.

    A cell that only sets values is a copy of the master configuration with these values. A cell that picks a config
    group is composed anew by `load`, which takes Hydra some 50 ms.
    """
    known: Known = {}
    runs = []
    own = master.copy()
    with open_dict(own):
        own.pop("hydra", None)  # most of a configuration, and no part of a run
    for row in rows:
        cfg = _with_values(own, row)
        run = to_run(load(row) if cfg is None else cfg, known)
        runs.append(dataclasses.replace(run, overrides=tuple(row)))
    return runs


def _with_values(master: DictConfig, row: Sequence[str]) -> DictConfig | None:
    """A copy of the master configuration with a row's values; None where Hydra must compose the row."""
    cfg = master.copy()
    for override in row:
        key, _, value = override.partition("=")
        grammar = key[0] in "+~" or "/" in key or "@" in key or key.startswith("hydra.")
        if grammar or OmegaConf.is_config(OmegaConf.select(cfg, key)):
            return None
        OmegaConf.update(cfg, key, OmegaConf.create(f"value: {value}").value)
    return cfg


def load_like(cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """A cell's configuration composed outside a Hydra app; `cfg` stands where Hydra's own loader takes its master."""
    return compose(overrides)
