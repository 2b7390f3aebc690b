# ruff: noqa: RUF009  (a parameter's declaration is a dataclass field)
"""Laws of one variable x: parameters N, tokens D, compute C or any other, named by the data at fit time.

M1 to M4 keep the symbols of Alabdulmohsin et al. 2022, except that c is positive where the loss falls with x.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from scaling.analysis.laws import jet
from scaling.analysis.laws.jet import Number
from scaling.analysis.laws.law import Law, Units, amplitude, exponent, level, positive

X_RANGE = (1e6, 1e11)


@dataclass(frozen=True)
class Power(Law):
    """A power law over an irreducible loss."""

    name: ClassVar = "power"
    variables: ClassVar = ("x",)
    equation: ClassVar = "L = E + A / x^alpha"
    source: ClassVar = "Henighan et al. 2020, eq. 1.1; values: the N term of Hoffmann et al. 2022, appendix D"
    example: ClassVar = {"E": 1.69, "A": 406.4, "alpha": 0.34}
    domain: ClassVar = {"x": X_RANGE}

    E: Any = level()
    A: Any = amplitude(lambda p: {"L": 1.0, "x": p["alpha"]})
    alpha: Any = exponent()

    def formula(self, x: Any) -> Any:
        return self.E + self.A * x**-self.alpha


@dataclass(frozen=True)
class PurePower(Law):
    """A power law that falls to zero."""

    name: ClassVar = "pure_power"
    variables: ClassVar = ("x",)
    equation: ClassVar = "L = A / x^alpha"
    source: ClassVar = "Kaplan et al. 2020, eq. 1.1-1.3; values: eq. 1.1"
    example: ClassVar = {"A": 11.476, "alpha": 0.076}  # N_c^alpha_N, N_c = 8.8e13
    domain: ClassVar = {"x": X_RANGE}

    A: Any = amplitude(lambda p: {"L": 1.0, "x": p["alpha"]})
    alpha: Any = exponent()

    def formula(self, x: Any) -> Any:
        return self.A * x**-self.alpha


@dataclass(frozen=True)
class BatchSize(Law):
    """The best batch size, in tokens, as a growing power law of the data size (of compute in DeepSeek-AI 2024)."""

    name: ClassVar = "batch_size"
    variables: ClassVar = ("x",)
    equation: ClassVar = "B = k x^p"
    source: ClassVar = "Li et al. 2025 (Predictable Units, part I: Step Law), eq. 1, with x = D"
    predicts: ClassVar = "a batch size"
    example: ClassVar = {"k": 0.58, "p": 0.571}
    domain: ClassVar = {"x": (2e9, 1e11)}

    k: Any = amplitude(lambda p: {"L": 1.0, "x": -p["p"]})
    p: Any = exponent(low=-5.0, grid=(-0.6, -0.3, 0.0, 0.3, 0.6))

    def formula(self, x: Any) -> Any:
        return self.k * x**self.p


@dataclass(frozen=True)
class M1(Law):
    """A power law through the origin (first estimator of Alabdulmohsin et al.)."""

    name: ClassVar = "m1"
    variables: ClassVar = ("x",)
    equation: ClassVar = "eps = beta x^-c"
    source: ClassVar = "Alabdulmohsin et al. 2022, estimator M1; values: as for pure_power"
    example: ClassVar = {"beta": 11.476, "c": 0.076}
    domain: ClassVar = {"x": X_RANGE}

    beta: Any = amplitude(lambda p: {"L": 1.0, "x": p["c"]})
    c: Any = exponent()

    def formula(self, x: Any) -> Any:
        return self.beta * x**-self.c


@dataclass(frozen=True)
class M2(Law):
    """A power law over a floor (second estimator of Alabdulmohsin et al.)."""

    name: ClassVar = "m2"
    variables: ClassVar = ("x",)
    equation: ClassVar = "eps = eps_inf + beta x^-c"
    source: ClassVar = "Alabdulmohsin et al. 2022, estimator M2; values: as for power"
    example: ClassVar = {"eps_inf": 1.69, "beta": 406.4, "c": 0.34}
    domain: ClassVar = {"x": X_RANGE}

    eps_inf: Any = level()
    beta: Any = amplitude(lambda p: {"L": 1.0, "x": p["c"]})
    c: Any = exponent()

    def formula(self, x: Any) -> Any:
        return self.eps_inf + self.beta * x**-self.c


@dataclass(frozen=True)
class M3(Law):
    """A power law that levels off at large x (third estimator of Alabdulmohsin et al.)."""

    name: ClassVar = "m3"
    variables: ClassVar = ("x",)
    equation: ClassVar = "eps = beta (1/x + gamma)^c"
    source: ClassVar = "Alabdulmohsin et al. 2022, estimator M3; values: illustrative"
    example: ClassVar = {"beta": 40.0, "gamma": 2e-9, "c": 0.15}
    domain: ClassVar = {"x": X_RANGE}

    beta: Any = amplitude(lambda p: {"L": 1.0, "x": p["c"]})
    gamma: Any = amplitude(lambda _: {"x": -1.0}, linear=False, grid=(0.0, 0.003, 0.1, 1.0))
    c: Any = exponent()

    def formula(self, x: Any) -> Any:
        return self.beta * (1.0 / x + self.gamma) ** self.c


@dataclass(frozen=True)
class M4(Law):
    """A power law between random guessing eps_0 and the floor eps_inf (fourth estimator of Alabdulmohsin et al.)."""

    name: ClassVar = "m4"
    variables: ClassVar = ("x",)
    equation: ClassVar = "(eps - eps_inf) / (eps_0 - eps)^alpha = beta x^-c"
    source: ClassVar = "Alabdulmohsin et al. 2022, estimator M4; values: illustrative"
    example: ClassVar = {"eps_inf": 0.2, "eps_0": 0.95, "alpha": 0.6, "beta": 300.0, "c": 0.35}
    domain: ClassVar = {"x": X_RANGE}

    eps_inf: Any = level(linear=False, grid=(0.1, 0.5, 0.9))
    eps_0: Any = level(low=-12.0, high=5.0, linear=False, grid=(-3.0, -0.5, 1.0))
    alpha: Any = exponent(low=0.02, grid=(0.3, 1.0))
    beta: Any = amplitude(
        lambda p: {"L": 1.0 - p["alpha"], "x": p["c"]},
        low=-30.0,
        high=30.0,
        linear=False,
        grid=(-2.0, -1.0, -0.4, 0.2),
    )
    c: Any = exponent(grid=(0.1, 0.3, 0.6, 1.2))

    @classmethod
    def unpack(cls, q: Mapping[str, Number], _units: Units, /) -> dict[str, Number]:
        """Return the scaled parameters for coordinates eps_0, log of its distance from eps_inf, and beta.

        Coordinate beta is the log of the excess over the floor at the centre.
        """
        p = dict(q)
        p["eps_0"] = q["eps_inf"] + jet.exp(q["eps_0"])
        p["beta"] = jet.exp(q["beta"] - q["alpha"] * q["eps_0"])
        return p

    def formula(self, x: Any) -> Any:
        gap = self.eps_0 - self.eps_inf
        target = jet.log(self.beta) - self.c * jet.log(x) - (1.0 - self.alpha) * jet.log(gap)
        # The equation, with s = (eps - eps_inf) / gap and z = logit s, is log s - alpha log(1 - s) = target
        z = _root(self.alpha, target)
        return self.eps_inf + gap * jet.exp(-jet.softplus(-z))


def _root(alpha: Any, target: Any) -> Any:
    """Return z where log s - alpha log(1 - s) = target, s = 1 / (1 + e^-z), with its exact derivatives."""
    plain_alpha, plain_target = jet.value(alpha), jet.value(target)
    z: Any = np.where(plain_target > 0, plain_target / plain_alpha, plain_target)
    for _ in range(30):  # steps are monotone after the first: the left side is convex or concave in z
        beyond, share, slope = _left_side(plain_alpha, z)
        step = (plain_alpha * beyond - (beyond - z) - plain_target) / slope
        z = z - step
        if jet.settled(step, z):
            break
    beyond, share, slope = _left_side(plain_alpha, z)
    bend = (plain_alpha - 1.0) * share * (1.0 - share)
    by_alpha, by_target = -beyond / slope, 1.0 / slope  # slopes of the implicit function z(alpha, target)
    bends = (
        -(bend * by_alpha + 2.0 * share) * by_alpha / slope,
        -(bend * by_alpha + share) * by_target / slope,
        -bend * by_target**2 / slope,
    )
    return jet.through(alpha, target, z, (by_alpha, by_target), bends)


def _left_side(alpha: Any, z: Any) -> tuple[Any, Any, Any]:
    """Return -log(1 - s), s, and the slope in z of log s - alpha log(1 - s)."""
    small = np.exp(-np.abs(z))
    beyond = np.maximum(z, 0.0) + np.log1p(small)
    share = np.where(z > 0, 1.0, small) / (1.0 + small)
    return beyond, share, alpha * share + np.where(z > 0, small, 1.0) / (1.0 + small)


@dataclass(frozen=True)
class BrokenPower(Law):
    """A power law with one smooth break at x = d_1 of sharpness 1 / f_1 (n = 1 break)."""

    name: ClassVar = "broken_power"
    variables: ClassVar = ("x",)
    equation: ClassVar = "y = a + b x^-c_0 (1 + (x / d_1)^(1 / f_1))^(-c_1 f_1)"
    source: ClassVar = "Caballero et al. 2022, eq. 1, one break; values: illustrative"
    example: ClassVar = {"a": 1.0, "b": 9.0, "c_0": 0.05, "c_1": 0.35, "d_1": 1e8, "f_1": 0.4}
    domain: ClassVar = {"x": X_RANGE}

    a: Any = level()
    b: Any = amplitude(lambda p: {"L": 1.0, "x": p["c_0"]})
    c_0: Any = exponent(low=-2.0, grid=(0.0, 0.1, 0.3, 0.6))
    c_1: Any = exponent(low=-5.0, grid=(-0.3, 0.1, 0.3, 0.7))
    d_1: Any = positive("place", along="x", low=-1.2, high=1.2, grid=(-0.6, -0.2, 0.2, 0.6), unit=lambda _: {"x": 1.0})
    f_1: Any = positive("log", low=-3.0, high=2.0, grid=(-1.5, 0.0))

    def formula(self, x: Any) -> Any:
        turn = jet.softplus(jet.log(x / self.d_1) / self.f_1)
        return self.a + self.b * x**-self.c_0 * jet.exp(-self.c_1 * self.f_1 * turn)


@dataclass(frozen=True)
class TaskExponential(Law):
    """Error on downstream tasks, which rises with the loss x to the error of guessing."""

    name: ClassVar = "task_exponential"
    variables: ClassVar = ("x",)
    equation: ClassVar = "Err = epsilon - k exp(-gamma x), x the loss"
    source: ClassVar = "Gadre et al. 2024, eq. 5; values: their C4 fit"
    predicts: ClassVar = "a task error"
    example: ClassVar = {"epsilon": 0.850, "k": 2.08, "gamma": 0.756}
    domain: ClassVar = {"x": (2.2, 5.0)}

    epsilon: Any = level()
    k: Any = amplitude(lambda _: {"L": 1.0})
    gamma: Any = exponent(high=200.0, grid=(0.3, 1.0, 2.0, 4.0, 8.0, 16.0), unit=lambda _: {"x": -1.0})

    @classmethod
    def unpack(cls, q: Mapping[str, Number], _units: Units, /) -> dict[str, Number]:
        """Return the scaled parameters for coordinate k, the exponential term at the centre."""
        return {**q, "k": q["k"] * jet.exp(q["gamma"])}

    def formula(self, x: Any) -> Any:
        return self.epsilon - self.k * jet.exp(-self.gamma * x)


@dataclass(frozen=True)
class TaskSigmoid(Law):
    """Error on a task as a sigmoid of the loss x, from its floor to the error of guessing."""

    name: ClassVar = "task_sigmoid"
    variables: ClassVar = ("x",)
    equation: ClassVar = "Err = b + a / (1 + exp(-k (x - L_0))), x the loss"
    source: ClassVar = "Bhagia et al. 2024 (step 2), for error in place of accuracy; values: illustrative"
    predicts: ClassVar = "a task error"
    example: ClassVar = {"a": 0.6, "b": 0.15, "k": 4.0, "L_0": 2.9}
    domain: ClassVar = {"x": (1.8, 4.5)}

    a: Any = level()
    b: Any = level()
    k: Any = positive("rate", along="x", low=-4.0, high=6.0, grid=(-0.5, 0.5, 1.5, 2.5), unit=lambda _: {"x": -1.0})
    L_0: Any = positive(
        "place",
        along="x",
        low=-3.0,
        high=3.0,
        grid=(-1.0, -0.5, 0.0, 0.5, 1.0),
        unit=lambda _: {"x": 1.0},
    )

    def formula(self, x: Any) -> Any:
        return self.b + self.a * jet.exp(-jet.softplus((x - self.L_0) * -self.k))


ONE_VARIABLE: tuple[type[Law], ...] = (
    Power, PurePower, BatchSize, M1, M2, M3, M4, BrokenPower, TaskExponential, TaskSigmoid,
)  # fmt: skip
