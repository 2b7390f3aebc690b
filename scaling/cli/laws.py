"""Options of a fit that concern its laws: parameters held or bounded, and the reading of a table that laws ask for."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any


def named_values(option: str, texts: Sequence[str], example: str) -> dict[str, float]:
    """Values of an option by name, of --fix or --at; ValueError shows the wrong text beside a right one."""
    found: dict[str, float] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        _new(found, name, option, text)
        if not (name and equals):
            raise ValueError(f"{option} {text!r} is not NAME=VALUE, such as {example}")
        found[name] = _number(value, option, text, f"NAME=VALUE, such as {example}")
    return found


def parameter_bounds(texts: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Ends of --bounds by parameter, infinite where left out; ValueError shows the wrong text beside a right one."""
    found: dict[str, tuple[float, float]] = {}
    wanted = "NAME=LOW:HIGH, such as alpha=0.2:0.5"
    for text in texts:
        name, equals, ends = (part.strip() for part in text.partition("="))
        low, colon, high = (part.strip() for part in ends.partition(":"))
        _new(found, name, "--bounds", text)
        if not (name and equals and colon and (low or high)):
            raise ValueError(f"--bounds {text!r} is not {wanted}")
        found[name] = (
            _number(low or "-inf", "--bounds", text, wanted),
            _number(high or "inf", "--bounds", text, wanted),
        )
    return found


def of_laws(laws: Sequence[str], options: Any) -> dict[str, Any]:
    """The choices of the reader that laws ask for: own columns, losses of any sign, and the column before a formula."""
    from scaling.analysis.laws import LAWS
    from scaling.analysis.laws.formula_law import is_formula, split

    formulas = [text for text in laws if is_formula(text)]
    outputs = [output for output in (split(text)[0] for text in formulas) if output]
    asked: dict[str, Any] = {
        "own_columns": any(text.partition(":")[0] not in LAWS or ":" in text or _of_columns(text) for text in laws),
        "any_sign": options.on == "linear",
    }
    return asked | ({"loss_column": outputs[0]} if outputs and options.loss_column is None else {})


def _of_columns(name: str) -> bool:
    """Whether a shipped law has variables beside params, tokens, flops and unique tokens."""
    from scaling.analysis.laws import LAWS

    return not {*LAWS[name].variables} <= {"N", "D", "U", "x"}


def _number(text: str, option: str, whole: str, wanted: str) -> float:
    with suppress(ValueError):
        if (value := float(text)) == value:  # nan is no number either
            return value
    raise ValueError(f"{option} {whole!r}: {text!r} is no number; the option takes {wanted}")


def _new(found: dict[str, Any], name: str, option: str, text: str) -> None:
    if name in found:
        raise ValueError(f"{option} {text!r} gives {name} a second time: keep one")
