"""Replays of buying: a strategy buys runs of a known pool under a budget, and the fit to these forecasts a target.

The target's error is that of the log loss. A pool starts with its pilot, the cheapest runs, which every strategy
holds; the budget, a share of the whole pool's price, pays for these too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scaling.analysis.design.acquisition import buy
from scaling.analysis.design.uncertainty import believed, covariance, law_covariance, misfit_of
from scaling.analysis.laws.law import Law

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

SHARES = (0.05, 0.1, 0.2)
ROUNDS = (0.3, 1.0)  # shares of the budget after which the losses bought are read and the laws fitted again


@dataclass(frozen=True)
class Pool:
    """Runs that can be bought, with the target's size, tokens and true loss."""

    name: str
    params: Array
    tokens: Array
    loss: Array
    target: tuple[float, float, float]
    pilot: Rows
    noise: float  # sd of one log loss
    laws: tuple[str, ...] = ("chinchilla",)
    truth: Law | None = None

    @property
    def price(self) -> Array:
        """FLOPs of each run."""
        found: Array = 6.0 * self.params * self.tokens
        return found


def isoflop_pool(
    name: str,
    truth: Law,
    *,
    noise: float,
    seed: int,
    budgets: Sequence[float],
    beyond: float = 10.0,
    seeds: int = 2,
    laws: tuple[str, ...] = ("chinchilla",),
) -> Pool:
    """A grid of five sizes at every budget, and the optimum at `beyond` times the largest as the target."""
    rng = np.random.default_rng(seed)
    cells = [(c, float(truth.optimum(c).N) * spread) for c in budgets for spread in (0.25, 0.5, 1.0, 2.0, 4.0)]
    params = np.array([n for _, n in cells for _ in range(seeds)])
    tokens = np.array([c / (6 * n) for c, n in cells for _ in range(seeds)])
    loss = truth(N=params, D=tokens) * np.exp(noise * rng.standard_normal(len(params)))
    best = truth.optimum(beyond * budgets[-1])
    pilot = np.argsort(params * tokens, kind="stable")[: 2 * 5 * seeds]
    return Pool(name, params, tokens, loss, (float(best.N), float(best.D), float(best.loss)), pilot, noise, laws, truth)


def error(pool: Pool, rows: Rows) -> float:
    """The error of the target's forecast by the pool's laws fitted to some of its runs.

    Of a known truth it is the expected rms error, by the delta method at the truth, free of the draw of the noise.
    """
    n, d, loss = pool.target
    if pool.truth is not None:
        ahead = (np.array([n]), np.array([d]))
        found = law_covariance(pool.truth, (pool.params[rows], pool.tokens[rows]), ahead, pool.noise)
        return float(np.sqrt(found[0, 0]))
    trusted = believed(pool.params[rows], pool.tokens[rows], pool.loss[rows], pool.laws, near=0)
    logs = [one.weight * np.log(float(one.fit.law(N=n, D=d))) for one in trusted]
    return abs(float(sum(logs) - np.log(loss)))


def ordered(order: Callable[[Pool, np.random.Generator], Array]) -> Callable[[Pool, float, int], Rows]:
    """The strategy that buys the pool's other runs in an order, each that the budget still pays."""

    def strategy(pool: Pool, budget: float, seed: int) -> Rows:
        rows, price = list(pool.pilot), pool.price
        spent = float(price[pool.pilot].sum())
        for row in np.argsort(order(pool, np.random.default_rng(seed)), kind="stable"):
            if row not in pool.pilot and spent + price[row] <= budget:
                rows.append(row)
                spent += float(price[row])
        return np.array(rows)

    return strategy


def designed(pool: Pool, budget: float, seed: int) -> Rows:
    """The project's own strategy, in ROUNDS."""
    rows, price = list(pool.pilot), pool.price
    whole = budget - float(price[pool.pilot].sum())
    for share in ROUNDS:
        room = share * whole + float(price[pool.pilot].sum()) - float(price[rows].sum())
        others = np.array([row for row in range(len(price)) if row not in rows])
        if not len(others) or room <= 0:
            continue
        trusted = believed(pool.params[rows], pool.tokens[rows], pool.loss[rows], pool.laws, seed=seed)
        ahead = (np.append(pool.params[others], pool.target[0]), np.append(pool.tokens[others], pool.target[1]))
        misfit = misfit_of(trusted, pool.noise)
        found = covariance(trusted, (pool.params[rows], pool.tokens[rows]), ahead, pool.noise, misfit)
        bought = buy(found, price[others], room, noise=pool.noise**2, most=[1] * len(others))
        rows += [int(others[pick]) for pick in bought.picks]
    return np.array(rows)


STRATEGIES: dict[str, Callable[[Pool, float, int], Rows]] = {
    "next": designed,
    "random": ordered(lambda pool, rng: rng.random(len(pool.params))),
    "cheapest first": ordered(lambda pool, _: pool.price),
    "largest first": ordered(lambda pool, _: -pool.price),
}


def replay(pools: Sequence[Pool]) -> dict[str, dict[float, float]]:
    """The rms error of the target over pools, by strategy and share of the whole price; "all data" at share 1."""
    found = {"all data": {1.0: _rms([error(pool, np.arange(len(pool.params))) for pool in pools])}}
    for name, strategy in STRATEGIES.items():
        found[name] = {
            share: _rms(
                [error(pool, strategy(pool, share * float(pool.price.sum()), k)) for k, pool in enumerate(pools)]
            )
            for share in SHARES
        }
    return found


def _rms(errors: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(errors))))
