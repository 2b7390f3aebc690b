"""Recipes: batch size, learning rate, decay and schedule as functions of scale, resolved to a spec's plain numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scaling.registry import choose
from scaling.shapes.flops import OPTIMIZER_FLOPS
from scaling.shapes.shape import TransformerShape
from scaling.spec.budget import Allocation, Scale
from scaling.spec.parametrization import PARAMETRIZATIONS, Base, parametrize
from scaling.spec.ranges import check_range
from scaling.spec.run_spec import OptimizerSpec, RecipeSpec, ScheduleSpec, check_precision

SCHEDULES = {"wsd": ("linear", "1-sqrt"), "cosine": ("cosine",)}  # kind -> its cooldown shapes

CONSTANT = {"value": None, "params": 0.0, "tokens": 0.0, "flops": 0.0, "at_least": None, "at_most": None}

TUNED_SLACK = 1.05  # a run this factor outside the tuned range still counts as inside


@dataclass
class ScaleLaw:
    """value * N**params * D**tokens * C**flops, clipped: N non-embedding parameters, D tokens, C exact FLOPs.

    The form of Kaplan et al. 2020, DeepSeek-AI 2024 and Li et al. 2025 (Step Law); zero exponents make a constant.
    """

    value: float
    params: float
    tokens: float
    flops: float
    at_least: float | None
    at_most: float | None

    def __call__(self, scale: Scale) -> float:
        value: float = self.value * scale.params**self.params * scale.tokens**self.tokens * scale.flops**self.flops
        if self.at_least is not None:
            value = max(value, self.at_least)
        return value if self.at_most is None else min(value, self.at_most)


if TYPE_CHECKING:
    Law = ScaleLaw
else:
    Law = Any  # in a configuration a number stands for a constant, and OmegaConf has no union of a number and a class

LAWS = ("learning_rate", "batch_tokens", "weight_decay")  # settings of a recipe that are laws


def law_of(name: str, given: Any) -> ScaleLaw:
    """The law that a recipe's setting gives: a number is a constant; ValueError for neither a law nor a number."""
    if isinstance(given, ScaleLaw):
        return given
    values = given if isinstance(given, Mapping) else {**CONSTANT, "value": given}
    for key in values:
        choose(f"setting of {name}", CONSTANT, str(key))
    if missing := [key for key in CONSTANT if key not in values]:
        raise ValueError(f"{name}.{missing[0]} is missing: a law has {', '.join(CONSTANT)}")
    for key, value in values.items():
        if not isinstance(value, int | float) and not (value is None and key in ("at_least", "at_most")):
            which = name if given is value else f"{name}.{key}"
            raise ValueError(f"{which}={value}: must be a number, as {name}=1e-3 for the same at every scale")
    numbers: dict[str, Any] = {str(key): None if value is None else float(value) for key, value in values.items()}
    return ScaleLaw(**numbers)


@dataclass
class Length:
    """A length within a run: tokens, a fraction of the run, or tokens a parameter; the shortest of those given."""

    tokens: float | None
    fraction: float | None
    params: float | None  # tokens for each non-embedding parameter

    def __post_init__(self) -> None:
        if self.tokens is None and self.fraction is None and self.params is None:
            raise ValueError("tokens=null, fraction=null, params=null: a length takes at least one of the three")
        if self.fraction is not None and not 0 <= self.fraction <= 1:
            raise ValueError(f"fraction={self.fraction}: must be between 0 and 1")
        check_range("tokens", self.tokens, least=0)
        check_range("params", self.params, least=0)

    def steps(self, allocation: Allocation) -> int:
        """The length in whole steps, at most all steps of the run."""
        tokens = [] if self.tokens is None else [self.tokens]
        if self.params is not None:
            tokens.append(self.params * allocation.scale.params)
        shares = [count / allocation.train_tokens for count in tokens]
        if self.fraction is not None:
            shares.append(self.fraction)
        return round(min(1.0, *shares) * allocation.steps)


@dataclass
class ScheduleRule:
    """The schedule of the learning rate, for a run of any length."""

    kind: str
    warmup: Length
    cooldown: Length
    cooldown_shape: str
    final_fraction: float


@dataclass
class Tuned:
    """Ranges in which a recipe's laws were measured, each as [lowest, highest], as `scaling tune` writes them."""

    params: list[float]  # non-embedding parameters
    tokens: list[float]  # training tokens
    learning_rate: list[float]  # rates that were tried
    batch_tokens: list[float]  # batches that were tried

    def __post_init__(self) -> None:
        for name in ("params", "tokens", "learning_rate", "batch_tokens"):
            ends = getattr(self, name)
            if len(ends) != 2 or not 0 < ends[0] <= ends[1]:
                raise ValueError(f"recipe.tuned.{name}={ends}: give the lowest and the highest value that was tuned")

    def beyond(self, scale: Scale) -> dict[str, float]:
        """Factors by which a run's parameters and tokens lie outside the tuned ranges; none for those inside."""
        found = {}
        for name in ("params", "tokens"):
            (low, high), value = getattr(self, name), getattr(scale, name)
            factor = max(low / value, value / high)
            if factor > TUNED_SLACK:
                found[name] = factor
        return found


@dataclass
class RecipeRules:
    """The recipe for models of any scale, as laws and rules."""

    optimizer: str
    parametrization: str
    base_d_model: int | None  # width of the model that the numbers below were found for; null when standard
    base_n_layers: int | None
    base_head_width: int | None
    learning_rate: Law
    batch_tokens: Law
    weight_decay: Law
    beta1: float
    beta2: float | None
    beta2_half_life_tokens: float | None  # half-life instead of beta2, which then follows the batch (Marek et al. 2025)
    eps: float
    clip_norm: float | None
    schedule: ScheduleRule
    precision: str
    compile: bool
    tuned: Tuned | None  # ranges in which the laws were measured; None: not stated
    reference_flops: float | None  # compute at which the laws are evaluated; None: the run's own

    def __post_init__(self) -> None:
        for name in LAWS:
            setattr(self, name, law_of(f"recipe.{name}", getattr(self, name)))
        if self.reference_flops is not None and not 0 < self.reference_flops < float("inf"):
            raise ValueError(f"recipe.reference_flops={self.reference_flops}: must be positive and finite")
        for name in ("beta1", "beta2"):
            check_range(f"recipe.{name}", getattr(self, name), least=0, below=1)
        check_range("recipe.beta2_half_life_tokens", self.beta2_half_life_tokens, above=0)
        check_range("recipe.eps", self.eps, least=0)
        check_range("recipe.clip_norm", self.clip_norm, above=0)
        check_range("recipe.schedule.final_fraction", self.schedule.final_fraction, least=0)
        choose("recipe.optimizer", OPTIMIZER_FLOPS, self.optimizer)
        choose("recipe.parametrization", PARAMETRIZATIONS, self.parametrization)
        if self.optimizer != "adamw" and self.parametrization != "standard":
            raise ValueError(
                f"recipe.optimizer={self.optimizer} does not go with recipe.parametrization={self.parametrization}, "
                f"whose rules are for adamw: choose standard"
            )
        check_precision("recipe.precision", self.precision)
        if (self.beta2 is None) == (self.beta2_half_life_tokens is None):
            raise ValueError(
                f"recipe.beta2={self.beta2}, recipe.beta2_half_life_tokens={self.beta2_half_life_tokens}: "
                f"set exactly one"
            )
        shapes = choose("recipe.schedule.kind", SCHEDULES, self.schedule.kind)
        if self.schedule.cooldown_shape not in shapes:
            raise ValueError(
                f"recipe.schedule.cooldown_shape={self.schedule.cooldown_shape!r} does not go with "
                f"recipe.schedule.kind={self.schedule.kind}: choose from {', '.join(shapes)}"
            )


def resolve(rules: RecipeRules, shape: TransformerShape, allocation: Allocation) -> RecipeSpec:
    """The recipe of one run: every law evaluated, every length in steps."""
    step_tokens = allocation.train_tokens / allocation.steps
    beta2 = rules.beta2
    if rules.beta2_half_life_tokens is not None:
        beta2 = 0.5 ** (step_tokens / rules.beta2_half_life_tokens)
    assert beta2 is not None
    schedule = rules.schedule
    warmup_steps = schedule.warmup.steps(allocation)
    cooldown_steps = 0 if schedule.kind == "cosine" else schedule.cooldown.steps(allocation)
    if warmup_steps + cooldown_steps > allocation.steps:
        raise ValueError(
            f"recipe.schedule: {warmup_steps} warm-up and {cooldown_steps} cooldown steps do not fit into a run of "
            f"{allocation.steps}; shorten one of them, or give them as fractions"
        )
    learning_rate, weight_decay = rules.learning_rate(allocation.scale), rules.weight_decay(allocation.scale)
    check_range("recipe.learning_rate", learning_rate, above=0)
    check_range("recipe.weight_decay", weight_decay, least=0)
    optimizer = OptimizerSpec(
        kind=rules.optimizer,
        learning_rate=learning_rate,
        beta1=rules.beta1,
        beta2=beta2,
        eps=rules.eps,
        weight_decay=weight_decay,
        clip_norm=rules.clip_norm,
    )
    base = Base(rules.base_d_model, rules.base_n_layers, rules.base_head_width)
    optimizer, parametrization = parametrize(rules.parametrization, shape, base, optimizer)
    return RecipeSpec(
        steps=allocation.steps,
        batch_sequences=allocation.batch_sequences,
        optimizer=optimizer,
        schedule=ScheduleSpec(
            kind=schedule.kind,
            warmup_steps=warmup_steps,
            cooldown_steps=cooldown_steps,
            cooldown_shape=schedule.cooldown_shape,
            final_fraction=schedule.final_fraction,
        ),
        precision=rules.precision,
        compile=rules.compile,
        parametrization=parametrization,
    )
