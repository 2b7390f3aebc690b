# ruff: noqa: RUF009  (a parameter's declaration is a dataclass field)
"""Laws in parameters N and tokens D, raw counts: of the loss in nats, and of the best learning rate."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from scaling.analysis.laws import jet
from scaling.analysis.laws.jet import Array, Number
from scaling.analysis.laws.law import FLOPS_PER_PARAM_TOKEN, Law, Units, amplitude, exponent, level, positive

N_RANGE = (2e7, 2e10)
D_RANGE = (1e9, 1e12)


@dataclass(frozen=True)
class Chinchilla(Law):
    """Additive power laws in N and D over an irreducible loss."""

    name: ClassVar = "chinchilla"
    variables: ClassVar = ("N", "D")
    equation: ClassVar = "L = E + A / N^alpha + B / D^beta"
    source: ClassVar = "Hoffmann et al. 2022, approach 3, eq. 2; values: Besiroglu et al. 2024, table 1"
    example: ClassVar = {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}
    domain: ClassVar = {"N": N_RANGE, "D": D_RANGE}

    E: Any = level()
    A: Any = amplitude(lambda p: {"L": 1.0, "N": p["alpha"]})
    B: Any = amplitude(lambda p: {"L": 1.0, "D": p["beta"]})
    alpha: Any = exponent()
    beta: Any = exponent()

    def formula(self, N: Any, D: Any) -> Any:
        return self.E + self.A * N**-self.alpha + self.B * D**-self.beta

    @property
    def derived(self) -> dict[str, float]:
        """Exponents a, b and factor G of N* = G (C/6)^a, D* = (C/6)^b / G (Hoffmann et al. 2022, eq. 4)."""
        total = np.add(self.alpha, self.beta)
        with np.errstate(divide="ignore", invalid="ignore"):
            G = np.power(np.divide(self.alpha * self.A, self.beta * self.B), 1.0 / total)
        return {"a": self.beta / total, "b": self.alpha / total, "G": G}

    def log_tokens(self, loss: ArrayLike, N: ArrayLike) -> Array:
        left = loss - self.E - self.A * np.asarray(N, dtype=float) ** -self.alpha  # for the tokens' term
        found: Array = np.where(left > 0, (np.log(self.B) - np.log(np.where(left > 0, left, 1.0))) / self.beta, np.inf)
        return found

    @property
    def rival_terms(self) -> tuple[Any, Any, Any, Any]:
        return self.A, self.alpha, self.B, self.beta


@dataclass(frozen=True)
class Kaplan(Law):
    """The joint law of model and data size without irreducible loss."""

    name: ClassVar = "kaplan"
    variables: ClassVar = ("N", "D")
    equation: ClassVar = "L = [(N_c / N)^(alpha_N / alpha_D) + D_c / D]^alpha_D"
    source: ClassVar = "Kaplan et al. 2020, eq. 1.5; values: table 2"
    example: ClassVar = {"N_c": 6.4e13, "D_c": 1.8e13, "alpha_N": 0.076, "alpha_D": 0.103}
    domain: ClassVar = {"N": (1e6, 2e9), "D": (2e7, 2e10)}

    N_c: Any = positive("plain", low=1e-9, grid=(0.3, 0.6, 0.9), unit=lambda p: {"L": 1.0 / p["alpha_N"], "N": 1.0})
    D_c: Any = positive("plain", low=1e-9, grid=(0.3, 0.6, 0.9), unit=lambda p: {"L": 1.0 / p["alpha_D"], "D": 1.0})
    alpha_N: Any = exponent(low=1e-3, grid=(0.05, 0.1, 0.2, 0.4))
    alpha_D: Any = exponent(low=1e-3, grid=(0.05, 0.1, 0.2, 0.4))

    @classmethod
    def unpack(cls, q: Mapping[str, Number], _units: Units, /) -> dict[str, Number]:
        """Return the scaled parameters for coordinates N_c and D_c, the loss of each term alone at the centre."""
        alpha_N, alpha_D = q["alpha_N"], q["alpha_D"]
        N_c, D_c = (jet.exp(jet.log(q[c]) / a) for c, a in (("N_c", alpha_N), ("D_c", alpha_D)))
        return {"N_c": N_c, "D_c": D_c, "alpha_N": alpha_N, "alpha_D": alpha_D}

    def formula(self, N: Any, D: Any) -> Any:
        return ((self.N_c / N) ** (self.alpha_N / self.alpha_D) + self.D_c / D) ** self.alpha_D

    @property
    def rival_terms(self) -> tuple[Any, Any, Any, Any]:
        alpha = self.alpha_N / self.alpha_D
        return np.power(self.N_c, alpha), alpha, self.D_c, 1.0  # inf, not an error, where floats overflow


@dataclass(frozen=True)
class Gamma(Law):
    """The Chinchilla law with the sum of its N and D terms raised to a power."""

    name: ClassVar = "gamma"
    variables: ClassVar = ("N", "D")
    equation: ClassVar = "L = E + (A / N^alpha + B / D^beta)^gamma"
    source: ClassVar = "the exponent of Kaplan et al. 2020, eq. 1.5, over an irreducible loss; values: illustrative"
    example: ClassVar = {"E": 1.8, "A": 5000.0, "B": 30000.0, "alpha": 0.5, "beta": 0.5, "gamma": 0.7}
    domain: ClassVar = {"N": N_RANGE, "D": D_RANGE}

    E: Any = level()
    A: Any = amplitude(lambda p: {"L": p["gamma"] ** -1.0, "N": p["alpha"]}, linear=False, grid=(0.1, 0.3, 0.8))
    B: Any = amplitude(lambda p: {"L": p["gamma"] ** -1.0, "D": p["beta"]}, linear=False, grid=(0.1, 0.3, 0.8))
    alpha: Any = exponent(grid=(0.15, 0.35, 0.8))
    beta: Any = exponent(grid=(0.15, 0.35, 0.8))
    gamma: Any = exponent(low=0.02, high=20.0, grid=(0.5, 1.0, 2.0))

    def formula(self, N: Any, D: Any) -> Any:
        return self.E + (self.A * N**-self.alpha + self.B * D**-self.beta) ** self.gamma

    @property
    def rival_terms(self) -> tuple[Any, Any, Any, Any]:
        return self.A, self.alpha, self.B, self.beta


@dataclass(frozen=True)
class PowerMean(Law):
    """The three Chinchilla terms joined by a power mean: q = 1 adds them, a large q keeps the largest."""

    name: ClassVar = "power_mean"
    variables: ClassVar = ("N", "D")
    equation: ClassVar = "L = [E^q + (A / N^alpha)^q + (B / D^beta)^q]^(1/q)"
    source: ClassVar = "a smooth maximum of the terms of Hoffmann et al. 2022, eq. 2; values: illustrative"
    example: ClassVar = {"E": 1.9, "A": 300.0, "B": 800.0, "alpha": 0.3, "beta": 0.3, "q": 1.5}
    domain: ClassVar = {"N": N_RANGE, "D": D_RANGE}

    E: Any = level(low=1e-6, linear=False, grid=(0.4, 0.7, 0.9))
    A: Any = amplitude(lambda p: {"L": 1.0, "N": p["alpha"]}, low=1e-9, linear=False, grid=(0.1, 0.3))
    B: Any = amplitude(lambda p: {"L": 1.0, "D": p["beta"]}, low=1e-9, linear=False, grid=(0.1, 0.3))
    alpha: Any = exponent(grid=(0.15, 0.35, 0.8))
    beta: Any = exponent(grid=(0.15, 0.35, 0.8))
    q: Any = exponent(low=0.1, high=20.0, grid=(0.7, 1.0, 1.8))

    def formula(self, N: Any, D: Any) -> Any:
        q = self.q
        return (self.E**q + (self.A * N**-self.alpha) ** q + (self.B * D**-self.beta) ** q) ** (q**-1.0)

    @property
    def rival_terms(self) -> tuple[Any, Any, Any, Any]:
        q = self.q
        return np.power(self.A, q), self.alpha * q, np.power(self.B, q), self.beta * q


@dataclass(frozen=True)
class Tied(Law):
    """One exponent for N and D, written in compute C = 6 N D and tokens per parameter M = D / N."""

    name: ClassVar = "tied"
    variables: ClassVar = ("N", "D")
    equation: ClassVar = "L = E + (a M^eta + b M^-eta) C^-eta, with C = 6 N D and M = D / N"
    source: ClassVar = "Gadre et al. 2024, eq. 4; values: their C4 fit"
    example: ClassVar = {"E": 1.51, "a": 141.0, "b": 190.0, "eta": 0.121}
    domain: ClassVar = {"N": (1e7, 7e9), "D": (1e8, 1e12)}

    E: Any = level()
    a: Any = amplitude(lambda p: {"L": 1.0, "N": 2.0 * p["eta"]})
    b: Any = amplitude(lambda p: {"L": 1.0, "D": 2.0 * p["eta"]})
    eta: Any = exponent(grid=(0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.5, 0.8))

    def formula(self, N: Any, D: Any) -> Any:
        eta = self.eta
        return self.E + (self.a * (D / N) ** eta + self.b * (D / N) ** -eta) * (FLOPS_PER_PARAM_TOKEN * N * D) ** -eta

    @property
    def derived(self) -> dict[str, float]:
        """Parameters of the equal Chinchilla law: alpha = beta = 2 eta, A = a 6^-eta, B = b 6^-eta."""
        shrink = FLOPS_PER_PARAM_TOKEN**-self.eta
        return {"alpha": 2.0 * self.eta, "A": self.a * shrink, "B": self.b * shrink}

    @property
    def rival_terms(self) -> tuple[Any, Any, Any, Any]:
        return self.a, 2.0 * self.eta, self.b, 2.0 * self.eta


@dataclass(frozen=True)
class LearningRate(Law):
    """The best peak learning rate as a power law of model size (without embeddings) and data size."""

    name: ClassVar = "learning_rate"
    variables: ClassVar = ("N", "D")
    equation: ClassVar = "lr = k N^p D^q"
    source: ClassVar = "Li et al. 2025 (Predictable Units, part I: Step Law), eq. 1"
    predicts: ClassVar = "a learning rate"
    example: ClassVar = {"k": 1.79, "p": -0.713, "q": 0.307}
    domain: ClassVar = {"N": (5e7, 1e9), "D": (2e9, 1e11)}

    k: Any = amplitude(lambda p: {"L": 1.0, "N": -p["p"], "D": -p["q"]})
    p: Any = exponent(low=-5.0, grid=(-0.8, -0.4, 0.0, 0.4))
    q: Any = exponent(low=-5.0, grid=(-0.4, 0.0, 0.4, 0.8))

    def formula(self, N: Any, D: Any) -> Any:
        return self.k * N**self.p * D**self.q


SIZE_AND_DATA: tuple[type[Law], ...] = (Chinchilla, Kaplan, Gamma, PowerMean, Tied, LearningRate)
