"""One sweep, from its grid to its last line: plan, launch what is missing, say honestly what became of it."""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.errors import CompactHydraException
from omegaconf import DictConfig
from rich.console import Console

from scaling.config.grid import cell_runs, cells, grid_of, split_axes
from scaling.data.prepare import prepare
from scaling.launch.stacking import PLANNED
from scaling.plan.branches import is_begun
from scaling.plan.plan import Plan, PlannedRun, make_plan, spending
from scaling.plan.run import Run
from scaling.plan.tables import print_plan
from scaling.records.attempt import INTERRUPTED, PENDING, RunState, run_state, tally
from scaling.records.record import DIVERGED, DONE, read_record


def expand(
    cfg: DictConfig, fixed: Sequence[str], axes: Mapping[str, Sequence[str]], load: Callable[[Any, Any], DictConfig]
) -> list[Run]:
    """Every run of a configuration, as `split_axes` took its command line apart.

    What the command line fixes to one value is no axis of the sweep any more: `seed=0` of a sweep over seeds.
    ValueError for what it sets and every cell would set again.
    """
    grid, held = grid_of(cfg), {override.partition("=")[0].lstrip("+") for override in fixed}
    for name in sorted({*held, *axes}):
        if where := grid.sets(name):
            raise ValueError(f"{name} is what the sweep's {where} sets in every cell: override that instead")
    grid = replace(grid, axes={name: values for name, values in grid.axes.items() if name not in held})

    def composed(row: Sequence[str]) -> DictConfig:
        return load(cfg, [*fixed, *row])

    return cell_runs(cfg, cells(grid, cfg, axes, composed), composed)


def sweep(
    cfg: DictConfig,
    arguments: Sequence[str],
    load: Callable[[Any, Any], DictConfig],
    launch: Callable[..., Sequence[Any]],
) -> Sequence[Any]:
    """Train what is missing; raises SystemExit(1) when something failed, after saying what and how to look."""
    console = Console(stderr=True)
    fixed, axes = split_axes(arguments)
    try:
        runs = expand(cfg, fixed, axes, load)
        plan = make_plan(runs, cfg.budget.total_flops)
        print_plan(plan, console, cfg.question)
        if plan.missing:
            prepare_data(runs)
        return launch_plan(plan, fixed, launch, console)  # a launcher, too, may find its settings impossible
    except ValueError as error:
        raise CompactHydraException(str(error)) from error


def launch_plan(
    plan: Plan, fixed: Sequence[str], launch: Callable[..., Sequence[Any]], console: Console
) -> Sequence[Any]:
    """Write the plan and train what it misses; raises SystemExit(1) unless every run of it then is finished."""
    plan.write()
    returns: list[Any] = []
    launched: set[str] = set()
    while wave := next_wave(plan, launched):
        jobs = [[*fixed, *run.overrides, f"{PLANNED}'{run.run_id}'"] for run in wave]
        returns += launch(jobs, initial_job_idx=len(launched))
        launched |= {run.run_id for run in wave}
        if any(run_state(plan.study_dir / run.run_id).status in (INTERRUPTED, PENDING) for run in wave):
            break  # somebody asked for an end
    if not conclude(plan, console):
        raise SystemExit(1)
    return returns


def prepare_data(runs: Sequence[Run]) -> None:
    """Prepare what these runs read: here, once, with progress; bad input ends a sweep before it starts."""
    for data, spec in {run.spec.data: (run.data, run.spec.data) for run in runs}.values():
        prepare(data, spec, runs[0].runtime.cache_dir, progress=True)


def next_wave(plan: Plan, launched: Container[str]) -> list[PlannedRun]:
    """What can start now of the runs that were not launched yet; empty at the end.

    Of each trunk the longest run goes first, and on its way begins the others, which follow when it has ended. They
    wait for another command if it failed: alone each would cost all its steps, which nobody planned to pay.
    """

    def begun(run: PlannedRun) -> bool:
        return is_begun(plan.study_dir / run.run_id, run.trunk_steps)

    missing = [run for run in plan.missing if read_record(plan.study_dir / run.run_id) is None]
    longest = {run.trunk: run for run in sorted(missing, key=lambda run: run.trunk_steps) if not begun(run)}
    ready = [run for run in missing if run.trunk is None or longest.get(run.trunk) is run or begun(run)]
    return [run for run in ready if run.run_id not in launched]


def conclude(plan: Plan, console: Console) -> bool:
    """Say what became of every run of the plan; True when all are finished, diverged ones included."""
    states = {run.run_id: run_state(plan.study_dir / run.run_id) for run in plan.runs}
    said = f"{plan.study_dir}: {len(states)} runs: {tally(states.values())}; {spending(plan.study_dir)}"
    console.print(said, highlight=False, soft_wrap=True)
    branches = {run.run_id for run in plan.runs if run.trunk is not None}
    for run_id, state in states.items():
        if state.status != DONE:
            waits = "waits for the run that takes its first steps" if run_id in branches else "never started"
            console.print(explain(plan.study_dir, run_id, state, waits), highlight=False, soft_wrap=True)
    finished = all(state.status in (DONE, DIVERGED) for state in states.values())
    if not finished:
        console.print("The same command again trains only what is missing, from the last checkpoints.")
    return finished


def explain(study_dir: Path, run_id: str, state: RunState, waits: str = "never started") -> str:
    """One line on a run that is not done: what happened and where to look."""
    look = f"; look at {state.log}" if state.log and state.log.exists() else ""
    return f"  {run_id} {state.status} at step {state.step}: {state.why or waits}{look}"
