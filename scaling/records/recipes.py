"""The recipe of a run, read back from its directory: its spec, and the learning rate of every step, taken or not."""

from dataclasses import replace
from pathlib import Path

from scaling.records.files import read_json
from scaling.registry import choose
from scaling.spec.recipe import SCHEDULES
from scaling.spec.run_spec import NO_RECIPE, RunSpec, from_dict
from scaling.spec.schedule import learning_rate_factor


def read_spec(run_dir: Path) -> RunSpec:
    """The run's spec; ValueError names the file where it is absent or damaged."""
    path = run_dir / "spec.json"
    values = read_json(path)
    if values is None:
        found = "is damaged" if path.exists() else "does not exist"
        raise ValueError(f"{path} {found}: give a run's folder, runs/STUDY/RUN_ID, of a run that has begun")
    try:
        return from_dict(values)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is no spec of a run: {error}") from error


def learning_rate_factors(spec: RunSpec) -> list[float]:
    """The learning rate of each step as a share of its peak; ValueError for a schedule that has no formula here."""
    schedule, steps = spec.recipe.schedule, spec.recipe.steps
    choose("recipe.schedule.kind", SCHEDULES, schedule.kind)
    return [learning_rate_factor(schedule, step, steps) for step in range(steps)]


def family_id(spec: RunSpec) -> str:
    """Twelve hex digits over all that decides a run but its seed, its length and its schedule."""
    recipe = replace(spec.recipe, steps=0, schedule=NO_RECIPE.schedule)
    return replace(spec, seed=0, recipe=recipe).run_id
