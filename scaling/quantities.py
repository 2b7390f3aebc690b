"""Quantities in words: counts with prefixes, powers of ten as settings write them, durations with units."""


def short(value: float) -> str:
    """A count with three significant digits and a prefix: 12.3k."""
    for prefix in ("", "k", "M", "G", "T"):
        if abs(value) < 999.5:
            return f"{value:.3g}{prefix}"
        value /= 1000
    return f"{value:.3g}P"


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
