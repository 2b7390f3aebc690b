# ruff: noqa: RUF009  (a parameter's declaration is a dataclass field)
"""A scaling law of one's own, in one class: fitted to runs, and its optimum printed.

python examples/own_law.py
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from scaling.analysis.fitting.bootstrap import bootstrap
from scaling.analysis.fitting.fit import fit
from scaling.analysis.laws.law import Law, amplitude, exponent, level


# A law is a frozen dataclass: declared parameters, and one formula over them. Gradients, the fitter's units and the
# compute optimum follow from these. In the repository the class would stand in analysis/laws/size_and_data.py, and in
# that module's tuple, and `scaling fit --law one_exponent` would know it.
@dataclass(frozen=True)
class OneExponent(Law):
    """Shortages of parameters and of tokens add up first, and are raised to one power together."""

    name: ClassVar = "one_exponent"
    variables: ClassVar = ("N", "D")
    equation: ClassVar = "L = E + (A / N + B / D)^alpha"
    source: ClassVar = "examples/own_law.py"
    example: ClassVar = {"E": 1.7, "A": 8e4, "B": 2e6, "alpha": 0.35}
    domain: ClassVar = {"N": (1e6, 1e9), "D": (1e8, 1e11)}

    E: Any = level()  # in units of the loss, at least 0
    # A factor's unit depends on the exponent; the loss is not linear in A or B, so a coarse grid starts the search.
    A: Any = amplitude(lambda p: {"L": p["alpha"] ** -1.0, "N": 1.0}, linear=False, grid=(0.1, 0.3, 0.8))
    B: Any = amplitude(lambda p: {"L": p["alpha"] ** -1.0, "D": 1.0}, linear=False, grid=(0.1, 0.3, 0.8))
    alpha: Any = exponent()

    def formula(self, N: Any, D: Any) -> Any:
        return self.E + (self.A / N + self.B / D) ** self.alpha


def main() -> None:
    # Runs to fit: here simulated from known values, with 0.2% of noise. Columns of a CSV would do as well.
    truth = OneExponent(**OneExponent.example)
    random = np.random.default_rng(0)
    params = np.exp(random.uniform(np.log(1e6), np.log(1e9), 60))
    tokens = params * np.exp(random.uniform(np.log(5), np.log(100), 60))
    loss = truth(N=params, D=tokens) * np.exp(random.normal(0, 0.002, 60))

    runs = {"N": params, "D": tokens}
    result = fit(OneExponent, runs, loss)
    print(result)  # the parameters, whether the search converged, and the evidence that it did

    draws = bootstrap(result, runs, loss, n=200)
    for name, value in result.law.params.items():
        interval = draws.interval(name)
        print(f"{name} = {value:.4g} [{interval.low:.4g}, {interval.high:.4g}], simulated from {truth.params[name]:g}")

    best = result.law.optimum(C=1e21)
    print(f"1e21 FLOPs buy {best.N:.3g} parameters on {best.D:.3g} tokens, and a loss of {best.loss:.4f} nats")


if __name__ == "__main__":
    main()
