"""Settings of `scaling finetune`: the sections of `conf/finetune.yaml`, typed, and the task that they name."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scaling.config.config import compose, typed
from scaling.config.launcher import launcher_settings
from scaling.config.presets import CONF_DIR
from scaling.config.settings import TrackerSettings
from scaling.finetune.tasks import TASKS, Task
from scaling.registry import choose
from scaling.spec.ranges import check_range
from scaling.spec.run_spec import OptimizerSpec, ParametrizationSpec, RecipeSpec, ScheduleSpec


@dataclass
class FinetuneRecipe:
    """The recipe of every run, pretrained or from scratch."""

    steps: int  # least steps of a run
    epochs: float  # least epochs over the fine-tuning set; the longer of both holds
    batch_examples: int
    learning_rate: float
    warmup: float  # share of the steps
    weight_decay: float
    beta1: float
    beta2: float
    eps: float
    clip_norm: float | None
    precision: str
    evaluations: int  # evaluations of a run on the examples that choose the step

    def __post_init__(self) -> None:
        for name in ("steps", "batch_examples", "evaluations"):
            check_range(f"recipe.{name}", getattr(self, name), least=1)
        for name in ("beta1", "beta2"):
            check_range(f"recipe.{name}", getattr(self, name), least=0, below=1)
        check_range("recipe.eps", self.eps, least=0)
        check_range("recipe.clip_norm", self.clip_norm, above=0)
        check_range("recipe.weight_decay", self.weight_decay, least=0)
        if self.evaluations > self.steps:
            raise ValueError(f"recipe.evaluations={self.evaluations}: at most recipe.steps={self.steps}")
        check_range("recipe.epochs", self.epochs, least=0)
        if not 0 <= self.warmup < 1 or not self.learning_rate > 0:
            raise ValueError(
                f"recipe.warmup={self.warmup}, recipe.learning_rate={self.learning_rate}: a share of the steps below "
                f"1, and a positive rate"
            )

    def resolved(self, examples: int, before: RecipeSpec) -> RecipeSpec:
        """The recipe for a set of `examples` examples, as in a run's spec: warm-up, then a linear fall to zero.

        The model keeps the multipliers of its recipe `before`; its hidden matrices keep their ratios of learning rate
        and decay.
        """
        steps = max(self.steps, math.ceil(self.epochs * examples / self.batch_examples))
        warmup = round(self.warmup * steps)
        return RecipeSpec(
            steps=steps,
            batch_sequences=self.batch_examples,
            optimizer=OptimizerSpec(
                "adamw", self.learning_rate, self.beta1, self.beta2, self.eps, self.weight_decay, self.clip_norm
            ),
            schedule=ScheduleSpec("wsd", warmup, steps - warmup, "linear", 0.0),
            precision=self.precision,
            compile=False,
            parametrization=self._parametrization(before),
        )

    def _parametrization(self, before: RecipeSpec) -> ParametrizationSpec | None:
        kept = before.parametrization
        if kept is None:
            return None
        decay = before.optimizer.weight_decay
        return replace(
            kept,
            hidden_learning_rate=self.learning_rate * kept.hidden_learning_rate / before.optimizer.learning_rate,
            hidden_weight_decay=self.weight_decay * kept.hidden_weight_decay / decay if decay else self.weight_decay,
        )


@dataclass
class FinetuneConfig:
    """The whole configuration of `scaling finetune`."""

    study: str | None  # null: the parent's study and the task
    runs_dir: str | None  # null: where the parent's study lies
    cache_dir: str | None  # folder of the parent's prepared data; null: cache/ where the parent's study lies
    seeds: list[int]
    scratch: bool
    task: dict[str, Any]
    recipe: FinetuneRecipe
    device: str
    slots: int | None
    threads_per_slot: int | None
    checkpoint_every_s: float
    keep_weights: bool
    total_flops: float | None
    tracker: TrackerSettings


def _check_known(path: Sequence[str], cfg: Any) -> None:
    """Raise ValueError, with the nearest name, for a setting that the configuration does not have."""
    for depth, name in enumerate(path):
        known = [str(key) for key in cfg if key != "hydra"]
        choose(f"setting {'.'.join(path[:depth])}.".removesuffix(" ."), dict.fromkeys(known), name)
        if depth < len(path) - 1:
            cfg = cfg[name]


def read_settings(overrides: Sequence[str]) -> tuple[FinetuneConfig, Task, dict[str, Any]]:
    """The configuration under these overrides, its task and its launcher's settings; ValueError for wrong settings."""
    for override in overrides:
        name, _, value = override.partition("=")
        if name == "task":
            folders = (CONF_DIR / "task", Path.cwd() / "conf" / "task")
            choose("task", {path.stem: path for folder in folders for path in folder.glob("*.yaml")}, value)
    named = compose([override for override in overrides if override.startswith(("task=", "tracker="))], "finetune")
    for override in overrides:
        if not override.startswith("hydra"):
            _check_known(override.partition("=")[0].split("."), named)
    cfg = compose(overrides, "finetune")
    config = typed(cfg, FinetuneConfig)
    task = typed(cfg.task, choose("task.kind", TASKS, str(config.task.get("kind"))), "task")
    if not config.seeds:
        raise ValueError("seeds is empty; give at least one, e.g. seeds=[0]")
    own = {"slots": config.slots, "threads_per_slot": config.threads_per_slot}
    return config, task, launcher_settings(cfg) | {name: value for name, value in own.items() if value is not None}
