"""Hydra's jobs, lists of overrides, run by our launchers; jobs of one shape are stacked where `stack` asks for it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import version
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from scaling.launch.jobs import Channel, Job
from scaling.launch.launchers import launcher, run_jobs
from scaling.launch.reporting import reporting_to
from scaling.launch.stacking import label, stacks
from scaling.machine.slots import gpu_ids
from scaling.records.record import DONE


def launch(
    settings: Mapping[str, Any],
    context: HydraContext,
    task: TaskFunction,
    config: DictConfig,
    job_overrides: Sequence[Sequence[str]],
    initial_job_idx: int,
) -> list[JobReturn]:
    """Run Hydra's jobs with the launcher of these settings; returns what became of each, in order."""
    use_gpus = config.runtime.device != "cpu" and bool(gpu_ids())
    study_dir = Path(config.hydra.sweep.dir)
    place = launcher(settings, use_gpus)
    together = stacks(job_overrides, config.stack, study_dir, use_gpus)
    jobs = [
        Job(
            label([job_overrides[index] for index in stack]),
            (context, task, config, [(list(job_overrides[index]), initial_job_idx + index) for index in stack]),
            runs=len(stack),
        )
        for stack in together
    ]
    run_jobs(place, jobs, _run_job, study_dir)
    returns: dict[int, JobReturn] = {}
    for job, stack in zip(jobs, together, strict=True):
        for number, index in enumerate(stack):
            outcome = JobReturn(overrides=list(job_overrides[index]), working_dir=str(study_dir))
            outcome.status = JobStatus.COMPLETED if job.status == DONE else JobStatus.FAILED
            outcome.return_value = (
                job.result[number] if job.status == DONE else RuntimeError(f"{job.status}: {job.why}")
            )
            returns[index] = outcome
    return [returns[index] for index in range(len(job_overrides))]


def _run_job(payload: Any, channel: Channel) -> list[Any]:
    """In the job's process: compose its configurations and run the task, as Hydra's own launchers do.

    The task of a stack only validates each configuration; its runs are trained when all are.
    """
    from scaling.launch.task import asked_run, train_together

    context, task, config, asked = payload
    setup_globals()
    Plugins.instance()  # registers what reads a searchpath, the user's own ./conf; once, in the fork server
    version.setbase("1.3")
    returned = []
    with reporting_to(channel):
        for overrides, index in asked:
            cfg = context.config_loader.load_sweep_config(config, overrides)
            with open_dict(cfg):
                cfg.hydra.job.id = f"{index}"
                cfg.hydra.job.num = index
                cfg.runtime.progress = False
                if cfg.runtime.threads is None:
                    cfg.runtime.threads = channel.threads
            outcome = run_job(
                task_function=task if len(asked) == 1 else asked_run,
                config=cfg,
                job_dir_key="hydra.sweep.dir",
                job_subdir_key="hydra.sweep.subdir",
                hydra_context=context,
            )
            returned.append(outcome.return_value)  # raises the task's own exception
        return returned if len(asked) == 1 else train_together(returned)
