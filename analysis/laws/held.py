"""Laws with parameters held at values or kept between bounds, as a user asks for."""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from scaling.analysis.laws.law import Law, Parameter
from scaling.registry import choose

Bounds = tuple[float, float]
INSIDE = (0.1, 0.5, 0.9)  # starts of a parameter between two bounds, as shares of the way from one to the other
BEYOND = (0.5, 3.0, 8.0)  # of one with a single bound


def hold(
    law: type[Law], fix: Mapping[str, float] | None = None, bounds: Mapping[str, Bounds] | None = None
) -> type[Law]:
    """Return the law with parameters held at raw values, and others kept between raw bounds (infinite ones are none).

    The law itself where nothing is asked for. ValueError names an unknown parameter, a value that is not finite,
    bounds without room between them, and a law of which everything is held.
    """
    fixed, between = dict(fix or {}), dict(bounds or {})
    declared = law.declared()
    for name in (*fixed, *between):
        choose(f"parameter of the law {law.name!r}", declared, name)
    for name, value in fixed.items():
        if not math.isfinite(value):
            raise ValueError(f"{name} is to be held at {value:g}: give a finite number")
    for name, (low, high) in between.items():
        if name in fixed:
            raise ValueError(f"{name} is both held at {fixed[name]:g} and bounded: keep one")
        if not low < high:
            raise ValueError(f"{name} has no room between {low:g} and {high:g}: give LOW below HIGH, or hold it")
    if len(fixed) == len(declared):
        raise ValueError(f"all parameters of {law.name!r} are held: nothing is to be fitted")
    if not fixed and not between:
        return law
    direct = {name: _between(declared[name], ends) for name, ends in between.items() if _is_plain(declared[name])}
    raw = {name: ends for name, ends in between.items() if name not in direct}
    declared_anew = direct | {name: _in_raw_values(declared[name], ends) for name, ends in raw.items()}
    space = {"held": fixed, "raw_bounds": raw, "declared_anew": declared_anew, "__doc__": law.__doc__}
    return type(law.__name__, (law,), space)


def _is_plain(p: Parameter) -> bool:
    """Whether the coordinate of a parameter is its raw value, in whatever units."""
    return p.kind == "plain" and not p.unit(defaultdict(lambda: 1.0))


def _between(p: Parameter, ends: Bounds) -> Parameter:
    low, high = ends
    inside = tuple(value for value in p.grid if low <= value <= high)
    return replace(p, low=low, high=high, limits=ends, grid=inside or _spread(low, high))


def _spread(low: float, high: float) -> tuple[float, ...]:
    if math.isfinite(low) and math.isfinite(high):
        return tuple(low + share * (high - low) for share in INSIDE)
    return tuple(low + step if math.isfinite(low) else high - step for step in BEYOND)


def _in_raw_values(p: Parameter, ends: Bounds) -> Parameter:
    """The declaration of a parameter whose coordinate is the way between its bounds (see `RawRange`)."""
    both = all(map(math.isfinite, ends))
    high, grid = (1.0, INSIDE) if both else (math.inf, BEYOND)
    return replace(p, low=0.0, high=high, limits=ends, grid=grid, linear=False)
