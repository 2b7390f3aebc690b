"""The next runs to buy: those that lower the variance of one forecast most for their price.

Runs are picked one after another. A pick x lowers the target's variance by cov(target, x)^2 / (var x + s^2); the
covariance then shrinks for all other points, so that a repeat is worth less than its first, and a run near one that is
bought already is, too. The order of picks is by gain over price^power; several powers are tried, since gain per price
alone spends everything on cheap runs (Khuller, Moss and Naor 1999), and the set with the least variance is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

POWERS = (0.0, 0.25, 0.5, 0.75, 1.0)
MOST_PICKS = 200


@dataclass(frozen=True)
class Bought:
    """Picked points in the order of purchase, and the target's variance before the first and after each."""

    picks: tuple[int, ...]
    variance: tuple[float, ...]
    price: float


def buy(
    covariance: Array,
    price: Array,
    budget: float,
    *,
    noise: float,
    most: Sequence[int] | None = None,
    enough: float = 0.0,
) -> Bought:
    """The purchase with the least variance of the target, whose row of the covariance (m + 1, m + 1) is the last.

    price: (m,) of each point, in the budget's unit. noise: variance of one log loss. most: times that each point may be
    bought (default: without limit). enough: variance of the target at which buying stops.
    """
    ways = [_greedy(covariance, price, budget, noise, most, enough, power) for power in POWERS]
    met = [one for one in ways if one.variance[-1] <= enough]
    return min(met, key=lambda one: one.price) if met else min(ways, key=lambda one: one.variance[-1])


def _greedy(
    covariance: Array,
    price: Array,
    budget: float,
    noise: float,
    most: Sequence[int] | None,
    enough: float,
    power: float,
) -> Bought:
    left, spent = covariance.copy(), 0.0
    stock = np.full(len(price), MOST_PICKS) if most is None else np.array(most)
    picks: list[int] = []
    variance = [float(left[-1, -1])]
    while variance[-1] > enough and len(picks) < MOST_PICKS:
        own = np.maximum(np.diag(left)[:-1], 0.0) + noise
        gain = left[-1, :-1] ** 2 / own / price**power
        gain[(stock < 1) | (price > budget - spent)] = -1.0
        pick = int(np.argmax(gain))
        if not gain[pick] > 0:
            break
        left = left - np.outer(left[:, pick], left[pick]) / own[pick]
        spent += float(price[pick])
        stock[pick] -= 1
        picks.append(pick)
        variance.append(max(float(left[-1, -1]), 0.0))
    return Bought(tuple(picks), tuple(variance), spent)
