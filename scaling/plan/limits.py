"""Limits of a plan: runs off their budget, of too few steps, or on more devices than sequences are refused."""

from collections.abc import Sequence

from scaling.plan.run import Run
from scaling.quantities import short
from scaling.spec.parallel import check_parallel

REMEDY = "a larger budget or a smaller recipe.batch_tokens (now {batch} tokens, of sequences of {sequence}) mends this"


def check_limits(runs: Sequence[Run]) -> None:
    """ValueError for runs whose whole steps miss the budget by more than its tolerance, or are fewer than its least.

    ValueError too for runs on more devices than their batch has sequences, or in a kind of parallelism that is not
    theirs.
    """
    off = [run for run in runs if abs(run.allocation.off_by) > run.budget.tolerance]
    if off:
        worst = max(off, key=lambda run: abs(run.allocation.off_by))
        allocation, tolerance = worst.allocation, worst.budget.tolerance
        raise ValueError(
            f"{_which(worst, off, runs)}: {_steps(worst)} cost {allocation.realised_flops:.4g} FLOPs, "
            f"{allocation.off_by:+,.0%} off the {allocation.requested_flops:.4g} asked for, beyond "
            f"budget.tolerance={tolerance:g}; {_remedy(worst)}"
        )
    short_runs = [run for run in runs if run.allocation.steps < run.budget.least_steps]
    if short_runs:
        worst = min(short_runs, key=lambda run: run.allocation.steps)
        raise ValueError(
            f"{_which(worst, short_runs, runs)}: {_steps(worst)}, fewer than budget.least_steps="
            f"{worst.budget.least_steps}; {_remedy(worst)}"
        )

    for run in runs:
        check_parallel(run.runtime.parallel, run.runtime.devices_per_run, run.runtime.cuda_graphs)
    wide = [run for run in runs if run.spec.recipe.batch_sequences < run.runtime.devices_per_run]
    if wide:
        worst = min(wide, key=lambda run: run.spec.recipe.batch_sequences)
        sequences, devices = worst.spec.recipe.batch_sequences, worst.runtime.devices_per_run
        raise ValueError(
            f"{_which(worst, wide, runs)}: runtime.devices_per_run={devices}, and a batch has {sequences} "
            f"sequence{'' if sequences == 1 else 's'}, of which each device takes one at least; choose "
            f"runtime.devices_per_run={sequences}, or a larger recipe.batch_tokens"
        )


def _which(worst: Run, found: Sequence[Run], runs: Sequence[Run]) -> str:
    name = " ".join(worst.overrides) or f"run {worst.spec.run_id}"
    return f"{name} (the worst of {len(found)} of {len(runs)} runs)" if len(found) > 1 else name


def _steps(run: Run) -> str:
    steps = run.allocation.steps
    return f"{steps:,} step{'' if steps == 1 else 's'} of {short(run.spec.batch_tokens)} tokens"


def _remedy(run: Run) -> str:
    return REMEDY.format(batch=short(run.spec.batch_tokens), sequence=run.spec.model.sequence_tokens)
