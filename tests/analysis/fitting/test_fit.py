"""The fitter: published data to their optimum, no tool lower, honest status, refusal of unusable data."""

import csv

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from scaling.analysis.fitting import fit
from scaling.analysis.fitting.fit import Loss
from scaling.analysis.fitting.misfit import pose
from scaling.analysis.fitting.newton import minimise
from scaling.analysis.fitting.starts import grid_starts
from scaling.analysis.laws import LAWS
from scaling.analysis.laws.law import build
from scaling.analysis.laws.size_and_data import Chinchilla
from tests.published import FOLDER

TRUTH = Chinchilla(**Chinchilla.example)
LOSSES = [Loss(), Loss("mse"), Loss("mae"), Loss("asymmetric"), Loss(on="linear"), Loss("mse", on="linear")]


def table(name: str) -> dict[str, np.ndarray]:
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"{name} is not beside the checkout")
    with path.open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    numeric = [c for c in rows[0] if c not in ("run_id", "source")]
    return {c: np.array([float(row[c]) for row in rows]) for c in numeric}


def simulated(n: int = 80, noise: float = 0.01, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    x = {"N": np.exp(rng.uniform(np.log(3e7), np.log(1e10), n)), "D": np.exp(rng.uniform(np.log(1e9), np.log(5e11), n))}
    return x, TRUTH(**x) * np.exp(rng.normal(0, noise, n))


# Hoffmann et al. 2022's runs as read from their figure 4 by Besiroglu et al. 2024. The ceilings are the best optima
# known of the same objective; one is quoted to six digits, so half a unit of the last of them is allowed on top.
@pytest.mark.parametrize(
    ("name", "keep_excluded", "n", "ceiling"),
    [
        ("epoch_chinchilla.csv", False, 240, 0.00101827403),
        ("epoch_chinchilla.csv", True, 245, 0.00182601 + 0.5e-8),
        ("chinchilla_pkg_llm.csv", True, 234, 0.0008400932),
    ],
)
def test_published_runs_are_fitted_to_their_optimum(name: str, keep_excluded: bool, n: int, ceiling: float) -> None:
    t = table(name)
    keep = np.ones(len(t["loss"]), dtype=bool) if keep_excluded else t["epoch_excluded"] == 0
    found = fit.fit("chinchilla", {"N": t["params"][keep], "D": t["tokens"][keep]}, t["loss"][keep])
    assert found.n == n
    assert found.status == "converged"
    assert found.objective <= ceiling
    assert found.evidence.agreed == found.evidence.starts
    assert found.evidence.residual < 1e-9


def test_the_optimum_of_published_runs_has_the_known_parameters() -> None:
    t = table("epoch_chinchilla.csv")
    keep = t["epoch_excluded"] == 0
    law = fit.fit("chinchilla", {"N": t["params"][keep], "D": t["tokens"][keep]}, t["loss"][keep]).law
    known = {"E": 1.8172, "A": 477.83, "B": 2143.4, "alpha": 0.34731, "beta": 0.36717}
    assert law.params == {name: pytest.approx(value, rel=5e-5) for name, value in known.items()}


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_a_general_purpose_optimiser_finds_nothing_lower(loss: Loss) -> None:
    x, y = simulated()
    found = fit.fit("chinchilla", x, y, loss=loss)
    assert found.status == "converged", found

    def objective(z: np.ndarray) -> float:
        E, A, B = np.exp(z[:3])
        with np.errstate(all="ignore"):
            predicted = E + A * x["N"] ** -z[3] + B * x["D"] ** -z[4]
            residual = np.log(y / predicted) if loss.on == "log" else y - predicted
            total = float(np.sum(loss(residual)))
        return total if np.isfinite(total) else 1e9

    p = found.law.params
    at = np.array([np.log(p["E"]), np.log(p["A"]), np.log(p["B"]), p["alpha"], p["beta"]])
    assert objective(at) == pytest.approx(found.objective, rel=1e-10)
    starts = [at, *(at + np.random.default_rng(k).normal(0, [0.1, 1, 1, 0.05, 0.05]) for k in range(3))]
    options = {"maxiter": 3000, "maxfev": 3000, "xatol": 1e-10, "fatol": 1e-14}
    for start in starts:
        rival = minimize(objective, start, method="Nelder-Mead", options=options)
        assert found.objective <= rival.fun * (1 + 1e-9)


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_few_starts_reach_what_many_reach(law: type) -> None:
    rng = np.random.default_rng(3)
    x = {name: np.exp(rng.uniform(*np.log(ends), 80)) for name, ends in law.domain.items()}
    y = build(law, law.example)(**x) * np.exp(rng.normal(0, 0.01, 80))
    found = fit.fit(law, x, y)
    problem = pose(law, x, y, Loss(), np.ones(80))
    many = fit.search(problem, grid_starts(problem, 40))
    assert found.evidence.residual < fit.ACCEPTED_RESIDUAL
    assert found.objective <= many.local.value.min() * (1 + 1e-7)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("name", ["chinchilla", "farseer", "m4", "data_constrained"])
def test_the_objective_has_exact_gradient_and_hessian(name: str, loss: Loss) -> None:
    law = LAWS[name]
    rng = np.random.default_rng(0)
    x = {v: np.exp(rng.uniform(*np.log(ends), 40)) for v, ends in law.domain.items()}
    y = build(law, law.example)(**x) * np.exp(rng.normal(0, 0.02, 40))
    problem = pose(law, x, y, loss, rng.uniform(0.5, 2.0, 40))
    q = grid_starts(problem, 2)[:1] + 0.01
    width = np.array([10.0])  # all residuals within: twice differentiable everywhere
    row = np.zeros(1, dtype=int)
    here = problem(q, row, width, width)
    for k in range(q.shape[1]):
        h = 1e-5 * np.eye(q.shape[1])[k]
        up, down = problem(q + h, row, width, width), problem(q - h, row, width, width)
        size = np.abs(here.gradient).max() + np.abs(here.hessian).max()
        assert here.gradient[0, k] == pytest.approx((up.value[0] - down.value[0]) / 2e-5, abs=1e-6 * size)
        np.testing.assert_allclose(
            here.hessian[0, k], (up.gradient[0] - down.gradient[0]) / 2e-5, atol=1e-6 * np.abs(here.hessian).max()
        )


def test_a_weight_of_two_is_an_observation_twice_and_zero_is_none() -> None:
    x, y = simulated(40)
    weights = np.array([2.0] * 5 + [0.0] * 5 + [1.0] * 30)
    weighted = fit.fit("chinchilla", x, y, weights=weights)
    rows = np.concatenate([np.repeat(np.arange(5), 2), np.arange(10, 40)])
    copied = fit.fit("chinchilla", {name: v[rows] for name, v in x.items()}, y[rows])
    assert weighted.objective == pytest.approx(copied.objective, rel=1e-9)
    assert weighted.law.params == pytest.approx(copied.law.params, rel=1e-6)
    assert weighted.n == 40


def test_the_order_of_observations_does_not_matter_and_residuals_keep_it() -> None:
    x, y = simulated(40)
    order = np.random.default_rng(0).permutation(40)
    one, two = fit.fit("chinchilla", x, y), fit.fit("chinchilla", {k: v[order] for k, v in x.items()}, y[order])
    np.testing.assert_allclose(two.residuals, one.residuals[order], atol=1e-9)
    np.testing.assert_allclose(one.residuals, np.log(y / one.law(**x)))


def test_a_law_of_one_variable_takes_its_name_from_the_data() -> None:
    C = np.geomspace(1e18, 1e22, 30)
    found = fit.fit("power", {"C": C}, 1.7 + 50 * C**-0.1)
    assert found.law(C=1e24) == pytest.approx(1.7 + 50 * 1e24**-0.1)
    with pytest.raises(ValueError, match="takes C"):
        found.law(N=1e9)


def test_an_absent_floor_ends_at_its_bound_and_says_so() -> None:
    x, _ = simulated(40)
    found = fit.fit("chinchilla", x, 0.9 * (500 * x["N"] ** -0.3 + 3000 * x["D"] ** -0.3) - 0.2)
    assert found.status == "at_bound"
    assert "E" in found.evidence.at_bound
    assert found.why.startswith("at the edge of its range: ")
    assert found.law.params["E"] == 0.0
    assert "E = 0  (at its bound)" in str(found)


def test_a_parameter_no_run_responds_to_is_not_printed_as_a_number() -> None:
    x, y = simulated(60)
    found = fit.fit("data_constrained", {**x, "U": 2 * x["D"]}, y)
    assert "R_D_star" in found.evidence.unseen
    assert "R_D_star is not determined" in str(found)
    assert "R_D_star = " not in str(found)
    assert "do not determine R_D_star" in found.why


def test_a_search_cut_short_is_reported_not_raised() -> None:
    x, y = simulated(40)
    problem = pose(Chinchilla, x, y, Loss(), np.ones(40))
    low, high = problem.bounds
    widths = problem.loss.widths(problem.unit)
    ends = minimise(
        problem, grid_starts(problem, 2), low, high, frozen=problem.frozen, smoothing=widths, max_iterations=1
    )
    found = fit.report(problem, ends, "", x, y, np.ones(40))
    assert found.status == "did_not_converge"
    assert "KKT residual" in found.why


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: ({**x, "N": np.full(30, 1e8)}, y), r"every observation has the same N = 1e\+08"),
        (lambda x, y: ({**x, "D": 1e20 / x["N"]}, y), "N and D lie on one line .* one budget"),
        (lambda x, y: ({**x, "D": 20 * x["N"]}, y), "N and D lie on one line .* one ratio D/N"),
        (lambda x, y: ({k: v[:4] for k, v in x.items()}, y[:4]), "4 observations cannot determine the 5 parameters"),
        (
            lambda x, y: (x, np.where(np.arange(30) > 26, np.nan, y)),
            r"y has 3 of 30 values not finite, first nan at 27",
        ),
        (lambda x, y: (x, np.where(np.arange(30) == 3, np.inf, y)), r"y has 1 of 30 values not finite, first inf at 3"),
        (lambda x, y: (x, -y), r"y has 30 of 30 values not positive"),
        (lambda x, y: ({**x, "N": x["N"] - x["N"][5]}, y), r"N has \d+ of 30 values not positive"),
        (lambda x, y: ({**x, "N": x["N"] * 1e70}, y), r"N has 30 of 30 values outside"),
        (lambda x, y: ({**x, "D": x["D"][:-1]}, y), "D has 29 values but y has 30"),
        (lambda x, y: ({"N": x["N"]}, y), "is fitted to N, D; got N"),
        (lambda x, y: ({}, y), "got no columns"),
        (lambda x, y: ({**x, "N": ["big"] * 30}, y), "N must hold numbers"),
        (lambda x, y: (x, y[:, None]), "y must be one column"),
    ],
)
def test_unusable_data_are_refused_in_one_line(change: object, message: str) -> None:
    x, y = change(*simulated(30))  # type: ignore[operator]
    with pytest.raises(ValueError, match=message) as refusal:
        fit.fit("chinchilla", x, y)
    assert "\n" not in str(refusal.value)


def test_bad_weights_and_settings_are_refused() -> None:
    x, y = simulated(30)
    with pytest.raises(ValueError, match="weights has 1 of 30 values negative"):
        fit.fit("chinchilla", x, y, weights=np.where(np.arange(30) == 2, -1.0, 1.0))
    with pytest.raises(ValueError, match="0 observations cannot determine"):
        fit.fit("chinchilla", x, y, weights=np.zeros(30))
    with pytest.raises(ValueError, match="unknown law 'chinchila'.*chinchilla"):
        fit.fit("chinchila", x, y)
    with pytest.raises(ValueError, match="unknown loss 'l2'; choose from huber, mse, mae, asymmetric"):
        Loss("l2")
    with pytest.raises(ValueError, match="delta must be a positive number"):
        Loss(delta=0.0)
    with pytest.raises(ValueError, match="unknown residual 'bits'"):
        Loss(on="bits")


def test_errors_of_zero_can_be_fitted_on_the_linear_scale() -> None:
    x = np.linspace(1.0, 4.0, 40)
    y = np.maximum(0.9 - 3.0 * np.exp(-1.2 * x), 0.0)
    found = fit.fit("task_exponential", {"L": x}, y, loss=Loss("mse", on="linear"))
    assert found.status == "converged"
    assert np.isnan(found.residuals[y == 0]).all()
    assert found.objective < 0.1


parameters = st.fixed_dictionaries(
    {
        "E": st.floats(0.3, 4.0), "alpha": st.floats(0.1, 0.9), "beta": st.floats(0.1, 0.9),
        "at_N": st.floats(0.1, 2.0), "at_D": st.floats(0.1, 2.0), "noise": st.floats(0.0, 0.1),
        "seed": st.integers(0, 10**6), "n": st.integers(8, 60),
    }
)  # fmt: skip


# A term so steep that it acts at the smallest model alone, and 8 runs: in units of the middle no search ends.
STEEP = {"E": 2.0, "alpha": 0.5, "beta": 0.5, "at_N": 0.25, "at_D": 0.125, "noise": 0.0625, "seed": 124, "n": 8}


@given(parameters)
@example(STEEP)
@settings(max_examples=40, deadline=None)
def test_the_fit_is_never_worse_than_the_truth_it_was_simulated_from(p: dict[str, float]) -> None:
    rng = np.random.default_rng(p["seed"])
    n = p["n"]
    x = {"N": np.exp(rng.uniform(16, 24, n)), "D": np.exp(rng.uniform(20, 28, n))}
    A, B = p["at_N"] * np.exp(20 * p["alpha"]), p["at_D"] * np.exp(24 * p["beta"])
    truth = Chinchilla(E=p["E"], A=A, B=B, alpha=p["alpha"], beta=p["beta"])
    y = truth(**x) * np.exp(rng.normal(0, p["noise"], n))
    found = fit.fit("chinchilla", x, y)
    at_truth = float(np.sum(Loss()(np.log(y / truth(**x)))))
    assert found.objective <= at_truth * (1 + 1e-9) + 1e-18
    assert found.status != "did_not_converge", found


@given(parameters, st.floats(1e-9, 1e9), st.floats(1e-9, 1e9), st.floats(1e-3, 1e3))
@settings(max_examples=20, deadline=None)
def test_units_of_parameters_tokens_and_loss_change_no_prediction(
    p: dict[str, float], of_N: float, of_D: float, of_L: float
) -> None:
    x, y = simulated(40, p["noise"], p["seed"])
    one = fit.fit("chinchilla", x, y)
    two = fit.fit("chinchilla", {"N": x["N"] * of_N, "D": x["D"] * of_D}, y * of_L)
    assert two.objective == pytest.approx(one.objective, rel=1e-6, abs=1e-18)


anything = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.0, -1.0, 1.0, 1e300, 1e-300, 2.5])


def fit_or_reason(N: np.ndarray, D: np.ndarray, L: np.ndarray) -> fit.Fit | str:
    try:
        return fit.fit("chinchilla", {"N": N, "D": D}, L)
    except ValueError as refusal:
        return str(refusal)


@given(st.lists(st.tuples(anything, anything, anything), min_size=0, max_size=12))
@settings(max_examples=60, deadline=None)
def test_any_numbers_end_in_a_finite_fit_or_one_line(rows: list[tuple[float, float, float]]) -> None:
    found = fit_or_reason(*(np.array([row[k] for row in rows], dtype=float) for k in range(3)))
    if isinstance(found, str):
        assert found
        assert "\n" not in found
    else:
        assert np.isfinite(found.objective) or found.status == "did_not_converge"


@pytest.mark.long
@given(st.lists(st.tuples(*[st.floats(1e-30, 1e30)] * 3), min_size=5, max_size=12))
@settings(max_examples=12, deadline=None)
def test_any_positive_numbers_end_in_a_finite_fit_or_one_line(rows: list[tuple[float, float, float]]) -> None:
    found = fit_or_reason(*(np.array([row[k] for row in rows], dtype=float) for k in range(3)))
    if not isinstance(found, str):
        assert np.isfinite(found.objective) or found.status == "did_not_converge"
