"""Verdicts: do the runs reject a law?

Where repeats measure the noise, Fisher's lack of fit judges a law against it. Elsewhere a law of N and D is judged at
the isoFLOP minima inside the data: a level and a tilt of every budget beside the law, its errors in L* and in N* there,
must not explain more than the noise that they leave. Neither may residuals follow each other along a variable of the
law or along compute. A power law through minima is judged by their errors. A law is rejected where its least
probability, times the number of its tests (Bonferroni), lies below REJECTED.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scaling.analysis.fitting.fit import Fit
from scaling.analysis.fitting.lack_of_fit import LeastSquares, indicators, least_squares, probability_in_order
from scaling.analysis.quantiles import f_tail
from scaling.analysis.runs.budgets import group_budgets
from scaling.analysis.runs.observations import Observations
from scaling.analysis.runs.repeats import cells
from scaling.analysis.schema.verdicts import Tested, VerdictEntry

Array = NDArray[np.float64]

REJECTED = 0.001
LEAST_REPEATS = 3  # degrees of freedom, and one for every second cell, from which repeats measure the noise
LEAST_NOISE = 3  # degrees of freedom that level and tilt of every budget must leave
LEAST_VALUES = 4  # of a variable, for an order along it
TOO_FEW = "the runs are too few, or too exact, to judge it"


@dataclass(frozen=True)
class Test:
    """One test of a law: the probability, under the law, of a statistic as large, and the finding in words."""

    of: Tested
    probability: float
    words: str
    along: str = ""


@dataclass(frozen=True)
class Verdict:
    """The tests of a law, and whether they reject it."""

    tests: tuple[Test, ...] = ()

    @property
    def probability(self) -> float | None:
        """The least probability times the number of tests, at most 1; None without tests."""
        return min(1.0, len(self.tests) * min(one.probability for one in self.tests)) if self.tests else None

    @property
    def rejected(self) -> bool:
        """Whether the runs reject the law."""
        return self.probability is not None and self.probability < REJECTED

    @property
    def words(self) -> str:
        """The verdict, with the test that gave the least probability."""
        if self.probability is None:
            return f"not judged: {TOO_FEW}"
        strictest = min(self.tests, key=lambda one: one.probability)
        times = f" after correction for {len(self.tests)} tests" if len(self.tests) > 1 else ""
        if self.rejected:
            return f"rejected: {strictest.words} (p = {self.probability:.1g}{times})"
        return f"not rejected (p = {self.probability:.2g}{times})"

    @property
    def entry(self) -> VerdictEntry:
        """The verdict in a document."""
        return {
            "rejected": self.rejected,
            "probability": self.probability,
            "tests": [
                {"of": one.of, "along": one.along, "probability": one.probability, "words": one.words}
                for one in self.tests
            ],
            "words": self.words,
        }


def of_law(fitted: Fit, x: Mapping[str, Array], y: Array, observations: Observations) -> Verdict:
    """Judge a law fitted to these observations: x its variables by their symbols, y its measured values, (n,) each."""
    found = least_squares(fitted, x, y, observations.column("weight"))
    if found is None or found.is_exact:
        return Verdict()
    clusters = observations.table["cluster"].nunique()
    share = clusters / len(y)  # rows of one run share its noise
    alike = cells(observations)
    count = len(np.unique(alike))
    if len(y) - count >= max(count / 2, LEAST_REPEATS):
        return Verdict(tuple(_against_repeats(found, alike, share)))
    of_both = set(x) == {"N", "D"}
    orders = {**x, "C": observations.column("flops")} if of_both else dict(x)
    return Verdict(
        (
            *(_at_minima(found, observations, share) if of_both else ()),
            *(_in_order(found, orders) if clusters == len(y) else ()),
        )
    )


def _against_repeats(found: LeastSquares, alike: NDArray[np.intp], share: float) -> Iterator[Test]:
    if (added := found.added(indicators(alike), share)) is not None:
        yield Test(
            "repeats",
            added.probability,
            f"its losses miss those measured by more than repeats differ (lack of fit F = {added.F:.3g} on "
            f"{added.freedom:.3g} and {added.noise_freedom:.3g} degrees of freedom)",
        )


def _at_minima(found: LeastSquares, observations: Observations, share: float) -> Iterator[Test]:
    """Level and tilt of the losses of every budget, beside the law."""
    budgets, _ = group_budgets(observations)
    columns = []
    for budget in budgets:
        level, tilt = np.zeros(len(found.weights)), np.zeros(len(found.weights))
        level[budget.rows] = 1.0
        tilt[budget.rows] = budget.log_params - budget.log_params[budget.loss.argmin()]
        columns += [level, tilt]
    added = found.added(np.stack(columns, axis=1), share) if len(budgets) > 1 else None
    if added is not None and added.noise_freedom >= LEAST_NOISE:
        yield Test(
            "minima",
            added.probability,
            f"its N* or L* at the budgets' minima misses those measured by more than noise (F = {added.F:.3g} on "
            f"{added.freedom:.3g} and {added.noise_freedom:.3g} degrees of freedom)",
        )


def _in_order(found: LeastSquares, orders: Mapping[str, Array]) -> Iterator[Test]:
    """Residuals ordered by each variable, equal values of which stand in the order of the others."""
    for name, values in orders.items():
        if len(np.unique(values)) < LEAST_VALUES:
            continue
        others = [other for key, other in orders.items() if key != name]
        probability = probability_in_order(found.residuals[np.lexsort([*others, values])])
        if probability is not None:
            words = f"its residuals follow each other along {name} (rank test of von Neumann's ratio)"
            yield Test("order", probability, words, name)


def of_power_law(quantity: Tested, tangent: Array, values: Array, sd: Array, noise_freedom: int) -> tuple[Test, ...]:
    """Judge a least-squares law through minima by their standard deviations.

    tangent: (b, k) of the fitted values by the law's parameters; values, sd: (b,) residuals and errors of the minima.
    """
    known = np.isfinite(sd) & np.isfinite(values)
    free = int(known.sum()) - tangent.shape[1]
    if not known.all() or free < 1 or noise_freedom < 1:
        return ()
    beside = np.linalg.qr(tangent, mode="complete")[0][:, tangent.shape[1] :]  # (b, free)
    off = beside.T @ values
    covariance = beside.T @ (sd[:, None] ** 2 * beside)
    F = float(off @ np.linalg.solve(covariance, off)) / free
    symbol = "N*" if quantity == "params" else "L*"
    words = f"the minima's {symbol} miss it by more than their errors (F = {F:.3g} on {free} and {noise_freedom} "
    return (Test(quantity, float(f_tail(F, free, noise_freedom)), f"{words}degrees of freedom)"),)
