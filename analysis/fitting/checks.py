"""Whether observations can be fitted at all: numbers, finite, positive, enough of them, and varied enough."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scaling.analysis.fitting.misfit import Loss
from scaling.analysis.laws.jet import Array
from scaling.analysis.laws.law import Law

HUGEST = 1e60  # no count, budget or loss is larger; beyond it, powers overflow
ONE_LINE = 0.01  # scatter of log D about a line in log N below which the two variables are one


def check(
    law: type[Law], x: Mapping[str, ArrayLike], y: ArrayLike, loss: Loss, weights: ArrayLike | None
) -> tuple[str, dict[str, Array], Array, Array]:
    """Return a one-variable law's name for its variable, columns by the law's own names, y and weights.

    ValueError says what makes the data unusable: how many values, and the first.
    """
    given = tuple(x)
    if len(law.variables) == 1 and len(given) == 1:
        variable = given[0]
        named = {law.variables[0]: x[variable]}
    elif set(given) == set(law.variables):
        variable = ""
        named = {name: x[name] for name in law.variables}
    else:
        raise ValueError(
            f"the law {law.name!r} is fitted to {', '.join(law.variables)}; got {', '.join(given) or 'no columns'}"
        )
    observed = _column("y", y)
    columns = {own: _column(own if len(law.variables) > 1 else variable, v) for own, v in named.items()}
    weight = np.ones_like(observed) if weights is None else _column("weights", weights)
    for name, column in {**columns, "weights": weight}.items():
        if column.shape != observed.shape:
            raise ValueError(f"{name} has {column.size} values but y has {observed.size}")
    for name, column in columns.items():
        size = np.abs(column) if name in law.any_sign else column
        if name not in law.any_sign:
            _refuse(name, column, column <= 0, "not positive, where the law takes a power or a logarithm of it")
        _refuse(
            name, column, (size < 1 / HUGEST) & (size != 0) | (size > HUGEST), f"outside 1/{HUGEST:g} to {HUGEST:g}"
        )
    _refuse("y", observed, np.abs(observed) > HUGEST, f"beyond {HUGEST:g}")
    if loss.on == "log":
        _refuse(
            "y",
            observed,
            observed <= 0,
            'not positive; fit the logarithm of positive values or use on="linear"',
        )
    _refuse("weights", weight, (weight < 0) | (weight > HUGEST), f"negative or beyond {HUGEST:g}")
    used = weight > 0
    _check_design(law, {name: column[used] for name, column in columns.items()}, variable)
    return variable, columns, observed, weight


def _column(name: str, values: ArrayLike) -> Array:
    try:
        column = np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must hold numbers: {error}") from None
    if column.ndim != 1:
        raise ValueError(f"{name} must be one column of numbers, got shape {column.shape}")
    _refuse(name, column, ~np.isfinite(column), "not finite")
    return column


def _refuse(name: str, column: Array, bad: NDArray[np.bool_], what: str) -> None:
    if bad.any():
        first = int(np.argmax(bad))
        raise ValueError(
            f"{name} has {int(bad.sum())} of {column.size} values {what}, first {column[first]} at {first}"
        )


def _check_design(law: type[Law], columns: Mapping[str, Array], variable: str) -> None:
    needed = len(law.free())
    n = len(next(iter(columns.values())))
    if n < needed:
        raise ValueError(
            f"{n} observations cannot determine the {needed} parameters of {law.name!r}; "
            "add runs or choose a smaller law"
        )
    if law.held:
        return  # they may stand for what the design cannot show
    of_sizes = {name: column for name, column in columns.items() if name not in law.same_unit}
    logs = {name: np.log(column) if (column > 0).all() else column for name, column in of_sizes.items()}
    for name, log in logs.items():
        if np.ptp(log) < 1e-9:
            raise ValueError(
                f"every observation has the same {variable or name} = {columns[name][0]:.6g}, so how the "
                f"{law.name!r} law depends on it cannot be seen; vary it or choose a law without it"
            )
    if {"N", "D"} <= set(logs):
        across = np.polynomial.Polynomial.fit(logs["N"], logs["D"], 1)
        left = float(np.std(logs["D"] - across(logs["N"])))
        if left < ONE_LINE:
            raise ValueError(
                f"N and D lie on one line in log-log (within {left:.1%}), as with one budget or one ratio "
                f"D/N: the {law.name!r} law needs a second budget or ratio; or choose a law of one variable"
            )
