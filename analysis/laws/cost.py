"""Training FLOPs of a run by its size and tokens, and the fit of this cost to runs whose FLOPs are counted.

C = 6 N D (Kaplan et al. 2020, section 2.1) counts the parameters' matrix multiplications alone. Exact FLOPs hold the
output head and attention too, and no embeddings; these shares fall as models grow, so that C / (N D) tends to 6. A
power law of N beside 6 N has this limit, where a power law alone passes it by.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FLOPS_PER_PARAM_TOKEN = 6.0
SAME = 1e-3  # relative difference of FLOPs that rounding explains
LEAST_GAMMA = 0.3  # below this slope FLOPs and parameters do not belong together, and gamma stays 1
EXACT = 1e-6  # spread of log C that rounding explains
STEPS = 30  # of Newton's method, more than it ever takes


@dataclass(frozen=True)
class Cost:
    """C = (limit N + k N^gamma) D in FLOPs, N in parameters and D in tokens; spread: standard deviation of log C.

    limit: C / (N D) of endless models, 0 where the power law holds at every size. A negative k stands for parameters
    without FLOPs: C = limit N D / (1 + |k| / limit N^(gamma - 1)), the same to first order and never negative.
    """

    k: float = FLOPS_PER_PARAM_TOKEN
    gamma: float = 1.0
    spread: float = 0.0
    limit: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("k", abs(self.k) if self.limit > 0 else self.k), ("gamma", self.gamma)):
            if not (np.isfinite(value) and value > 0):
                raise ValueError(f"the cost's {name} must be positive, got {value}; C = 6 N D has k = 6 and gamma = 1")

    def rate(self, params: Any) -> Any:
        """FLOPs of one training token, in the number type of `params`."""
        if not self.limit:
            return self.k * params**self.gamma
        whole, share = params * self.limit, self._share(params)
        return whole * (share + 1.0) if self.k > 0 else whole / (share + 1.0)

    def slope(self, params: Any) -> Any:
        """d log C / d log N, in the number type of `params`."""
        if not self.limit:
            return self.gamma
        share = self._share(params)
        return share / (share + 1.0) * ((self.gamma - 1.0) * float(np.sign(self.k))) + 1.0

    def _share(self, params: Any) -> Any:
        return params ** (self.gamma - 1.0) * (abs(self.k) / self.limit)

    def flops(self, params: Any, tokens: Any) -> Any:
        """Training FLOPs of a model of `params` on `tokens`."""
        return self.rate(params) * tokens

    def tokens(self, flops: Any, params: Any) -> Any:
        """Tokens that `flops` buy for a model of `params`."""
        return flops / self.rate(params)

    def log_params(self, log_flops: Any, tokens_exponent: float = 0.0) -> Any:
        """Log N of the model on D = N^tokens_exponent tokens that costs so many FLOPs."""
        if not self.limit:
            return (log_flops - np.log(self.k)) / (self.gamma + tokens_exponent)
        log_N = (log_flops - np.log(self.limit)) / (1.0 + tokens_exponent)
        for _ in range(STEPS):
            N = np.exp(log_N)
            over = np.log(self.rate(N)) + tokens_exponent * log_N - log_flops
            log_N = log_N - over / (self.slope(N) + tokens_exponent)
        return log_N

    @property
    def per_token(self) -> str:
        """FLOPs of one token as text, such as 6 N."""
        if not self.limit:
            return f"{self.k:.4g} N" + ("" if self.gamma == 1 else f"^{self.gamma:.3f}")
        if self.k > 0:
            return f"({self.limit:.4g} N + {self.k:.4g} N^{self.gamma:.3f})"
        return f"{self.limit:.4g} N / (1 + {-self.k / self.limit:.4g} N^{self.gamma - 1:.3f})"

    def __str__(self) -> str:
        return f"C = {self.per_token} D"


def fit_cost(params: Array, tokens: Array, flops: Array) -> Cost:
    """Return the cost of runs (n,) by least squares of log(C / D): 6 N D beside or without a power law.

    The cost is 6 N D exactly where the runs' FLOPs agree with it within rounding. A power law alone stays where it
    scatters less than one that tends to 6 N, with gamma = 1 for runs of one size and for FLOPs that hardly rise with N.
    """
    if np.abs(flops / (FLOPS_PER_PARAM_TOKEN * params * tokens) - 1).max() < SAME:
        return Cost()
    x, rate = np.log(params), np.log(flops / tokens)
    alone = _power_law(x, rate)
    towards = _with_limit(x, rate)
    return towards if towards is not None and towards.spread <= max(alone.spread, EXACT) else alone


def _power_law(x: Array, rate: Array) -> Cost:
    slope = _line(x, rate)[0] if np.ptp(x) > SAME else 1.0
    gamma = slope if slope >= LEAST_GAMMA else 1.0
    log_k = float((rate - gamma * x).mean())
    return Cost(float(np.exp(log_k)), gamma, _spread(rate - log_k - gamma * x))


def _with_limit(x: Array, rate: Array) -> Cost | None:
    """The cost that tends to 6 N; None where the runs lie on either side of that, or do not approach it."""
    above = rate - x - np.log(FLOPS_PER_PARAM_TOKEN)
    sign = np.sign(above[0])
    if np.ptp(x) <= SAME or not (sign * above > 0).all():
        return None
    fall, level = _line(x, np.log(np.expm1(np.abs(above))))  # of the log share that 6 N lacks, or has too much
    for _ in range(STEPS):  # Gauss and Newton: the residuals of log C, not of the share
        log_share = level + fall * x
        whole = np.logaddexp(0.0, log_share)
        off, part = np.abs(above) - whole, np.exp(log_share - whole)
        if not np.isfinite(off).all():
            return None
        tangent = np.stack([part, part * x], axis=1)
        step = np.linalg.lstsq(tangent, off, rcond=None)[0]
        level, fall = level + float(step[0]), fall + float(step[1])
    if not (-1.0 < fall < 0.0 and np.isfinite(level)):
        return None
    k = float(sign * FLOPS_PER_PARAM_TOKEN * np.exp(level))
    spread = _spread(np.abs(above) - np.logaddexp(0.0, level + fall * x))
    return Cost(k, 1.0 + fall, spread, FLOPS_PER_PARAM_TOKEN)


def _line(x: Array, y: Array) -> tuple[float, float]:
    """Slope and level of the least-squares line."""
    away = x - x.mean()
    slope = float((away * y).sum() / (away**2).sum())
    return slope, float(y.mean() - slope * x.mean())


def _spread(off: Array) -> float:
    return float(np.sqrt((off**2).sum() / max(len(off) - 2, 1)))
