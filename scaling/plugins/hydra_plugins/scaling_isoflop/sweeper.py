"""The sweeper's shim: `scaling.config.grid` makes the grid, `scaling.plan.plan` the prices."""

from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class IsoflopSweeper(Sweeper):
    """The sweeper expands, prices and caps a grid; missing runs go longest first, and trunks before branches."""

    def __init__(self, **settings: Any) -> None:
        self._settings = settings  # read again, validated, by scaling.config.grid.grid_of

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._config = config
        self._load = hydra_context.config_loader.load_sweep_config
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        from scaling.launch.sweep import sweep

        return sweep(self._config, arguments, self._load, self._launcher.launch)
