# ruff: noqa: RUF009  (a parameter's declaration is a dataclass field)
"""Laws whose terms hold parameters and tokens together: repeated data, an exponent of D that depends on N."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from scaling.analysis.laws import jet
from scaling.analysis.laws.jet import Number
from scaling.analysis.laws.law import Law, Units, amplitude, exponent, level, number, positive


def effective(total: Any, unique: Any, R_star: Any) -> Any:
    """Return D' (or N') for `total` tokens of which `unique` differ, at most all: repeats decay with constant R*.

    Source: Muennighoff et al. 2023, eq. 5.
    """
    return unique * (1.0 + R_star * (1.0 - jet.exp(-(total / unique - 1.0) / R_star)))


@dataclass(frozen=True)
class DataConstrained(Law):
    """The Chinchilla law of effective tokens and parameters: repeats and excess parameters are worth less and less.

    U is the number of unique tokens. N' = U_N [1 + R_N* (1 - e^(-R_N / R_N*))] with U_N = min(N, N*(U_D)) and
    R_N = N / U_N - 1; D' likewise with U_D = min(D, U) and R_D = D / U_D - 1.
    """

    name: ClassVar = "data_constrained"
    variables: ClassVar = ("N", "D", "U")
    equation: ClassVar = "L = E + A / N'^alpha + B / D'^beta, N' and D' effective (repeats decay with R_N*, R_D*)"
    source: ClassVar = "Muennighoff et al. 2023, section 3.1 and appendix A; values: the C4 fit of their repository"
    example: ClassVar = {
        "E": 1.8691437, "A": 520.82495, "B": 1487.7161, "alpha": 0.3526596, "beta": 0.3526596,
        "R_N_star": 5.309743, "R_D_star": 15.387756,
    }  # fmt: skip
    domain: ClassVar = {"N": (1e7, 9e9), "D": (1e9, 9e11), "U": (1e8, 2e11)}
    same_unit: ClassVar = {"U": "D"}

    E: Any = level()
    A: Any = amplitude(lambda p: {"L": 1.0, "N": p["alpha"]}, linear=False, grid=(0.05, 0.2, 0.5))
    B: Any = amplitude(lambda p: {"L": 1.0, "D": p["beta"]}, linear=False, grid=(0.05, 0.2, 0.5))
    alpha: Any = exponent(low=0.01, grid=(0.2, 0.35, 0.6))
    beta: Any = exponent(low=0.01, grid=(0.2, 0.35, 0.6))
    R_N_star: Any = positive("log", low=-5.0, high=8.0, grid=(0.5, 2.5))
    R_D_star: Any = positive("log", low=-5.0, high=8.0, grid=(0.5, 2.5))

    def formula(self, N: Any, D: Any, U: Any) -> Any:
        U_D = jet.where(np.less(jet.value(D), jet.value(U)), D, U)
        fits = self._tokens_to_params(U_D)
        U_N = jet.where(np.less(jet.value(N), jet.value(fits)), N, fits)
        N_effective = effective(N, U_N, self.R_N_star)
        D_effective = effective(D, U_D, self.R_D_star)
        return self.E + self.A * N_effective**-self.alpha + self.B * D_effective**-self.beta

    def _tokens_to_params(self, tokens: Any) -> Any:
        """Return the N for which `tokens` is compute-optimal: (U G)^(beta/alpha) G (appendix A)."""
        log_G = jet.log(self.alpha * self.A / (self.beta * self.B)) / (self.alpha + self.beta)
        return jet.exp((jet.log(tokens) + log_G) * (self.beta / self.alpha) + log_G)


@dataclass(frozen=True)
class Farseer(Law):
    """A power law in D whose level, exponent and floor each depend on N through a stretched exponential.

    The loss of the paper and of the example's values is in bits per character, not in nats per token. The form fixes
    one token as the unit of D, so that another unit gives another law. The fit uses coordinates at the centre of the
    data, in which (N^g - 1) / g stays finite as an exponent g passes through zero.
    """

    name: ClassVar = "farseer"
    variables: ClassVar = ("N", "D")
    equation: ClassVar = "L = exp(a3 N^gamma + b3) + exp(a2 N^beta + b2) D^-exp(a1 N^alpha + b1)"
    source: ClassVar = "Li et al. 2025 (Predictable Units, part II: Farseer), eq. 3; values: illustrative"
    example: ClassVar = {
        "a1": -0.124, "b1": 0.424, "alpha": 0.123,
        "a2": 88.01, "b2": -6.287, "beta": -0.1,
        "a3": -0.021, "b3": -0.091, "gamma": 0.169,
    }  # fmt: skip
    domain: ClassVar = {"N": (1e8, 1e10), "D": (1e9, 2e12)}
    unscaled: ClassVar = ("D", "L")

    a1: Any = number(low=-2.0, high=2.0, grid=(-0.1, 0.1), unit=lambda p: {"N": -p["alpha"]})
    b1: Any = number(low=-4.0, high=1.0, grid=(-1.8, -1.1, -0.5))
    alpha: Any = exponent(low=-2.0, high=2.0, grid=(0.1,))
    a2: Any = number(low=-9.0, high=9.0, grid=(-0.3, 0.0, 0.3), unit=lambda p: {"N": -p["beta"]})
    b2: Any = number(low=-12.0, high=2.0, grid=(-3.0, -1.8, -0.7))
    beta: Any = exponent(low=-2.0, high=2.0, grid=(-0.1,))
    a3: Any = number(low=-4.0, high=4.0, grid=(-0.05, -0.2), unit=lambda p: {"N": -p["gamma"]})
    b3: Any = number(low=-12.0, high=2.0, grid=(-1.0, -0.4, -0.1))
    gamma: Any = exponent(low=-2.0, high=2.0, grid=(0.1,))

    @classmethod
    def unpack(cls, q: Mapping[str, Number], units: Units, /) -> dict[str, Number]:
        """Return the scaled parameters for coordinates b, logs of exponent, D term and floor at the centre, and a.

        Coordinates a are the slopes of these logs in log N at the centre.
        """
        at_centre = np.log(units.centre["D"]) * jet.exp(q["b1"])
        log_loss = np.log(units.loss)
        slope = {"a1": q["a1"], "a2": q["a2"] + at_centre * q["a1"], "a3": q["a3"]}
        p: dict[str, Number] = {}
        for a, b, g in (("a1", "b1", "alpha"), ("a2", "b2", "beta"), ("a3", "b3", "gamma")):
            p[g], p[a] = q[g], slope[a] / q[g]
            p[b] = q[b] - p[a]
        p["b2"] = p["b2"] + log_loss + at_centre
        p["b3"] = p["b3"] + log_loss
        return p

    def formula(self, N: Any, D: Any) -> Any:
        floor = jet.exp(self.a3 * N**self.gamma + self.b3)
        decay = jet.exp(self.a1 * N**self.alpha + self.b1)
        return floor + jet.exp(self.a2 * N**self.beta + self.b2 - jet.log(D) * decay)


COUPLED: tuple[type[Law], ...] = (DataConstrained, Farseer)
