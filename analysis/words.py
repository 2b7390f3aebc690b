"""Numbers and names in words, the same in every figure, table and sentence."""

import math
import re
from collections.abc import Sequence

MOST_PERCENT = 10.0  # a fraction beyond which a multiple reads better than a percentage
MOST_TIMES = 1000.0  # a fraction or a factor beyond which its digits state nothing that holds
SUPERSCRIPTS = str.maketrans("-−0123456789.abcdefghnαβγ", "⁻⁻⁰¹²³⁴⁵⁶⁷⁸⁹·ᵃᵇᶜᵈᵉᶠᵍʰⁿᵅᵝᵞ")
RAISED = re.compile(r"\^(?:([-−]?\d++(?:\.\d++)?+)(?!±)|(alpha|beta|gamma|[a-hnαβγ])(?![\w(]))")
SYMBOLS = {
    "alpha": "α",
    "beta": "β",
    "gamma": "γ",
    "eta": "η",
    "epsilon": "ε",
    "alpha_N": "α_N",
    "alpha_D": "α_D",
}


def power_of_ten(exponent: int) -> str:
    """10 to an integer power, as text."""
    return "10" + str(exponent).translate(SUPERSCRIPTS)


def raised(text: str) -> str:
    """Text with its exponents as superscripts: N^alpha as Nᵅ, C^0.52 as C⁰·⁵²; others stay behind ^."""
    return RAISED.sub(lambda one: (one[1] or symbol(one[2])).translate(SUPERSCRIPTS), text)


def scientific(value: float, digits: int = 3) -> str:
    """A number as mantissa × power of ten: 1.30×10²³."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    mantissa = mantissa.replace("-", "−")
    if mantissa.rstrip("0").rstrip(".") == "1":
        return power_of_ten(int(exponent))
    return f"{mantissa}×{power_of_ten(int(exponent))}"


def count(value: float, *, trim: bool = False) -> str:
    """A count in thousands, millions, billions or trillions with three digits: 34.0B; scientific beyond.

    `trim` leaves trailing zeros out, as on a tick.
    """
    if not math.isfinite(value):
        return f"{value}"
    for unit, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * unit:
            scaled = value / unit
            if scaled >= 999.5:
                return scientific(value)
            return (f"{scaled:.3g}" if trim else f"{scaled:#.3g}".rstrip(".")) + letter
    return f"{value:.3g}"


def number(value: float | None) -> str:
    """Any number to four digits, scientific where very large or small; a dash for null."""
    if value is None or not math.isfinite(value):
        return "–"
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        return scientific(value)
    return f"{value:#.4g}".rstrip(".").replace("-", "−")


def bounded(value: float, digits: int = 2) -> str:
    """A factor to so many decimals, up to MOST_TIMES: beyond, only that a number is larger is of any use."""
    return f"{value:.{digits}f}" if value <= MOST_TIMES else f"more than {MOST_TIMES:g}"


def share_text(value: float, digits: int = 1, *, signed: bool = False) -> str:
    """A fraction as a percentage, as a multiple beyond MOST_PERCENT, and with no number beyond MOST_TIMES."""
    if not abs(value) > MOST_PERCENT:
        return f"{value:{'+' if signed else ''}.{digits}%}"
    if abs(value) > MOST_TIMES:
        return f"{'minus ' if value < 0 else ''}more than {MOST_TIMES:g} times"
    return f"{value:{'+' if signed else ''}.1f} times"


def move_text(change: float, digits: int = 1) -> str:
    """A relative change, behind `moves by`: in percent up to a factor of ten, else as that factor."""
    if -0.9 < change < MOST_PERCENT - 1:
        return f"{change:+.{digits}%}"
    factor = 1.0 + change
    if 1 / MOST_TIMES <= factor <= MOST_TIMES:
        return f"a factor of {factor:.2g}"
    return f"a factor of more than {MOST_TIMES:g}" if factor > 1 else f"a factor of less than {1 / MOST_TIMES:g}"


def share_of(value: float, whole: str, digits: int = 1, *, signed: bool = False) -> str:
    """A fraction of a whole: 1.2% of the loss, 45.0 times the loss."""
    said = share_text(value, digits, signed=signed)
    return f"{said} {'of ' if said.endswith('%') else ''}{whole}"


def percent(value: float, digits: int = 1) -> str:
    """A fraction as a signed share with a true minus sign."""
    return share_text(value, digits, signed=True).replace("-", "−")


def flops_text(value: float) -> str:
    """Compute in words: 10²⁰ FLOPs."""
    return f"{scientific(value)} FLOPs"


def symbol(name: str) -> str:
    """A parameter's symbol as papers print it."""
    return SYMBOLS.get(name, name)


def shorten(name: str, most: int = 28) -> str:
    """A name cut in its middle where it is too long for an axis."""
    return name if len(name) <= most else f"{name[: most // 2]}…{name[-(most // 2 - 1) :]}"


def listed(names: Sequence[str]) -> str:
    """Names in a sentence: E, α and β."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def sentence(text: str) -> str:
    """Text as a sentence: a capital first, a full stop last."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".") if text else ""
