"""Quantities in words: counts with prefixes, powers of ten as settings write them, durations, times of day."""

import time
from collections.abc import Sequence


def short(value: float) -> str:
    """A count with three significant digits in thousands, millions, billions or trillions: 12.3k, 1.3B."""
    return _scaled(value, ("", "k", "M", "B", "T"))


def with_unit(value: float, unit: str) -> str:
    """A measure with three significant digits and an SI prefix: 80 GB, 1.3 TFLOP/s."""
    return _scaled(value, (" ", " k", " M", " G", " T", " P")) + unit


def _scaled(value: float, prefixes: Sequence[str]) -> str:
    for prefix in prefixes[:-1]:
        if abs(value) < 999.5:
            return f"{value:.3g}{prefix}"
        value /= 1000
    return f"{value:.3g}{prefixes[-1]}"


def as_setting(value: float) -> str:
    """A number with three significant digits as the command line takes it: 1e12, 990."""
    mantissa, e, exponent = f"{value:.3g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if e else mantissa


def duration(seconds: float) -> str:
    """Seconds in a unit of at most a day: 90.0 s, 2.5 min, 3.0 d."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def until(seconds: float) -> str:
    """The duration of work that begins now, and the local time of its end: about 2.5 min, until about 15:42."""
    begins = time.time()
    ends = time.localtime(begins + seconds)
    day = "" if ends.tm_yday == time.localtime(begins).tm_yday else "%d %b "
    return f"about {duration(seconds)}, until about {time.strftime(day + '%H:%M', ends)}"
