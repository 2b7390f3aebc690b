"""Learning-rate schedules: the learning rate as a function of the step."""

import math
from collections.abc import Callable

from scaling.registry import choose
from scaling.spec.run_spec import ScheduleSpec

COOLDOWNS: dict[str, Callable[[float], float]] = {
    "linear": lambda progress: 1 - progress,
    # Hägele et al. 2024, section 3: a cooldown that falls fast at first ends lower than a linear one.
    "1-sqrt": lambda progress: 1 - math.sqrt(progress),
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
}


def learning_rate_factor(schedule: ScheduleSpec, step: int, steps: int) -> float:
    """The learning rate in step `step` (from 0) of `steps`, as a share of its peak.

    A linear warm-up, a constant part, and a cooldown to `final_fraction`, which would be reached one step past the
    end, so that no step is spent at a rate of zero.
    """
    if step < schedule.warmup_steps:
        return (step + 1) / (schedule.warmup_steps + 1)
    cooldown_steps = steps - schedule.warmup_steps if schedule.kind == "cosine" else schedule.cooldown_steps
    into_cooldown = step - (steps - cooldown_steps) + 1
    if into_cooldown <= 0:
        return 1.0
    shape = choose("cooldown shape", COOLDOWNS, schedule.cooldown_shape)
    remaining = shape(into_cooldown / (cooldown_steps + 1))
    return schedule.final_fraction + (1 - schedule.final_fraction) * remaining
