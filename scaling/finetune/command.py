"""`scaling finetune`: plan and price, train what is missing on every core, say what became of it."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from scaling.data.extra import extra
from scaling.finetune.plan import TuningPlan, describe, make_plan
from scaling.finetune.settings import read_settings
from scaling.launch.pool import Job, Pool
from scaling.launch.sweep import explain
from scaling.launch.table import LiveTable
from scaling.machine.slots import gpu_ids, slots
from scaling.records.attempt import FAILED, KILLED, run_state, tally
from scaling.records.record import DIVERGED, DONE

SHOWN = 12  # lines of the plan


def run_finetune(source: Path, overrides: Sequence[str]) -> tuple[Path, bool]:
    """Fine-tune a run, or all of a study's; returns the study of the results and whether every run is finished.

    ValueError, before anything is written, for whatever cannot be done.
    """
    console = Console(stderr=True)
    config, task = read_settings(overrides)
    if task.metric == "bleu":
        extra("sacrebleu", f"task={task.kind}")
    use_gpus = config.device != "cpu" and bool(gpu_ids())
    places = slots(config.slots, config.threads_per_slot, use_gpus)
    plan = make_plan(source, config, task)
    _show(plan, console)
    missing = plan.missing
    plan.write()
    if missing:
        from scaling.finetune.loop import Tuning, run_job  # imports torch

        jobs = [
            Job(run.label, Tuning(run, plan.cache_dir, config.device, None, config.keep_weights)) for run in missing
        ]
        pool = Pool(places, run_job, plan.study_dir, preload=["scaling.launch.preload", "scaling.finetune.loop"])
        with LiveTable(jobs, places) as table:
            pool.run(jobs, table.refresh)
        for job in jobs:
            if job.status in (FAILED, KILLED):
                look = f"; look at {job.log}" if job.log else ""
                console.print(f"{job.label} {job.status}: {job.why}{look}", highlight=False, soft_wrap=True)
    return plan.study_dir, _conclude(plan, console)


def _show(plan: TuningPlan, console: Console) -> None:
    for why in plan.passed_over:
        console.print(f"[yellow]passed over[/yellow] {why}", highlight=False, soft_wrap=True)
    for run in plan.missing[:SHOWN]:
        console.print(describe(run), highlight=False, soft_wrap=True)
    if len(plan.missing) > SHOWN:
        console.print(f"… and {len(plan.missing) - SHOWN} more")
    console.print(plan.words(), highlight=False, soft_wrap=True)


def _conclude(plan: TuningPlan, console: Console) -> bool:
    """Say what became of every run; True when all are finished, diverged ones included."""
    states = {run.spec.run_id: run_state(run.run_dir) for run in plan.runs}
    console.print(f"{plan.study_dir}: {len(states)} runs: {tally(states.values())}", highlight=False, soft_wrap=True)
    for run_id, state in states.items():
        if state.status == DIVERGED:
            console.print(explain(plan.study_dir, run_id, state), highlight=False, soft_wrap=True)
    finished = all(state.status in (DONE, DIVERGED) for state in states.values())
    if not finished:
        console.print("The same command again trains only what is missing.")
    return finished
