"""The launcher's shim: Hydra's job lists in, `scaling.launch.pool` underneath, Hydra's job returns out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict


class LocalLauncher(Launcher):
    """Runs each job in a process of its own, one a slot."""

    def __init__(self, slots: int | None, threads_per_slot: int | None) -> None:
        self._slots = slots
        self._threads_per_slot = threads_per_slot

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._context = hydra_context
        self._task = task_function
        self._config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from scaling.launch.devices import gpu_ids, slots
        from scaling.launch.pool import DONE, Job, Pool
        from scaling.launch.table import LiveTable

        use_gpus = self._config.runtime.device != "cpu" and bool(gpu_ids())
        study_dir = Path(self._config.hydra.sweep.dir)
        shared = (self._context, self._task, self._config)
        jobs = [
            Job(" ".join(overrides), (*shared, list(overrides), initial_job_idx + index))
            for index, overrides in enumerate(job_overrides)
        ]
        places = slots(self._slots, self._threads_per_slot, use_gpus)
        pool = Pool(places, _run_job, study_dir, preload=["scaling.launch.preload"])
        with LiveTable(jobs, places) as table:
            pool.run(jobs, table.refresh)
        returns = []
        for job in jobs:
            outcome = JobReturn(overrides=job.label.split(" "), working_dir=str(study_dir))
            outcome.status = JobStatus.COMPLETED if job.status == DONE else JobStatus.FAILED
            outcome.return_value = job.result if job.status == DONE else RuntimeError(f"{job.status}: {job.why}")
            returns.append(outcome)
        return returns


def _run_job(payload: Any, channel: Any) -> Any:
    """In the job's process: compose its configuration and run the task, as Hydra's own launchers do."""
    from hydra import version
    from hydra.core.plugins import Plugins
    from hydra.core.utils import run_job, setup_globals

    from scaling.launch.reporting import use_channel

    context, task, config, overrides, index = payload
    setup_globals()
    Plugins.instance()  # registers what reads a searchpath, the user's own ./conf; once, in the fork server
    version.setbase("1.3")
    use_channel(channel)
    cfg = context.config_loader.load_sweep_config(config, overrides)
    with open_dict(cfg):
        cfg.hydra.job.id = f"{index}"
        cfg.hydra.job.num = index
        cfg.runtime.progress = False
        if cfg.runtime.threads is None:
            cfg.runtime.threads = channel.threads
    outcome = run_job(
        task_function=task,
        config=cfg,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
        hydra_context=context,
    )
    return outcome.return_value  # raises what the task raised
