"""The launcher's settings in Hydra's configuration, checked against the launcher's own file."""

from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from scaling.config.presets import CONF_DIR
from scaling.registry import choose

# Whole numbers by name, as a default of null states no type.
WHOLE = ("slots", "threads_per_slot", "gpus", "cpus", "nodes", "array_parallel")
KINDS = {int: "a whole number", bool: "true or false", ListConfig: "a list, as [a,b]"}


def launcher_settings(cfg: DictConfig) -> dict[str, Any]:
    """The launcher's settings; ValueError for one that its own file does not have, or has of another type.

    Those of a launcher of Hydra's are left to Hydra.
    """
    if "name" not in cfg.hydra.launcher:
        return {"_target_": cfg.hydra.launcher.get("_target_")}
    settings = {str(name): value for name, value in cfg.hydra.launcher.items()}
    file = CONF_DIR / "hydra" / "launcher" / f"{settings['name']}.yaml"
    if not file.is_file():  # a user's own
        return settings
    known = dict(OmegaConf.load(file))
    for name, value in settings.items():
        default = choose("setting of hydra.launcher", known, name)
        if value is None and default is None:
            continue
        kind = int if name in WHOLE else type(default)
        if kind in KINDS and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
            null = ", or null" if default is None else ""
            raise ValueError(f"hydra.launcher.{name}={value}: must be {KINDS[kind]}{null}")
    return settings
