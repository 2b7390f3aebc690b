"""`scaling finetune`: plan and price, fine-tune the missing runs with a launcher, and state how each ended."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console

from scaling.extras import extra
from scaling.finetune.plan import FinetuningPlan, PlannedFinetuning, describe, make_plan
from scaling.finetune.settings import read_settings
from scaling.launch.jobs import Channel, Job
from scaling.launch.launchers import make_launcher, run_jobs
from scaling.launch.reporting import ChannelReporter
from scaling.machine.slots import gpu_ids
from scaling.plan.status import explain
from scaling.quantities import until
from scaling.records.attempt import FAILED, LOST, is_trained_now, tally
from scaling.records.record import DIVERGED, DONE
from scaling.spec.runtime import Runtime
from scaling.terminal import flagged, terminal
from scaling.trackers import check_trackers

SHOWN = 12  # lines of the plan


def run_finetune(source: Path, overrides: Sequence[str]) -> tuple[Path, bool]:
    """Fine-tune a run, or all runs of a study; return the results' study and whether every run is finished.

    Raises ValueError, before anything is written, for impossible settings, starts and prices.
    """
    console = terminal(stderr=True)
    config, task, launcher_settings = read_settings(overrides)
    if task.metric == "bleu":
        extra("sacrebleu", f"task={task.kind}")
    launcher = make_launcher(launcher_settings, config.device != "cpu" and bool(gpu_ids()))
    plan = make_plan(source, config, task)
    _show(plan, console)
    missing = plan.missing
    if missing:
        check_trackers(plan.runtime.trackers, plan.runtime.tracker_settings)
    plan.write()
    if missing:
        console.print(f"on {len(launcher.slots)} slots {until(plan.seconds / len(launcher.slots))}", soft_wrap=True)
        jobs = [
            Job(
                run.label,
                (run, plan.runtime),
                is_busy=partial(is_trained_now, plan.runtime.run_dir(run.spec.run_id)),
            )
            for run in missing
        ]
        run_jobs(launcher, jobs, _finetune, plan.study_dir, preload=["scaling.finetune.loop"])
        for job in jobs:
            if job.status in (FAILED, LOST):
                look = f"; look at {job.log}" if job.log else ""
                console.print(f"{job.label} {job.status}: {job.why}{look}", soft_wrap=True)
    return plan.study_dir, _conclude(plan, console)


def _finetune(payload: tuple[PlannedFinetuning, Runtime], channel: Channel) -> str:
    """Fine-tune a run in its job's process; return the run's id."""
    from scaling.finetune.loop import finetune  # imports torch

    run, runtime = payload
    record = finetune(run, replace(runtime, threads=channel.threads), ChannelReporter(channel))
    channel.report(outcome=record.status)
    return record.run_id


def _show(plan: FinetuningPlan, console: Console) -> None:
    for why in plan.passed_over:
        console.print(flagged("passed over", why), soft_wrap=True)
    for run in plan.missing[:SHOWN]:
        console.print(describe(run), soft_wrap=True)
    if len(plan.missing) > SHOWN:
        console.print(f"… and {len(plan.missing) - SHOWN} more")
    console.print(plan.words(), soft_wrap=True)


def _conclude(plan: FinetuningPlan, console: Console) -> bool:
    """Print how every run ended; True when all are finished, diverged runs included."""
    states = plan.states()
    console.print(f"{plan.study_dir}: {len(states)} runs: {tally(states.values())}", soft_wrap=True)
    for run_id, state in states.items():
        if state.status == DIVERGED:
            console.print(explain(run_id, state), soft_wrap=True)
    finished = all(state.status in (DONE, DIVERGED) for state in states.values())
    if not finished:
        console.print("The same command again trains only what is missing, from the last checkpoints.")
    return finished
