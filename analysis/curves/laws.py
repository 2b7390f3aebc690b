"""Laws of whole curves: L = L0 + A S1^-alpha - gain, where S1 is the sum of learning rates so far.

The gain is the loss that drops of the learning rate have brought by now: each drop counts by its size, times a share
that grows from 0 to 1 with the drop's age. The two laws differ in that share. Coordinates of a fit are free of units:
rates are shares of their peak, losses shares of `unit.loss`, sums of rates shares of `unit.rate_sum`. Legend: R rows, n
places, K pairs of a place and a drop, p coordinates.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scaling.analysis.curves.course import Array, Seen
from scaling.analysis.laws import jet
from scaling.analysis.laws.jet import Jet
from scaling.analysis.schema.whole_curves import CurveLawName

COMMON = ("L0", "A", "gain", "log_alpha")  # coordinates of both laws, before those of the share
LOW, HIGH = (0.0, 0.0, 0.0, np.log(0.02)), (np.inf, np.inf, np.inf, np.log(5.0))
LINEAR = 3  # the first coordinates, in which the law is linear
ALPHAS = (0.1, 0.25, 0.5, 1.0)  # of the grid from which a search begins

# A share (R, K) of K pairs of a place and a drop, its first derivatives, and its second.
Derivatives = tuple[Array, list[Array], dict[tuple[int, int], Array]]
Share = Callable[[Sequence[Array], Seen], Derivatives]  # of coordinates (R, 1) each


@dataclass(frozen=True)
class Unit:
    """Units of a fit's coordinates."""

    loss: float  # nats per token
    rate_sum: float  # steps at the peak


@dataclass(frozen=True)
class CurveLaw:
    """A law by the share of a drop's gain that has come by its age; its coordinates have bounds and a grid."""

    name: CurveLawName
    equation: str
    source: str
    share: Share
    shape: tuple[str, ...]  # coordinates of the share
    low: tuple[float, ...]
    high: tuple[float, ...]
    grid: tuple[tuple[float, ...], ...]  # values of each coordinate of the share
    published: Callable[[Array, Unit, float], Mapping[str, float]]  # of coordinates (p,), units, peak rate

    @property
    def bounds(self) -> tuple[Array, Array]:
        """The lowest and highest value of every coordinate, (p,) each."""
        return np.array([*LOW, *self.low]), np.array([*HIGH, *self.high])

    def loss(self, q: Array, seen: Seen, unit: Unit) -> Jet:
        """The loss over `unit.loss`, (R, n), at coordinates (R, p), with its derivatives by them."""
        level, fall, gain, log_alpha = (jet.variable(k, q[:, [k]]) for k in range(len(COMMON)))
        fallen = jet.exp(-jet.exp(log_alpha) * np.log(seen.rate_sum / unit.rate_sum))
        return level + fall * fallen - gain * self.came(q[:, len(COMMON) :], seen)

    def came(self, q: Array, seen: Seen) -> Jet:
        """Drops of the rate, each times the share of its gain that has come, (R, n), at the share's coordinates (R, k).

        The derivatives are by these coordinates, which are numbered after the common ones.
        """
        share, first, second = self.share([q[:, [k]] for k in range(q.shape[1])], seen)
        base = len(COMMON)
        return Jet(
            seen.summed(share),
            {base + k: seen.summed(one) for k, one in enumerate(first)},
            {(base + j, base + k): seen.summed(one) for (j, k), one in second.items()},
        )


def _forgetting(q: Sequence[Array], seen: Seen) -> Derivatives:
    """1 - lambda^age, where lambda = exp(-1 / memory); q holds the log of the memory in steps."""
    age = seen.steps * np.exp(-q[0])
    left = np.exp(-age)
    return 1.0 - left, [-age * left], {(0, 0): age * (1.0 - age) * left}


def _power(q: Sequence[Array], seen: Seen) -> Derivatives:
    """1 - (1 + u)^-beta, u = c rate^-gamma S, S the rates summed since the drop; q holds log c, log beta and gamma."""
    log_c, log_beta, gamma = q
    beta, inverse = np.exp(log_beta), -seen.log_rate
    u = np.exp(log_c + gamma * inverse) * seen.rates
    h = beta * np.log1p(u)  # the share is 1 - exp(-h)
    left = np.exp(-h)
    by_c = beta * u / (1.0 + u)  # of h, by log c; by gamma it is this times `inverse`, by log beta h itself
    one = left * by_c
    bend = one * (1.0 / (1.0 + u) - by_c)
    mixed = one * (1.0 - h)
    return (
        1.0 - left,
        [one, left * h, one * inverse],
        {
            (0, 0): bend,
            (0, 1): mixed,
            (0, 2): bend * inverse,
            (1, 1): left * h * (1.0 - h),
            (1, 2): mixed * inverse,
            (2, 2): bend * inverse**2,
        },
    )


def _level(q: Array, unit: Unit, peak: float) -> dict[str, float]:
    """L0, A and alpha in nats and sums of learning rates."""
    alpha = float(np.exp(q[3]))
    fall = float(q[1]) * unit.loss * (unit.rate_sum * peak) ** alpha
    return {"L0": float(q[0]) * unit.loss, "A": fall, "alpha": alpha}


def _annealing_published(q: Array, unit: Unit, peak: float) -> Mapping[str, float]:
    forgetting = -np.expm1(-np.exp(-q[4]))  # 1 - lambda
    factor = float(q[2] * unit.loss / peak * forgetting)
    return _level(q, unit, peak) | {"C": factor, "lambda": float(1.0 - forgetting)}


def _multi_power_published(q: Array, unit: Unit, peak: float) -> Mapping[str, float]:
    gamma = float(q[6])
    inner = {"C": float(np.exp(q[4]) * peak ** (gamma - 1.0)), "beta": float(np.exp(q[5])), "gamma": gamma}
    return _level(q, unit, peak) | {"B": float(q[2] * unit.loss / peak)} | inner


ANNEALING = CurveLaw(
    "annealing",
    "L0 + A S1^-alpha - C S2, S2 = sum over drops d of d (1 - lambda^age) / (1 - lambda)",
    "Tissue et al. 2024, arXiv 2408.11029, eq. 1",
    _forgetting,
    shape=("log_memory",),
    low=(0.0,),
    high=(float(np.log(1e6)),),
    grid=(tuple(np.log([10.0, 40.0, 160.0, 640.0, 2560.0]).tolist()),),
    published=_annealing_published,
)
MULTI_POWER = CurveLaw(
    "multi_power",
    "L0 + A S1^-alpha - B sum over drops d of d (1 - (1 + C rate^-gamma S)^-beta), S the rates summed since the drop",
    "Luo et al. 2025, arXiv 2503.12811, eq. 3",
    _power,
    shape=("log_c", "log_beta", "gamma"),
    low=(float(np.log(1e-7)), float(np.log(0.02)), 0.0),
    high=(float(np.log(1e2)), float(np.log(20.0)), 2.0),
    grid=(tuple(np.log([1e-3, 1e-2, 1e-1]).tolist()), tuple(np.log([0.3, 1.0]).tolist()), (0.3, 0.8)),
    published=_multi_power_published,
)
CURVE_LAWS: dict[CurveLawName, CurveLaw] = {law.name: law for law in (ANNEALING, MULTI_POWER)}
