"""Numbers as JSON holds them: null stands for a number that is not finite, in every document."""

import math
from typing import SupportsFloat

import numpy as np
from numpy.typing import ArrayLike


def number(value: SupportsFloat) -> float | None:
    """The number itself, or None where it is not finite."""
    found = float(value)
    return found if math.isfinite(found) else None


def numbers(values: ArrayLike) -> list[float | None]:
    """A column (n,) as a list, None where it is not finite."""
    return [number(one) for one in np.asarray(values, dtype=float).tolist()]


def rows_of(values: ArrayLike) -> list[list[float | None]]:
    """A table (n, m) as a list of its rows, None where it is not finite."""
    return [numbers(row) for row in np.asarray(values, dtype=float)]


def finite(values: ArrayLike) -> list[float]:
    """A column (n,) of finite numbers as a list."""
    column = np.asarray(values, dtype=float)
    assert np.isfinite(column).all()
    found: list[float] = column.tolist()
    return found


def integers(values: ArrayLike) -> list[int]:
    """A column (n,) of counts or positions as a list."""
    found: list[int] = np.asarray(values, dtype=int).tolist()
    return found
