"""The launchers' shim: a launcher of `scaling.launch.launchers` runs Hydra's jobs and gives Hydra's returns."""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class ScalingLauncher(Launcher):
    """A Hydra launcher that runs jobs, or stacks of jobs, with the launcher that the configuration names."""

    def __init__(self, **settings: Any) -> None:
        self._settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._shared = (hydra_context, task_function, config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from scaling.launch.hydra_jobs import launch

        return launch(self._settings, *self._shared, job_overrides, initial_job_idx)
