"""Recipes: batch size, learning rate, decay and schedule as functions of scale, resolved to a spec's plain numbers."""

from dataclasses import dataclass

from scaling.budget import Allocation, Scale
from scaling.registry import choose
from scaling.spec import OptimizerSpec, RecipeSpec, ScheduleSpec, check_precision

SCHEDULES = {"wsd": ("linear", "1-sqrt"), "cosine": ("cosine",)}  # kind -> its cooldown shapes

TUNED_SLACK = 1.05  # a run this factor outside what was tuned still counts as inside


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


@dataclass
class Length:
    """A stretch of the run, in tokens or as a fraction of it; exactly one is set."""

    tokens: float | None
    fraction: float | None

    def __post_init__(self) -> None:
        if (self.tokens is None) == (self.fraction is None):
            raise ValueError(f"tokens={self.tokens}, fraction={self.fraction}: a length takes exactly one of the two")
        if self.fraction is not None and not 0 <= self.fraction <= 1:
            raise ValueError(f"fraction={self.fraction}: must be between 0 and 1")

    def steps(self, allocation: Allocation) -> int:
        """The length in whole steps, at most the run's."""
        if self.fraction is not None:
            return round(self.fraction * allocation.steps)
        return min(allocation.steps, round((self.tokens or 0) * allocation.steps / allocation.train_tokens))


@dataclass
class ScheduleRule:
    """The learning rate over a run of any length."""

    kind: str
    warmup: Length
    cooldown: Length
    cooldown_shape: str
    final_fraction: float


@dataclass
class Tuned:
    """Where a recipe's laws were measured, each as [lowest, highest]; `scaling tune` writes it."""

    params: list[float]  # non-embedding
    tokens: list[float]
    learning_rate: list[float]  # tried
    batch_tokens: list[float]  # tried

    def __post_init__(self) -> None:
        for name in ("params", "tokens", "learning_rate", "batch_tokens"):
            ends = getattr(self, name)
            if len(ends) != 2 or not 0 < ends[0] <= ends[1]:
                raise ValueError(f"recipe.tuned.{name}={ends}: give the lowest and the highest value that was tuned")

    def beyond(self, scale: Scale) -> dict[str, float]:
        """By what factor a run's parameters and tokens lie outside what was tuned; those inside are left out."""
        found = {}
        for name in ("params", "tokens"):
            (low, high), value = getattr(self, name), getattr(scale, name)
            factor = max(low / value, value / high)
            if factor > TUNED_SLACK:
                found[name] = factor
        return found


@dataclass
class RecipeRules:
    """How models of any scale are trained."""

    optimizer: str
    learning_rate: ScaleLaw
    batch_tokens: ScaleLaw
    weight_decay: ScaleLaw
    beta1: float
    beta2: float | None
    beta2_half_life_tokens: float | None  # instead of beta2: it then follows the batch (Marek et al. 2025)
    eps: float
    clip_norm: float | None
    schedule: ScheduleRule
    precision: str
    compile: bool
    tuned: Tuned | None  # null: nobody says where these laws hold
    reference_flops: float | None  # where the laws are evaluated; None: at the run's own scale

    def __post_init__(self) -> None:
        if self.reference_flops is not None and not 0 < self.reference_flops < float("inf"):
            raise ValueError(f"recipe.reference_flops={self.reference_flops}: must be positive and finite")
        if self.optimizer != "adamw":
            raise ValueError(f"recipe.optimizer={self.optimizer!r}: choose from adamw")
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


def resolve(rules: RecipeRules, allocation: Allocation) -> RecipeSpec:
    """The numbers that this run uses."""
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
    return RecipeSpec(
        steps=allocation.steps,
        batch_sequences=allocation.batch_sequences,
        optimizer=OptimizerSpec(
            kind=rules.optimizer,
            learning_rate=rules.learning_rate(allocation.scale),
            beta1=rules.beta1,
            beta2=beta2,
            eps=rules.eps,
            weight_decay=rules.weight_decay(allocation.scale),
            clip_norm=rules.clip_norm,
        ),
        schedule=ScheduleSpec(
            kind=schedule.kind,
            warmup_steps=warmup_steps,
            cooldown_steps=cooldown_steps,
            cooldown_shape=schedule.cooldown_shape,
            final_fraction=schedule.final_fraction,
        ),
        precision=rules.precision,
        compile=rules.compile,
    )
