"""Stacks of a sweep: the jobs that train as one, and a stack's label."""

from collections.abc import Sequence
from pathlib import Path

from scaling.plan.plan_file import read_plan
from scaling.plan.stacks import CPU_BATCH_TOKENS

PLANNED = "planned="  # the override that names a job's run in the plan


def stacks(jobs: Sequence[Sequence[str]], largest: int, study_dir: Path, gpu: bool) -> list[list[int]]:
    """Stacks of at most `largest` jobs, as job numbers, ordered by their first jobs.

    The study's plan decides which runs stack. A job outside the plan is a stack of its own; so is, on the CPU, a job
    whose batch is too large to gain from stacking. Raises ValueError for `largest` below 1.
    """
    if largest < 1:
        raise ValueError(f"stack={largest}: must be at least 1, each run by itself")
    plan = {line["run_id"]: line for line in read_plan(study_dir)} if largest > 1 else {}
    in_order: list[list[int]] = []
    filling: dict[str, list[int]] = {}
    for index, overrides in enumerate(jobs):
        line = plan.get(next(iter(planned_ids([overrides])), ""), {})
        name = line.get("stack")
        if name is None or not (gpu or line["batch_tokens"] <= CPU_BATCH_TOKENS):
            in_order.append([index])
            continue
        stack = filling.get(name)
        if stack is None or len(stack) == largest:
            stack = filling[name] = []
            in_order.append(stack)
        stack.append(index)
    return in_order


def planned_ids(jobs: Sequence[Sequence[str]]) -> list[str]:
    """The runs of the plan that jobs name."""
    named = (part for overrides in jobs for part in overrides if part.startswith(PLANNED))
    return [part.removeprefix(PLANNED).strip("'") for part in named]


def label(jobs: Sequence[Sequence[str]]) -> str:
    """The overrides of a stack's jobs as one line, with differing values side by side: `seed=0|1`."""
    if len({tuple(part.partition("=")[0] for part in overrides) for overrides in jobs}) > 1:
        return " ".join(jobs[0])  # the jobs override different settings, so that no values stand side by side
    return " ".join(_side_by_side(parts) for parts in zip(*jobs, strict=True))


def _side_by_side(overrides: Sequence[str]) -> str:
    first, *others = dict.fromkeys(overrides)
    return "|".join([first, *(other.partition("=")[2] for other in others)])
