"""Ranges of numbers in a configuration."""

import math


def check_range(
    name: str, value: float | None, *, least: float = -math.inf, above: float = -math.inf, below: float = math.inf
) -> None:
    """ValueError for a number that is not finite, or not within its range; a setting that is null has none."""
    if value is None or (least <= value < below and value > above):
        return
    words = [f"at least {least:g}" if least > -math.inf else f"above {above:g}"]
    words += [f"below {below:g}"] if below < math.inf else [] if math.isfinite(value) else ["finite"]
    raise ValueError(f"{name}={value:g}: must be {' and '.join(words)}")
