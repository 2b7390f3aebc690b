"""The launcher's shim: Hydra's job lists in, `scaling.launch.pool` underneath, Hydra's job returns out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict


class LocalLauncher(Launcher):
    """Runs each job in a process of its own, one a slot, or a stack of jobs in one."""

    def __init__(self, slots: int | None, threads_per_slot: int | None) -> None:
        self._slots = slots
        self._threads_per_slot = threads_per_slot

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._context = hydra_context
        self._task = task_function
        self._config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from scaling.launch.pool import Job, Pool
        from scaling.launch.stacking import label, stacks
        from scaling.launch.table import LiveTable
        from scaling.machine.slots import gpu_ids, slots
        from scaling.records.record import DONE

        use_gpus = self._config.runtime.device != "cpu" and bool(gpu_ids())
        study_dir = Path(self._config.hydra.sweep.dir)
        shared = (self._context, self._task, self._config)
        places = slots(self._slots, self._threads_per_slot, use_gpus)
        together = stacks(job_overrides, self._config.stack, study_dir, use_gpus)
        jobs = [
            Job(
                label([job_overrides[index] for index in stack]),
                (*shared, [(list(job_overrides[index]), initial_job_idx + index) for index in stack]),
                runs=len(stack),
            )
            for stack in together
        ]
        pool = Pool(places, _run_job, study_dir, preload=["scaling.launch.preload"])
        with LiveTable(jobs, places) as table:
            pool.run(jobs, table.refresh)
        returns: dict[int, JobReturn] = {}
        for job, stack in zip(jobs, together, strict=True):
            for place, index in enumerate(stack):
                outcome = JobReturn(overrides=list(job_overrides[index]), working_dir=str(study_dir))
                outcome.status = JobStatus.COMPLETED if job.status == DONE else JobStatus.FAILED
                outcome.return_value = (
                    job.result[place] if job.status == DONE else RuntimeError(f"{job.status}: {job.why}")
                )
                returns[index] = outcome
        return [returns[index] for index in range(len(job_overrides))]


def _run_job(payload: Any, channel: Any) -> list[Any]:
    """In the job's process: compose its configurations and run the task, as Hydra's own launchers do.

    A stack's task only says which runs are asked for, and they are trained when all have said so.
    """
    from hydra import version
    from hydra.core.plugins import Plugins
    from hydra.core.utils import run_job, setup_globals

    from scaling.launch.reporting import use_channel
    from scaling.launch.task import asked_run, train_stack

    context, task, config, asked = payload
    setup_globals()
    Plugins.instance()  # registers what reads a searchpath, the user's own ./conf; once, in the fork server
    version.setbase("1.3")
    use_channel(channel)
    returned = []
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
        returned.append(outcome.return_value)  # raises what the task raised
    return returned if len(asked) == 1 else train_stack(returned)
