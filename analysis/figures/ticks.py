"""Ticks of an axis and their labels: the most that leave room between them, the same on paper and on screen."""

import math

import numpy as np

from scaling.analysis.figures.chart import Axis
from scaling.analysis.words import count, power_of_ten, scientific

CHARACTER = 0.07  # inches that a character of a tick label takes, on average
GAP = 0.12  # inches between labels beside each other
LINE = 0.22  # inches between labels above each other
MOST = 6

Ticks = tuple[list[float], list[str], list[float]]  # labelled places, their labels, places without a label


def ticks(axis: Axis, limits: tuple[float, float], inches: float, *, across: bool) -> Ticks:
    """Return the ticks of an axis of a given length between its limits; `across`: labels lie side by side."""
    low, high = sorted(limits)
    if axis.names:
        return [float(k) for k in range(len(axis.names))], list(axis.names), []
    if axis.log:
        return _logarithmic(low, high, inches, axis.counts, across)
    return _linear(low, high, inches, across)


def _logarithmic(low: float, high: float, inches: float, counts: bool, across: bool) -> Ticks:
    """Whole decades where there are three or more, else 1-2-5 steps, else even ones."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    inside = [m * 10.0**e for e in range(first - 1, last + 1) for m in range(1, 10) if low <= m * 10.0**e <= high]
    decades = [10.0**e for e in range(first, last + 1)]
    digits = [[at for at in inside if _digit(at) in some] for some in ((1, 2, 3, 5), (1, 2, 5), (1, 3), (1, 5))]
    coarse = [decades[::n] for n in range(1, 13)]
    even = [_even(low, high, n) for n in range(5, 1, -1)]
    order = coarse if len(decades) >= 3 else [*digits, *coarse, *even] if high / low > 4 else [*even, *digits]
    room = math.log(high / low)
    for major in order:
        labels = _labels(major, counts=counts, log=True)
        if 2 <= len(major) <= MOST + 2 and _fit([math.log(at) for at in major], labels, room, inches, across):
            break
    else:
        middle = math.sqrt(low * high)
        major = [min(inside or [float(f"{middle:.2g}")], key=lambda at: abs(math.log(at / middle)))]
        labels = _labels(major, counts=counts, log=True)
    minor = inside if len(decades) <= 6 else decades
    return major, labels, [at for at in minor if not any(abs(at / other - 1) < 1e-9 for other in major)]


def _linear(low: float, high: float, inches: float, across: bool) -> Ticks:
    """Even steps, labelled with one number of decimals."""
    for n in range(MOST, 1, -1):
        major = _even(low, high, n)
        labels = _labels(major, counts=False, log=False)
        if len(major) >= 2 and _fit(major, labels, high - low, inches, across):
            return major, labels, []
    middle = min(_even(low, high, MOST), key=lambda at: abs(at - (low + high) / 2))
    return [middle], _labels([middle], counts=False, log=False), []


def _even(low: float, high: float, n: int) -> list[float]:
    """Multiples of the finest step of 1, 2, 2.5, 4 or 5 times a power of ten that makes at most n gaps."""
    unit = 10.0 ** math.floor(math.log10((high - low) / n))
    step = next(unit * factor for factor in (1, 2, 2.5, 4, 5, 10, 20) if (high - low) / (unit * factor) <= n + 1e-9)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]


def _digit(value: float) -> int:
    return round(value / 10.0 ** math.floor(math.log10(value) + 1e-9))


def _fit(places: list[float], labels: list[str], room: float, inches: float, across: bool) -> bool:
    needed = max(len(label) for label in labels) * CHARACTER + GAP if across else LINE
    return bool((np.diff(places) / room * inches >= needed).all())


def _labels(values: list[float], *, counts: bool, log: bool) -> list[str]:
    """All labels in one style: as counts, as powers of ten, or plain with one number of decimals."""
    if not values:
        return []
    biggest = max(abs(at) for at in values)
    smallest = min((abs(at) for at in values if at), default=1.0)
    if counts and biggest < 1e15 and smallest >= 1:
        return [count(at, trim=True) for at in values]
    if biggest >= 1e5 or (log and smallest < 1e-3) or 0 < biggest < 1e-3:
        return [_power(at) for at in values]
    if log and biggest / smallest >= 8:
        return [f"{at:g}" for at in values]
    decimals = next((d for d in range(7) if all(abs(round(at, d) - at) < 1e-9 * biggest for at in values)), 6)
    return [f"{at:.{decimals}f}".replace("-", "−") for at in values]


def _power(value: float) -> str:
    if value <= 0:
        return scientific(value, 2)
    exponent = math.floor(math.log10(value) + 1e-9)
    digit = value / 10.0**exponent
    return power_of_ten(exponent) if abs(digit - 1) < 1e-6 else f"{digit:.3g}×{power_of_ten(exponent)}"
