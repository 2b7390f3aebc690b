"""Hydra's jobs, which are lists of overrides, run by our launchers; `stack` makes stacks of jobs of one shape."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from hydra import version
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from scaling.launch.jobs import Channel, Job, JobEndedError
from scaling.launch.launchers import STARTERS, make_launcher, run_jobs
from scaling.launch.reporting import reporting_to
from scaling.launch.stacking import job_labels, most_nodes, planned_ids, stacks, widths
from scaling.machine.nodes import check_nodes
from scaling.machine.slots import gpu_ids
from scaling.plan.run import Run
from scaling.plan.work import read_work
from scaling.records.attempt import is_trained_now, run_state
from scaling.records.record import DONE, readable_record


def launch(
    settings: Mapping[str, Any],
    context: HydraContext,
    task: TaskFunction,
    config: DictConfig,
    job_overrides: Sequence[Sequence[str]],
    initial_job_idx: int,
) -> list[JobReturn]:
    """Run Hydra's jobs with the launcher of these settings; return the outcome of each job, in order."""
    if settings.get("name") in STARTERS:
        return _start_workers(settings, Path(config.hydra.sweep.dir), job_overrides)
    use_gpus = config.runtime.device != "cpu" and bool(gpu_ids())
    study_dir = Path(config.hydra.sweep.dir)
    if config.runtime.device == "mps" and settings.get("name") == "local":  # one GPU, where slots are cores
        settings = {**settings, "slots": settings.get("slots") or 1}
    launcher = make_launcher(settings, use_gpus)
    job_stacks = stacks(job_overrides, config.stack, study_dir, use_gpus)
    ids = planned_ids(job_overrides)
    # A planned run is read from the plan, because Hydra takes a third of a second to compose its configuration again;
    # a user's own callbacks of Hydra see each job all the same.
    is_planned = len(ids) == len(job_overrides) and not config.hydra.callbacks
    work = read_work(study_dir) if is_planned else None

    def payload(stack: Sequence[int]) -> Any:
        if work is not None:
            return [work.run(ids[index]) for index in stack]
        return context, task, config, [(list(job_overrides[index]), initial_job_idx + index) for index in stack]

    check_nodes(most_nodes(job_overrides, config.runtime.nodes_per_run, study_dir), 1, _place(settings))
    slots = widths(job_overrides, config.runtime.devices_per_run, study_dir)
    jobs = [
        Job(
            name,
            payload(stack),
            runs=len(stack),
            slots=slots[stack[0]],
            is_busy=partial(_all_trained_now, study_dir, planned_ids([job_overrides[index] for index in stack])),
        )
        for stack, name in zip(job_stacks, job_labels(job_overrides, job_stacks, study_dir), strict=True)
    ]
    run_jobs(launcher, jobs, _run_job if work is None else _train_planned, study_dir, fail_fast=config.fail_fast)
    returns: dict[int, JobReturn] = {}
    for job, stack in zip(jobs, job_stacks, strict=True):
        for number, index in enumerate(stack):
            outcome = JobReturn(overrides=list(job_overrides[index]), working_dir=str(study_dir))
            outcome.status = JobStatus.COMPLETED if job.status == DONE else JobStatus.FAILED
            outcome.return_value = job.result[number] if job.status == DONE else JobEndedError(job)
            returns[index] = outcome
    return [returns[index] for index in range(len(job_overrides))]


def _start_workers(
    settings: Mapping[str, Any], study_dir: Path, job_overrides: Sequence[Sequence[str]]
) -> list[JobReturn]:
    """Start workers of the planned study elsewhere and wait for its runs; return the outcomes of these jobs."""
    from scaling.launch.task import loss_of

    own = {name: value for name, value in settings.items() if name not in ("_target_", "name")}
    ids = planned_ids(job_overrides)
    if len(ids) < len(job_overrides):
        raise ValueError(f"hydra/launcher={settings['name']} starts workers of a plan: use hydra/sweeper=isoflop")
    work = read_work(study_dir)
    check_nodes(work.most_nodes, settings.get("nodes", 1), _place(settings))
    planned = [str(line["run_id"]) for line in work.lines]

    def unfinished() -> int:
        return sum(not (study_dir / run_id / "record.json").exists() for run_id in planned)

    if not STARTERS[settings["name"]](study_dir, work.plan_id, unfinished, own):
        raise SystemExit(0)  # the runs train elsewhere, and nobody waits
    returns = []
    for overrides, run_id in zip(job_overrides, ids, strict=True):
        record, state = readable_record(study_dir / run_id), run_state(study_dir / run_id)
        outcome = JobReturn(overrides=list(overrides), working_dir=str(study_dir))
        outcome.status = JobStatus.FAILED if record is None else JobStatus.COMPLETED
        ended = Job(run_id, None, status=state.status, why=state.why, log=state.log)
        outcome.return_value = JobEndedError(ended) if record is None else loss_of(record)
        returns.append(outcome)
    return returns


def _place(settings: Mapping[str, Any]) -> str:
    """The place where a launcher's nodes are counted, in words."""
    own = f" hydra.launcher.nodes={settings['nodes']}" if "nodes" in settings else ""
    return f"with hydra/launcher={settings.get('name')}{own}"


def _all_trained_now(study_dir: Path, run_ids: Sequence[str]) -> bool:
    """Whether other processes train every run of these that is not finished."""
    missing = [study_dir / run_id for run_id in run_ids if not (study_dir / run_id / "record.json").exists()]
    return bool(missing) and all(is_trained_now(run_dir) for run_dir in missing)


def _train_planned(runs: Sequence[Run], channel: Channel) -> list[float]:
    """Train a job's planned runs in its process; return their losses."""
    from scaling.launch.task import train_alone, train_in_lockstep

    with reporting_to(channel):
        given = [replace(run, runtime=run.runtime.with_threads(channel.threads)) for run in runs]
        return [train_alone(given[0])] if len(given) == 1 else train_in_lockstep(given)


def _run_job(payload: Any, channel: Channel) -> list[Any]:
    """Compose a job's configurations in its process and run the task, as Hydra's own launchers do.

    The task of a stack only validates each configuration; the stack's runs train once all are valid.
    """
    from scaling.launch.task import configured_run, train_in_lockstep

    context, task, config, stack = payload
    setup_globals()
    Plugins.instance()  # registers the reader of the search path, for the user's own ./conf; once, in the fork server
    version.setbase("1.3")
    returned = []
    with reporting_to(channel):
        for overrides, index in stack:
            cfg = context.config_loader.load_sweep_config(config, overrides)
            with open_dict(cfg):
                cfg.hydra.job.id = f"{index}"
                cfg.hydra.job.num = index
                cfg.runtime.progress = False
                if cfg.runtime.threads is None:
                    cfg.runtime.threads = channel.threads
            outcome = run_job(
                task_function=task if len(stack) == 1 else configured_run,
                config=cfg,
                job_dir_key="hydra.sweep.dir",
                job_subdir_key="hydra.sweep.subdir",
                hydra_context=context,
            )
            returned.append(outcome.return_value)  # raises the task's own exception
        return returned if len(stack) == 1 else train_in_lockstep(returned)
