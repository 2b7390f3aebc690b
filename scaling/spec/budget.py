"""Budgets: compute or tokens, turned into whole steps of a shape, with the requested and the realised FLOPs."""

from collections.abc import Callable
from dataclasses import dataclass

from scaling.shapes import flops
from scaling.shapes.matmuls import Shape, parameter_counts

# The plan warns of a run whose realised compute is further than this from the requested.
TOLERANCE = 0.01


@dataclass
class Budget:
    """The budget of one run, with exactly one of `flops` and `tokens`, its limits, and the cap of a plan."""

    flops: float | None  # exact training FLOPs of a run
    tokens: float | None  # training tokens of a run
    total_flops: float | None  # cap on a whole plan
    tolerance: float  # share of the budget by which a run's whole steps may miss it
    least_steps: int  # steps of a run, at least

    def __post_init__(self) -> None:
        if not self.tolerance >= 0:
            raise ValueError(f"budget.tolerance={self.tolerance}: must be 0 or above, as 0.1 for 10%")
        if self.least_steps < 1:
            raise ValueError(f"budget.least_steps={self.least_steps}: must be at least 1")
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
    """The scale of a run, in the three measures that recipes are functions of."""

    params: float  # non-embedding parameters
    tokens: float  # training tokens
    flops: float  # exact training FLOPs


@dataclass(frozen=True)
class Allocation:
    """A budget turned into whole steps of whole sequences."""

    scale: Scale  # scale at which the recipe's laws are evaluated: the requested one, not rounded, or the reference
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
    """Whole steps whose exact training FLOPs come nearest to the budget, at the batch that the rule gives.

    A step costs its batch and `optimizer_flops`, so an optimizer that computes more takes fewer steps. The scale has
    `reference_flops` where given, so that runs of one trunk have one recipe whatever their length.
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
