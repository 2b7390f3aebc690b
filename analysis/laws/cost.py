"""Training FLOPs of a run as C = k N^gamma D, and the fit of k and gamma to runs whose FLOPs are counted.

C = 6 N D (Kaplan et al. 2020, section 2.1) counts the parameters' matrix multiplications alone. Exact FLOPs hold the
output head and attention too, whose share falls as models grow, so that C / (N D) falls with N: gamma < 1.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FLOPS_PER_PARAM_TOKEN = 6.0
SAME = 1e-3  # relative difference of FLOPs that rounding explains
LEAST_GAMMA = 0.3  # below this slope FLOPs and parameters do not belong together, and gamma stays 1


@dataclass(frozen=True)
class Cost:
    """C = k N^gamma D in FLOPs, N in parameters and D in tokens; spread: standard deviation of log C about the fit."""

    k: float = FLOPS_PER_PARAM_TOKEN
    gamma: float = 1.0
    spread: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("k", self.k), ("gamma", self.gamma)):
            if not (np.isfinite(value) and value > 0):
                raise ValueError(f"the cost's {name} must be positive, got {value}; C = 6 N D has k = 6 and gamma = 1")

    def flops(self, params: Any, tokens: Any) -> Any:
        """Training FLOPs of a model of `params` on `tokens`."""
        return self.k * params**self.gamma * tokens

    def tokens(self, flops: Any, params: Any) -> Any:
        """Tokens that `flops` buy for a model of `params`."""
        return flops / (self.k * params**self.gamma)

    @property
    def per_token(self) -> str:
        """FLOPs of one token as text, such as 6 N."""
        return f"{self.k:.4g} N" + ("" if self.gamma == 1 else f"^{self.gamma:.3f}")

    def __str__(self) -> str:
        return f"C = {self.per_token} D"


def fit_cost(params: Array, tokens: Array, flops: Array) -> Cost:
    """Return the cost by least squares of log(C / D) = log k + gamma log N over runs (n,).

    The cost is 6 N D exactly where the runs' FLOPs agree with it within rounding. Runs of one size, and runs whose
    FLOPs hardly rise with N, keep gamma = 1.
    """
    if np.abs(flops / (FLOPS_PER_PARAM_TOKEN * params * tokens) - 1).max() < SAME:
        return Cost()
    x, rate = np.log(params), np.log(flops / tokens)
    away = x - x.mean()
    slope = float((away * rate).sum() / (away**2).sum()) if np.ptp(x) > SAME else 1.0
    gamma = slope if slope >= LEAST_GAMMA else 1.0
    log_k = float((rate - gamma * x).mean())
    free = max(len(x) - 2, 1)
    return Cost(float(np.exp(log_k)), gamma, float(np.sqrt(((rate - log_k - gamma * x) ** 2).sum() / free)))
