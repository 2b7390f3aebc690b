"""Quantities in words: counts with prefixes, durations with units, times of day."""

import time


def short(value: float) -> str:
    """A count with three significant digits and a prefix: 12.3k."""
    for prefix in ("", "k", "M", "G", "T"):
        if abs(value) < 999.5:
            return f"{value:.3g}{prefix}"
        value /= 1000
    return f"{value:.3g}P"


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
