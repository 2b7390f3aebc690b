"""Branches: runs that differ in their length alone share a trunk, which is their steps up to the cooldown.

A cooldown can leave a warm-up and a constant rate at any step, so one long run gives a finished run at each of several
lengths for the price of their cooldowns (Hägele et al. 2024, arXiv 2405.18392). A branch is an ordinary run: its
identity does not name the run that took its first steps, and it equals the run that was trained alone.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from scaling.records.record import readable_record
from scaling.shapes.flops import train_flops_per_step
from scaling.spec.run_spec import RunSpec

SHARED_BY = "wsd"  # the schedule whose steps up to the cooldown do not depend on the run's length


def trunk_of(spec: RunSpec) -> RunSpec | None:
    """The trunk of a run, as a spec that all runs of the trunk have in common; None where every rate follows length."""
    if spec.recipe.schedule.kind != SHARED_BY:
        return None
    endless = replace(spec.recipe.schedule, cooldown_steps=0, cooldown_shape="none", final_fraction=1.0)
    return replace(spec, recipe=replace(spec.recipe, steps=0, schedule=endless))


def trunk_id(spec: RunSpec) -> str | None:
    """Twelve hex digits over all that decides the run's steps up to its cooldown; None for a run without a trunk."""
    trunk = trunk_of(spec)
    return None if trunk is None else trunk.run_id


def trunk_steps(spec: RunSpec) -> int:
    """Steps before the cooldown, after which this run leaves its trunk."""
    return spec.recipe.steps - spec.recipe.schedule.cooldown_steps


def furthest_step(run_dir: Path) -> int:
    """The step of the run's last checkpoint, by its name (see train/checkpoint.py); 0 without one."""
    names = (path.name for path in (run_dir / "checkpoint").glob("[0-9]*-[0-9]*"))
    return max((int(name.partition("-")[2]) for name in names), default=0)


def is_begun(run_dir: Path, steps: int) -> bool:
    """Whether a run that leaves its trunk after `steps` steps has a checkpoint from there on, or is finished."""
    return furthest_step(run_dir) >= steps or (run_dir / "record.json").exists()


def paid_flops(specs: Sequence[RunSpec], study_dir: Path) -> dict[str, int]:
    """FLOPs that each of these runs of one trunk costs in the study, by run id; finished runs have their record's.

    Of the runs to do, the longest that is not begun also pays the trunk. The others cost their cooldown: they have the
    trunk's checkpoint, or the longest run will leave them one.
    """
    records = {spec.run_id: readable_record(study_dir / spec.run_id) for spec in specs}
    to_do = sorted((spec for spec in specs if records[spec.run_id] is None), key=trunk_steps)
    takers = [spec for spec in to_do if not is_begun(study_dir / spec.run_id, trunk_steps(spec))]
    if not any(record is not None and record.paid_flops == record.train_flops for record in records.values()):
        takers = takers or to_do  # the run that took the trunk has begun and not ended
    paid = {}
    for spec in specs:
        record = records[spec.run_id]
        steps = spec.recipe.steps if spec in takers[-1:] else spec.recipe.schedule.cooldown_steps
        cost = steps * train_flops_per_step(spec.model, spec.recipe.batch_sequences, spec.recipe.optimizer.kind)
        paid[spec.run_id] = cost if record is None else record.paid_flops
    return paid


def reference_flops(budgets: Iterable[float]) -> float:
    """FLOPs at which a family's recipe is evaluated: the geometric mean of its budgets, equally far from both ends."""
    logs = [math.log(budget) for budget in budgets]
    return math.exp(sum(logs) / len(logs))


def check_family(specs: Sequence[RunSpec]) -> None:
    """ValueError, which states the reason, unless these runs have one trunk in common, as branches must."""
    asked = "hydra.sweeper.branches=true"
    if kinds := {spec.recipe.schedule.kind for spec in specs} - {SHARED_BY}:
        raise ValueError(
            f"{asked} with recipe.schedule.kind={min(kinds)}: its rate falls all along towards an end that must be "
            f"known at the start, so runs of different length share no step; use recipe.schedule.kind={SHARED_BY}"
        )
    flat = [_flatten(asdict(trunk_of(spec) or spec)) for spec in specs]
    for name, value in flat[0].items():
        values = [other.get(name) for other in flat]
        if any(other != value for other in values):
            given = ", ".join(dict.fromkeys(str(other) for other in values))
            remedy = (
                "a warm-up that is a fraction of the run follows its length; give recipe.schedule.warmup in tokens, "
                "e.g. recipe.schedule.warmup={tokens: 1e6, fraction: null}"
                if name.endswith("warmup_steps")
                else f"make {name} the same whatever the budget"
            )
            raise ValueError(f"{asked}: budgets of one shape need one trunk, but their {name} are {given}: {remedy}")


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
