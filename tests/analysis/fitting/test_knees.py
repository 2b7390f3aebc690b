"""The exact optimum of the Huber loss where residuals are large against delta, held against independent witnesses."""

import numpy as np
import pytest
from scipy.optimize import linprog, minimize

from scaling.analysis.fitting.bootstrap import bootstrap
from scaling.analysis.fitting.fit import Fit, Loss, fit
from scaling.analysis.fitting.knees import Programme
from scaling.analysis.fitting.profile_likelihood import profile_likelihood
from scaling.analysis.laws import LAWS

Columns = dict[str, np.ndarray]
POWERS = ("pure_power", "m1", "batch_size", "learning_rate")  # linear in the logs
# Six points of no particular kind, and three: delta is far inside their scatter.
SIX = (
    np.array([2e19, 6.93144843e19, 2.40224887e20, 8.32553207e20, 2.88539981e21, 1e22]),
    np.array([1.4582954, 1.2736753, 1.1202370, 0.98446283, 0.86763826, 0.77487340]),
)
THREE = np.array([2e19, 1.31e20, 7.16e20]), np.array([3.2373, 2.9538, 2.7515])


def random_set(seed: int) -> tuple[str, Columns, np.ndarray, np.ndarray, Loss]:
    """Return a few observations of a product of powers: outliers, ties, weights and knees of several sizes."""
    rng = np.random.default_rng([seed, 7])
    name = POWERS[seed % len(POWERS)]
    law = LAWS[name]
    n = int(rng.integers(len(law.declared()) + 1, 13))
    x = {v: np.exp(rng.uniform(*np.log(law.domain[v]), n)) for v in law.variables}
    noise = (rng.normal(size=n), rng.standard_t(1.5, size=n), rng.laplace(size=n))[seed % 3] * 10 ** rng.uniform(-3, 0)
    y = law(**law.example)(**x) * np.exp(np.clip(noise, -4, 4))
    if seed % 5 == 0:
        y = 2.0 ** np.round(np.log2(y))
    weights = rng.uniform(0.5, 2.0, n) if seed % 2 else np.ones(n)
    return name, x, y, weights, Loss(delta=float(rng.choice([1e-4, 1e-3, 1e-2])))


def lower_bound(found: Fit, x: Columns, y: np.ndarray, weights: np.ndarray) -> float:
    """Return a value that no parameters of a product of powers go below: the dual of its Huber regression.

    Any scores z (n,) within delta that are orthogonal to the logs of the variables bound the objective from below by
    the sum of w (z t - z^2 / 2), t the log observations; an exponent at a bound b adds b times its own product.
    """
    law, delta = found.law, found.loss.delta
    logs = np.stack([np.ones(len(y)), *(np.log(v) - np.log(v).mean() for v in x.values())], axis=1)
    names = list(law.params)
    held = [names.index(name) for name in found.evidence.at_bound]
    root = np.sqrt(weights)
    free = np.delete(logs, held, axis=1) * root[:, None]
    z = root * np.clip(found.residuals, -delta, delta)
    z = (z - free @ np.linalg.lstsq(free, z, rcond=None)[0]) / root
    z *= min(1.0, delta / np.abs(z).max())
    bound = float(np.sum(weights * (z * np.log(y) - 0.5 * z**2)))
    falls = -1.0 if law.name in ("pure_power", "m1") else 1.0
    product = logs.T @ (weights * z)
    for k in held:
        limits = np.array(law.declared()[names[k]].limits)
        bound += float(np.min(-product[k] * falls * limits))
    return bound


@pytest.mark.parametrize("seed", range(40))
def test_no_parameters_of_a_product_of_powers_go_lower(seed: int) -> None:
    name, x, y, weights, loss = random_set(seed)
    found = fit(name, x, y, loss=loss, weights=weights)
    assert found.status != "did_not_converge", found.why
    assert found.objective <= lower_bound(found, x, y, weights) * (1 + 1e-8) + 1e-18


@pytest.mark.parametrize(("points", "objective"), [(SIX, 2.245e-5), (THREE, 5.49e-6)], ids=["six", "three"])
def test_a_few_ordinary_points_are_fitted_to_their_optimum(
    points: tuple[np.ndarray, np.ndarray], objective: float
) -> None:
    found = fit("pure_power", {"C": points[0]}, points[1])
    assert found.status == "converged"
    assert found.objective == pytest.approx(objective, rel=1e-3)
    assert found.objective <= lower_bound(found, {"C": points[0]}, points[1], np.ones(len(points[1]))) * (1 + 1e-9)


def tied_rates(n: int = 1911) -> tuple[Columns, np.ndarray]:
    """Return learning rates on a grid of half octaves, sizes and tokens on grids: most residuals are tied."""
    rng = np.random.default_rng(7)
    N, D = (np.exp(np.round(rng.uniform(*np.log(ends), n) * 2) / 2) for ends in ((5e7, 1e9), (2e9, 1e11)))
    logs = np.log(1.79) - 0.713 * np.log(N) + 0.307 * np.log(D) + rng.standard_t(2, n)
    return {"N": N, "D": D}, np.exp(np.round(2 * logs / np.log(2)) / 2 * np.log(2))


def test_a_law_of_two_thousand_scattered_rates_ends_where_linear_programming_does() -> None:
    x, y = tied_rates()
    found = fit("learning_rate", x, y)
    logs = np.stack([np.ones(len(y)), *(np.log(v) - np.log(v).mean() for v in x.values())], axis=1)
    one = np.eye(len(y))
    absolute = linprog(
        np.concatenate([np.zeros(3), np.ones(2 * len(y))]),
        A_eq=np.hstack([logs, one, -one]),
        b_eq=np.log(y),
        bounds=[(None, None)] * 3 + [(0, None)] * (2 * len(y)),
        method="highs",
    )
    delta = found.loss.delta
    assert found.status == "converged"
    assert delta * absolute.fun - 0.5 * delta**2 * len(y) <= found.objective <= delta * absolute.fun
    assert found.objective <= lower_bound(found, x, y, np.ones(len(y))) * (1 + 1e-9)
    np.testing.assert_allclose([found.law.p, found.law.q], absolute.x[1:3], rtol=0, atol=2e-3)


def test_resamples_and_profiles_of_scattered_points_reach_their_optima_too() -> None:
    x, y = tied_rates(200)
    found = fit("learning_rate", x, y)
    drawn = bootstrap(found, x, y, n=40)
    assert drawn.converged.all()
    profile = profile_likelihood(found, x, y, "p")
    assert all(profile.closed)
    assert profile.objective.min() == pytest.approx(found.objective, rel=1e-9)
    # the profile of a convex objective is convex
    slopes = np.diff(profile.objective) / np.diff(profile.values)
    assert (np.diff(slopes) >= -1e-6 * np.abs(slopes).max()).all()


@pytest.mark.parametrize("seed", range(8))
def test_a_programme_ends_at_the_minimum_in_its_box(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, p, n = 3, 1 + seed % 4, 9
    width = 10.0 ** rng.uniform(-2, 0)
    programme = Programme(
        rng.normal(size=(rows, n)), rng.normal(size=(rows, p, n)), rng.uniform(0, 2, (rows, n)), width
    )
    low, high = -rng.uniform(0, 1, (rows, p)), rng.uniform(0, 1, (rows, p))
    low[0], high[1] = 0.0, 0.0  # bounds reached from the start
    step = programme.minimise(low, high)
    assert (step >= low).all()
    assert (step <= high).all()
    for row in range(rows):
        one = Programme(*(part[[row]] for part in (programme.residual, programme.tangent, programme.weight)), width)
        rivals = [
            minimize(
                lambda s, one=one: float(one.loss(s[None])[0]),
                start,
                bounds=list(zip(low[row], high[row], strict=True)),
                method="Powell",
                options={"xtol": 1e-9, "ftol": 1e-12},
            ).fun
            for start in (step[row], rng.uniform(low[row], high[row]))
        ]
        assert one.loss(step[[row]])[0] <= min(rivals) * (1 + 1e-9)
