"""Stacks of a sweep: the jobs that train as one, and the jobs' labels."""

from collections.abc import Sequence
from pathlib import Path

from scaling.plan.labels import axes, labels, side_by_side
from scaling.plan.plan_file import read_plan
from scaling.plan.stacks import CPU_BATCH_TOKENS

PLANNED_RUN = "planned="  # the override that names a job's run in the plan
DEVICES, NODES = "runtime.devices_per_run", "runtime.nodes_per_run"


def stacks(jobs: Sequence[Sequence[str]], largest: int, study_dir: Path, gpu: bool) -> list[list[int]]:
    """Stacks of at most `largest` jobs, as job numbers, ordered by their first jobs.

    The study's plan decides which runs stack. A job outside the plan is a stack of its own; so is a job of
    several devices and, on the CPU, a job whose batch is too large to gain from stacking.
    """
    plan = {line["run_id"]: line for line in read_plan(study_dir)} if largest > 1 else {}
    in_order: list[list[int]] = []
    filling: dict[str, list[int]] = {}
    for index, overrides in enumerate(jobs):
        line = plan.get(next(iter(planned_ids([overrides])), ""), {})
        name = line.get("stack")
        wide = line.get("devices_per_run", 1) > 1
        if name is None or wide or not (gpu or line["batch_tokens"] <= CPU_BATCH_TOKENS):
            in_order.append([index])
            continue
        stack = filling.get(name)
        if stack is None or len(stack) == largest:
            stack = filling[name] = []
            in_order.append(stack)
        stack.append(index)
    return in_order


def widths(jobs: Sequence[Sequence[str]], otherwise: int, study_dir: Path) -> list[int]:
    """The slots that each job takes: by the plan, else as its overrides ask, else `otherwise`."""
    return _asked(DEVICES, jobs, otherwise, study_dir)


def most_nodes(jobs: Sequence[Sequence[str]], otherwise: int, study_dir: Path) -> int:
    """The most nodes that one of the jobs takes, as `widths` finds slots."""
    return max(_asked(NODES, jobs, otherwise, study_dir), default=1)


def _asked(setting: str, jobs: Sequence[Sequence[str]], otherwise: int, study_dir: Path) -> list[int]:
    plan = {line["run_id"]: line.get(setting.partition(".")[2], 1) for line in read_plan(study_dir)}
    found = []
    for job in jobs:
        asked = dict(part.lstrip("+").partition("=")[::2] for part in job).get(setting, str(otherwise))
        run_id = next(iter(planned_ids([job])), "")
        found.append(plan.get(run_id, int(asked) if asked.isdigit() else 1))  # the job itself refuses what is no number
    return found


def planned_ids(jobs: Sequence[Sequence[str]]) -> list[str]:
    """The runs of the plan that jobs name."""
    named = (part for overrides in jobs for part in overrides if part.startswith(PLANNED_RUN))
    return [part.removeprefix(PLANNED_RUN).strip("'") for part in named]


def job_labels(jobs: Sequence[Sequence[str]], stacked: Sequence[Sequence[int]], study_dir: Path) -> list[str]:
    """A label for each stack: its runs' by the plan, and the settings that differ for jobs outside the plan."""
    planned = labels(read_plan(study_dir))
    own = [[part for part in job if not part.startswith(("+", "hydra", PLANNED_RUN))] for job in jobs]
    differing = axes(own, shown=()) or [part.partition("=")[0] for job in own for part in job]
    found = []
    for job, parts in zip(jobs, own, strict=True):
        run_id = next(iter(planned_ids([job])), "")
        found.append(planned.get(run_id) or " ".join(part for part in parts if part.partition("=")[0] in differing))
    return [side_by_side([found[index] for index in stack]) for stack in stacked]
