"""A compute budget and a shape give tokens and steps: what was asked for, and what whole steps realise."""

from collections.abc import Callable
from dataclasses import dataclass

from scaling.shapes import flops
from scaling.shapes.matmuls import Shape, parameter_counts

# A realised compute further than this from the requested one is said in the plan.
TOLERANCE = 0.01


@dataclass
class Budget:
    """What one run may cost; exactly one of `flops` and `tokens` is set."""

    flops: float | None  # exact training FLOPs of a run
    tokens: float | None  # training tokens of a run
    total_flops: float | None  # cap on a whole plan

    def __post_init__(self) -> None:
        for name in ("flops", "tokens", "total_flops"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"budget.{name}={value}: must be positive and finite")
        if (self.flops is None) == (self.tokens is None):
            raise ValueError(
                f"budget.flops={self.flops}, budget.tokens={self.tokens}: set exactly one, e.g. budget.flops=1e15, "
                f"or budget.flops=null budget.tokens=1e8"
            )


@dataclass(frozen=True)
class Scale:
    """How large a run is, in the three measures that recipes are functions of."""

    params: float  # non-embedding
    tokens: float
    flops: float


@dataclass(frozen=True)
class Allocation:
    """A budget turned into whole steps of whole sequences."""

    scale: Scale  # where the recipe's laws are evaluated: as requested before rounding, or the reference
    batch_sequences: int
    steps: int
    train_tokens: int
    requested_flops: float
    realised_flops: int

    @property
    def off_by(self) -> float:
        """Realised over requested compute, less one."""
        return self.realised_flops / self.requested_flops - 1


def allocate(
    shape: Shape,
    budget: Budget,
    batch_tokens: Callable[[Scale], float],
    optimizer_flops: int = 0,
    reference_flops: float | None = None,
) -> Allocation:
    """Whole steps whose exact training FLOPs come nearest the budget, at the batch that the rule gives.

    A step costs its batch and `optimizer_flops`, so an optimizer that computes more takes fewer steps. The recipe is
    taken at `reference_flops` where given: runs of one trunk have one recipe whatever their length.
    """
    flops_per_token = flops.exact(shape)
    tokens = budget.tokens if budget.tokens is not None else (budget.flops or 0.0) / flops_per_token
    at = tokens if reference_flops is None else reference_flops / flops_per_token
    scale = Scale(parameter_counts(shape)["non_embedding"], at, at * flops_per_token)
    batch_sequences = max(1, round(batch_tokens(scale) / shape.sequence_tokens))
    step_tokens = batch_sequences * shape.sequence_tokens
    if budget.flops is not None:
        tokens = budget.flops / (flops_per_token + optimizer_flops / step_tokens)
    steps = max(1, round(tokens / step_tokens))
    return Allocation(
        scale=scale,
        batch_sequences=batch_sequences,
        steps=steps,
        train_tokens=steps * step_tokens,
        requested_flops=budget.flops or tokens * flops_per_token + steps * optimizer_flops,
        realised_flops=steps * (batch_sequences * flops.train_flops_per_sequence(shape) + optimizer_flops),
    )
