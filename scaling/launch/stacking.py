"""Which runs of a sweep are trained as one stack, and what it is called."""

from collections.abc import Sequence
from pathlib import Path

from scaling.plan.plan import read_plan
from scaling.plan.stacks import CPU_BATCH_TOKENS

PLANNED = "planned="  # the override that says which run of the plan a job is


def stacks(jobs: Sequence[Sequence[str]], largest: int, study_dir: Path, gpu: bool) -> list[list[int]]:
    """The jobs' numbers in stacks of at most `largest`, in the order in which their first ones were given.

    By the study's plan: a job that is not in it is a stack of its own, and on the CPU one whose batch is so large that
    nothing would be won. ValueError for fewer than 1.
    """
    if largest < 1:
        raise ValueError(f"stack={largest}: must be at least 1, each run by itself")
    plan = {line["run_id"]: line for line in read_plan(study_dir)} if largest > 1 else {}
    found: list[list[int]] = []
    filling: dict[str, list[int]] = {}
    for index, overrides in enumerate(jobs):
        planned = next((part.removeprefix(PLANNED).strip("'") for part in overrides if part.startswith(PLANNED)), "")
        line = plan.get(planned, {})
        name = line.get("stack")
        if name is None or not (gpu or line["batch_tokens"] <= CPU_BATCH_TOKENS):
            found.append([index])
            continue
        stack = filling.get(name)
        if stack is None or len(stack) == largest:
            stack = filling[name] = []
            found.append(stack)
        stack.append(index)
    return found


def label(jobs: Sequence[Sequence[str]]) -> str:
    """The overrides of a stack's jobs as one line, what differs between them side by side: `seed=0|1`."""
    if len({tuple(part.partition("=")[0] for part in overrides) for overrides in jobs}) > 1:
        return " ".join(jobs[0])  # jobs of several kinds of grid: nothing stands side by side
    return " ".join(_side_by_side(parts) for parts in zip(*jobs, strict=True))


def _side_by_side(overrides: Sequence[str]) -> str:
    first, *others = dict.fromkeys(overrides)
    return "|".join([first, *(other.partition("=")[2] for other in others)])
