"""A sweep from its grid to its last line: plan the runs, launch the missing ones, and print every outcome."""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from hydra.errors import CompactHydraException
from omegaconf import DictConfig
from rich.console import Console

from scaling.config.config import check_folders
from scaling.config.grid import cell_runs, cells, grid_of, split_axes
from scaling.config.launcher import launcher_settings
from scaling.config.sections import Rows
from scaling.data.prepare import prepare
from scaling.launch.jobs import JobEndedError
from scaling.launch.stacking import PLANNED_RUN
from scaling.machine.slots import gpu_ids
from scaling.plan.branches import is_begun
from scaling.plan.columns import print_prose
from scaling.plan.degrees import with_devices_of
from scaling.plan.plan import Plan, PlannedRun, make_plan
from scaling.plan.plan_file import spending
from scaling.plan.run import Run
from scaling.plan.status import explain
from scaling.plan.tables import print_plan
from scaling.plan.work import write_work
from scaling.records.attempt import FAILED, LOST, PLANNED, PREEMPTED, RunState, run_state, tally
from scaling.records.leftovers import tidy
from scaling.records.record import DIVERGED, DONE
from scaling.terminal import terminal
from scaling.trackers import check_trackers


def expand(
    cfg: DictConfig, fixed: Sequence[str], axes: Mapping[str, Sequence[str]], load: Callable[[Any, Any], DictConfig]
) -> list[Run]:
    """Every run of a configuration, with the command line's `fixed` overrides and `axes` from `split_axes`.

    A setting that the command line fixes to one value is no longer an axis of the sweep, as `seed=0` in a sweep over
    seeds. Raises ValueError for a setting that both the command line and every cell set.
    """
    check_folders(cfg.hydra, cfg.runs_dir, cfg.study)
    launcher_settings(cfg)
    grid, held = grid_of(cfg), {override.partition("=")[0].lstrip("+") for override in fixed}
    for name in sorted({*held, *axes}):
        if where := grid.sets(name):
            raise ValueError(f"{name} is what the sweep's {where} sets in every cell: override that instead")
    grid = replace(
        grid,
        axes={name: values for name, values in grid.axes.items() if name not in held},
        zip={name: values for name, values in grid.zip.items() if name not in held and name not in axes},
    )

    def composed(row: Sequence[str]) -> DictConfig:
        return load(cfg, [*fixed, *row])

    rows = Rows(cfg, composed)
    return cell_runs(rows, cells(grid, axes, rows))


def sweep(
    cfg: DictConfig,
    arguments: Sequence[str],
    load: Callable[[Any, Any], DictConfig],
    launch: Callable[..., Sequence[Any]],
) -> Sequence[Any]:
    """Plan a sweep and train its missing runs; raise SystemExit(1) after a failure, with the failures printed."""
    console = terminal(stderr=True)
    fixed, axes = split_axes(arguments)
    try:
        runs = expand(cfg, fixed, axes, load)
        runs = with_devices_of(cfg.hydra.launcher, runs)
        plan = make_plan(runs, cfg.budget.total_flops)
        print_plan(plan, console, cfg.question)
        for run in runs:
            if (run.directory / "record.json").exists():  # a process killed after its record leaves files behind
                tidy(run.directory, keep_weights=run.runtime.keep_weights)
        if plan.missing:
            check_trackers(runs[0].runtime.trackers, runs[0].runtime.tracker_settings)
            prepare_data(runs)
        write_work(plan.study_dir, runs, cfg.retries)
        # A launcher, too, may raise ValueError for its settings.
        return launch_plan(plan, fixed, launch, console, fail_fast=cfg.fail_fast)
    except ValueError as error:
        raise CompactHydraException(str(error)) from error


def launch_plan(
    plan: Plan,
    fixed: Sequence[str],
    launch: Callable[..., Sequence[Any]],
    console: Console,
    *,
    fail_fast: bool = False,
) -> Sequence[Any]:
    """Write the plan and train its missing runs; raise SystemExit(1) unless every planned run is finished then.

    With `fail_fast`, no other wave of runs starts after a failure.
    """
    plan.write()
    returns: list[Any] = []
    launched: set[str] = set()
    unclaimed: dict[str, RunState] = {}  # states of jobs that ended before they had claimed their run
    while wave := next_wave(plan, launched):
        jobs = [[*fixed, *run.overrides, f"{PLANNED_RUN}'{run.run_id}'"] for run in wave]
        outcomes = launch(jobs, initial_job_idx=len(launched))
        returns += outcomes
        launched |= {run.run_id for run in wave}
        states = {run.run_id: run_state(plan.study_dir / run.run_id) for run in wave}
        for run, outcome in zip(wave, outcomes, strict=False):  # Hydra's own launchers end with the first failure
            if states[run.run_id].status == PLANNED and (end := _end_of_job(outcome)) is not None:
                states[run.run_id] = unclaimed[run.run_id] = end
        ends = {state.status for state in states.values()}
        if ends & {PREEMPTED, PLANNED} or (fail_fast and ends & {FAILED, LOST}):
            break  # the user, or a failure, stopped the sweep
    if not conclude(plan, console, unclaimed):
        raise SystemExit(1)
    return returns


def _end_of_job(outcome: Any) -> RunState | None:
    """The end of a Hydra job that failed, None for another outcome."""
    try:
        _ = outcome.return_value
    except JobEndedError as error:
        return RunState(error.status, 0, 0, error.why, log=error.log)
    except Exception:  # of Hydra's own launchers, which have printed the error
        return None
    return None


def prepare_data(runs: Sequence[Run]) -> None:
    """Prepare the data of all runs once, with a progress bar; bad input, or no GPU, ends a sweep before it starts."""
    if any(run.runtime.device == "cuda" for run in runs) and not gpu_ids():
        raise ValueError("runtime.device=cuda, but the driver has no GPU here; use runtime.device=cpu or auto")
    for data, spec in {run.spec.data: (run.data, run.spec.data) for run in runs}.values():
        prepare(data, spec, runs[0].runtime.cache_dir, progress=True)


def next_wave(plan: Plan, launched: Container[str]) -> list[PlannedRun]:
    """Missing runs that can start now and were not launched yet; empty at the end.

    The longest run of each trunk goes first and writes the checkpoints of its branches, which follow when it has ended.
    If it failed, the branches wait for another command: alone, each would pay for all its steps, which was not planned.
    """

    def begun(run: PlannedRun) -> bool:
        return is_begun(plan.study_dir / run.run_id, run.trunk_steps)

    missing = [run for run in plan.missing if not (plan.study_dir / run.run_id / "record.json").exists()]
    longest = {run.trunk: run for run in sorted(missing, key=lambda run: run.trunk_steps) if not begun(run)}
    ready = [run for run in missing if run.trunk is None or longest.get(run.trunk) is run or begun(run)]
    return [run for run in ready if run.run_id not in launched]


def conclude(plan: Plan, console: Console, unclaimed: Mapping[str, RunState] = MappingProxyType({})) -> bool:
    """Print the outcome of every planned run; True when all are finished, diverged runs included.

    `unclaimed` holds the states of jobs that ended before they had claimed their run.
    """
    states = {run.run_id: unclaimed.get(run.run_id) or run_state(plan.study_dir / run.run_id) for run in plan.runs}
    summary = f"{plan.study_dir}: {len(states)} runs: {tally(states.values())}; {spending(plan.study_dir)}"
    print_prose(console, summary)
    branches = {run.run_id for run in plan.runs if run.trunk is not None}
    for run_id, state in states.items():
        if state.status != DONE:
            waits = "waits for the run that takes its first steps" if run_id in branches else "never started"
            print_prose(console, explain(run_id, state, waits))
    finished = all(state.status in (DONE, DIVERGED) for state in states.values())
    if not finished:
        console.print("The same command again trains only what is missing, from the last checkpoints.")
    return finished
