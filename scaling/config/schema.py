"""The configuration's sections as dataclasses: names and types; values live in conf/*.yaml, never here."""

from dataclasses import dataclass
from typing import Any

from scaling.spec.budget import Budget
from scaling.spec.recipe import RecipeRules


@dataclass
class ModelSection:
    kind: str
    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int | None
    d_ff: int | None
    ff_ratio: float
    ff_multiple: int
    vocab_size: int | None
    context: int
    positions: str
    rotary_pct: float
    norm: str
    norm_place: str
    parallel_residual: bool
    activation: str
    bias: bool
    tied_embeddings: bool
    dropout: float
    family: dict[str, Any]  # the fields of this kind's own class in shapes/families.py, but for those that follow


@dataclass
class DataSection:
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
class RuntimeSection:
    device: str
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
        if self.log_points < 1:
            raise ValueError(f"runtime.log_points={self.log_points}: must be at least 1")
        if self.micro_batch_sequences is not None and self.micro_batch_sequences < 1:
            raise ValueError(
                f"runtime.micro_batch_sequences={self.micro_batch_sequences}: must be at least 1, or null for as many "
                f"as fit into memory"
            )
        for fraction in self.eval_fractions:
            if not 0 < fraction <= 1:
                raise ValueError(f"runtime.eval_fractions holds {fraction}: fractions lie above 0 and up to 1")


@dataclass
class TrackerSection:
    name: str
    settings: dict[str, str | None]


@dataclass
class Config:
    """The whole configuration; values live in conf/*.yaml, never here."""

    question: str | None
    study: str
    runs_dir: str
    cache_dir: str
    seed: int
    val_tokens: int
    stack: int
    planned: str | None
    model: ModelSection
    objective: dict[str, Any]  # "kind" and the fields of that objective's class in scaling/spec/objective.py
    data: DataSection
    recipe: RecipeRules
    budget: Budget
    runtime: RuntimeSection
    tracker: TrackerSection


@dataclass
class Sizes:
    """Which of the shapes a budget gets: `count` of them, from 1/span to span times the predicted optimum.

    The optimum is optimum_params * (budget / at_flops) ** exponent non-embedding parameters.
    """

    count: int
    span: float
    optimum_params: float
    at_flops: float
    exponent: float


@dataclass
class Grid:
    """What the isoflop sweeper crosses."""

    budgets: list[float]
    shapes: list[dict[str, Any]]
    sizes: Sizes | None
    branches: bool  # budgets that share a shape share a trunk: see scaling/plan/branches.py
    axes: dict[str, list[Any]]

    def sets(self, name: str) -> str:
        """The setting of this grid that gives every cell its own value of `name`; empty where none does."""
        if self.budgets and name == "budget.flops":
            return "hydra.sweeper.budgets"
        return "hydra.sweeper.shapes" if name in {f"model.{key}" for shape in self.shapes for key in shape} else ""
