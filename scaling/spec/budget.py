"""Budgets: compute or tokens, turned into whole steps of a shape, with the requested and the realised FLOPs."""

from collections.abc import Callable
from dataclasses import dataclass

from scaling.shapes import flops
from scaling.shapes.matmuls import Shape, parameter_counts
from scaling.spec.ranges import check_range

# The plan warns of a run whose realised compute is further than this from the requested.
TOLERANCE = 0.01
REFUSE, DROP = "refuse", "drop"
ROUNDING = 1e-9  # share by which a sum may exceed its cap
CAPS = ("total_flops", "gpu_hours", "usd")


@dataclass
class Budget:
    """The budget of one run, with exactly one of `flops` and `tokens`, its limits, and the caps of its study."""

    flops: float | None  # exact training FLOPs of a run
    tokens: float | None  # training tokens of a run
    total_flops: float | None  # cap on a study's training FLOPs
    tolerance: float  # share of the budget by which a run's whole steps may miss it
    least_steps: int  # steps of a run, at least
    # Plans of versions up to 0.2 have none of these.
    gpu_hours: float | None = None  # cap on a study's hours of devices
    usd: float | None = None  # cap on the price of a study's hours of devices
    usd_per_hour: float | None = None  # price of a device for an hour
    stop_early: float | None = None  # share above a cheaper run's loss from which a run is hopeless: plan/hopeless.py
    run_hours: float | None = None  # hours in which a run ends whose number of devices the plan decides
    over: str = REFUSE  # REFUSE a plan beyond a cap, or DROP the runs that its optima need least

    def __post_init__(self) -> None:
        if not self.tolerance >= 0:
            raise ValueError(f"budget.tolerance={self.tolerance}: must be 0 or above, as 0.1 for 10%")
        check_range("budget.least_steps", self.least_steps, least=1)
        for name in ("flops", "tokens", "total_flops", "gpu_hours", "usd", "run_hours"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"budget.{name}={value}: must be positive and finite")
        if self.usd_per_hour is not None and not 0 <= self.usd_per_hour < float("inf"):
            raise ValueError(f"budget.usd_per_hour={self.usd_per_hour}: must be 0 or above, and finite")
        if self.usd is not None and self.usd_per_hour is None:
            raise ValueError(
                f"budget.usd={self.usd:g} needs the price of a device for an hour: give budget.usd_per_hour, as "
                f"budget.usd_per_hour=2.5"
            )
        if self.stop_early is not None and not self.stop_early > 0:
            raise ValueError(f"budget.stop_early={self.stop_early}: must be above 0, as 0.1 for 10%, or null for never")
        if self.over not in (REFUSE, DROP):
            raise ValueError(f"budget.over={self.over!r}: choose from {REFUSE}, {DROP}")
        if (self.flops is None) == (self.tokens is None):
            raise ValueError(
                f"budget.flops={self.flops}, budget.tokens={self.tokens}: set exactly one, e.g. budget.flops=1e15, "
                f"or budget.flops=null budget.tokens=1e8"
            )

    def capped(self) -> bool:
        """Whether a cap holds for the study."""
        return any(getattr(self, name) is not None for name in CAPS)

    def beyond(self, train_flops: float, device_s: float) -> str:
        """The cap that these FLOPs and seconds of devices exceed, in words; empty where all hold."""
        hours = device_s / 3600
        usd = hours * (self.usd_per_hour or 0.0)
        costs = {
            "total_flops": (train_flops, f"{train_flops:.4g} FLOPs"),
            "gpu_hours": (hours, f"{hours:.4g} h of devices"),
            "usd": (usd, f"${usd:,.2f}"),
        }
        for name, (value, words) in costs.items():
            cap = getattr(self, name)
            if cap is not None and value > cap * (1 + ROUNDING):
                return f"{words}, more than budget.{name}={cap:.4g}"
        return ""

    def in_words(self, train_flops: float, device_s: float) -> str:
        """FLOPs and seconds of devices in the units of the caps, e.g. `1.2e+12 FLOPs, 0.5 h, $1.25`."""
        hours = device_s / 3600
        parts = [f"{train_flops:.4g} FLOPs"] if self.total_flops is not None else []
        parts += [f"{hours:.4g} h"] if self.gpu_hours is not None else []
        parts += [f"${hours * (self.usd_per_hour or 0.0):,.2f}"] if self.usd is not None else []
        return ", ".join(parts)


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
    check_range("recipe.batch_tokens", batch := batch_tokens(scale), above=0)
    batch_sequences = max(1, round(batch / shape.sequence_tokens))
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
