"""Settings of the configuration as dataclasses: names and types; values live in conf/*.yaml, never here."""

from dataclasses import dataclass, fields, make_dataclass
from typing import Any

from scaling.shapes.shape import TransformerShape
from scaling.spec.budget import Budget
from scaling.spec.parallel import AUTO, CHOICES, FSDP, HSDP
from scaling.spec.ranges import check_range
from scaling.spec.recipe import RecipeRules
from scaling.trackers import check_settings

# Fields of a shape that may be null: n_heads, ff_ratio and the data's vocabulary then decide them.
DERIVED = dict.fromkeys(("n_kv_heads", "d_ff", "vocab_size"), int | None)

_Shared = make_dataclass("_Shared", [(f.name, DERIVED.get(f.name, f.type)) for f in fields(TransformerShape)])


@dataclass
class ModelSettings(_Shared):  # type: ignore[valid-type, misc]  # so that a new field of the shape is a setting too
    """The model: fields that the shapes of all families share, and settings that decide the derived ones."""

    ff_ratio: float
    ff_multiple: int
    family: dict[str, Any]  # fields of this kind's own class in shapes/families.py, without those that are derived


@dataclass
class DataSettings:
    """The data: a source, its tokenizer and split, and how much of the training data is made worse."""

    source: dict[str, Any]  # "kind" and the fields of that source's class in scaling/data/sources.py
    tokenizer: str
    tokenizer_path: str | None
    end_token: str | None
    vocab_size: int
    val_fraction: float
    noise: float
    duplicate: float
    quality_seed: int


@dataclass
class RuntimeSettings:
    """The runtime: how a run executes; `spec/runtime.py` explains each field."""

    device: str
    devices_per_run: Any  # a number, or "auto"
    nodes_per_run: int
    parallel: str
    rank_timeout_s: float
    threads: int | None
    micro_batch_sequences: int | None
    recompute_activations: bool
    cuda_graphs: bool
    log_points: int
    eval_fractions: list[float]
    checkpoint_every_s: float
    keep_weights: bool
    progress: bool

    def __post_init__(self) -> None:
        check_range("runtime.log_points", self.log_points, least=1)
        by_plan = self.devices_per_run == AUTO
        if not by_plan and not (type(self.devices_per_run) is int and self.devices_per_run >= 1):
            raise ValueError(
                f"runtime.devices_per_run={self.devices_per_run}: must be at least 1, a run a device, or auto for as "
                f"few as hold the run and end it within budget.run_hours"
            )
        if self.nodes_per_run < 1 or not (by_plan or self.devices_per_run % self.nodes_per_run == 0):
            raise ValueError(
                f"runtime.nodes_per_run={self.nodes_per_run}: runtime.devices_per_run={self.devices_per_run} in all "
                f"are spread evenly over one node or more; choose a divisor of them"
            )
        if self.parallel not in CHOICES:
            raise ValueError(f"runtime.parallel={self.parallel!r}: choose from {', '.join(CHOICES)}")
        check_range("runtime.rank_timeout_s", self.rank_timeout_s, above=0)
        check_range("runtime.checkpoint_every_s", self.checkpoint_every_s, least=0)
        check_range("runtime.threads", self.threads, least=1)
        if self.micro_batch_sequences is not None and self.micro_batch_sequences < 1:
            raise ValueError(
                f"runtime.micro_batch_sequences={self.micro_batch_sequences}: must be at least 1, or null for as many "
                f"as fit into memory"
            )
        for fraction in self.eval_fractions:
            if not 0 < fraction <= 1:
                raise ValueError(f"runtime.eval_fractions holds {fraction}: fractions lie above 0 and up to 1")


@dataclass
class TrackerSettings:
    """The trackers that mirror a run, and the settings of all of them."""

    names: dict[str, bool]  # by name, so that the files of several, tracker=[wandb,tensorboard], add up
    settings: dict[str, Any]

    def chosen(self) -> tuple[str, ...]:
        """The names of the trackers that are on, checked together with their settings."""
        names = tuple(name for name, on in self.names.items() if on)
        check_settings(names, self.settings)
        return names


@dataclass
class Config:
    """The whole configuration of a run."""

    question: str | None
    study: str
    runs_dir: str
    cache_dir: str
    seed: int
    val_tokens: int
    stack: int
    retries: int
    fail_fast: bool
    planned: str | None
    init_from: str | None
    model: ModelSettings
    objective: dict[str, Any]  # "kind" and the fields of that objective's class in scaling/spec/objective.py
    data: DataSettings
    recipe: RecipeRules
    budget: Budget
    runtime: RuntimeSettings
    tracker: TrackerSettings

    def __post_init__(self) -> None:
        check_range("seed", self.seed, least=0)
        check_range("val_tokens", self.val_tokens, least=1)
        check_range("stack", self.stack, least=1)
        if self.retries < 0:
            raise ValueError(f"retries={self.retries}: must be 0 or above; 0 tries no failed run again")
        if self.stack > 1 and self.runtime.parallel in (FSDP, HSDP):
            raise ValueError(
                f"stack={self.stack} and runtime.parallel={self.runtime.parallel}: a stack's runs share one device, "
                f"and a sharded run takes several; choose stack=1, or runtime.parallel=auto"
            )


@dataclass
class Sizes:
    """Sizes that a budget gets: `count` of the shapes, from 1/span to span times the predicted optimum.

    The optimum is optimum_params * (budget / at_flops) ** exponent non-embedding parameters.
    """

    count: int
    span: float
    optimum_params: float
    at_flops: float
    exponent: float


@dataclass
class Grid:
    """The isoflop sweeper's grid: budgets, shapes or sizes, and further axes."""

    budgets: list[float]
    shapes: list[dict[str, Any]]
    sizes: Sizes | None
    branches: bool  # budgets of one shape share a trunk: see scaling/plan/branches.py
    axes: dict[str, list[Any]]  # an axis without values is none: a sweep that extends another drops one so
    zip: dict[str, list[Any]]  # settings that advance together, each with as many values

    def __post_init__(self) -> None:
        lengths = {name: len(values) for name, values in self.zip.items()}
        if len(set(lengths.values())) > 1:
            found = ", ".join(f"{name} has {count} values" for name, count in lengths.items())
            raise ValueError(f"hydra.sweeper.zip: {found}: give as many values to each, since they advance together")
        if both := [name for name in self.zip if self.axes.get(name)]:
            raise ValueError(f"{both[0]} stands in hydra.sweeper.axes and in hydra.sweeper.zip: keep one")
        for name in (*self.axes, *self.zip):
            if where := self.sets(name):
                raise ValueError(f"{name} is set by {where} in every cell: take it out of hydra.sweeper.axes and zip")

    def sets(self, name: str) -> str:
        """The setting of this grid that gives every cell its own value of `name`; empty where no setting does."""
        if self.budgets and name == "budget.flops":
            return "hydra.sweeper.budgets"
        return "hydra.sweeper.shapes" if name in {f"model.{key}" for shape in self.shapes for key in shape} else ""
