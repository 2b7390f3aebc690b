"""Every law in the registry: exact gradients, recovery without noise, invariance to units, optimum, printing."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from scaling.analysis.fitting import fit
from scaling.analysis.laws import LAWS, jet
from scaling.analysis.laws.coupled import DataConstrained
from scaling.analysis.laws.law import Law, build, from_columns
from scaling.analysis.laws.size_and_data import Chinchilla

EVERY = pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
OF_LOSS = [law for law in LAWS.values() if law.predicts == "loss" and {"N", "D"} <= set(law.variables)]
WITH_OPTIMUM = pytest.mark.parametrize("law", OF_LOSS, ids=[law.name for law in OF_LOSS])


def example(law: type[Law]) -> Law:
    return build(law, law.example)


IN_CLOSED_FORM = [law for law in OF_LOSS if example(law).rival_terms is not None]


def points(law: type[Law], n: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: np.exp(rng.uniform(*np.log(ends), n)) for name, ends in law.domain.items()}


def held(law: type[Law]) -> dict[str, float]:
    return {name: ends[1] for name, ends in law.domain.items() if name not in ("N", "D")}


@EVERY
def test_gradient_equals_central_differences(law: type[Law]) -> None:
    x = points(law, 50)
    exact = example(law).gradient(**x)
    for k, (name, value) in enumerate(law.example.items()):
        h = 1e-5 * abs(value)
        above, below = (build(law, {**law.example, name: value + s * h})(**x) for s in (1, -1))
        np.testing.assert_allclose(
            exact[:, k], (above - below) / (2 * h), rtol=1e-5, atol=1e-6 * abs(exact[:, k]).max()
        )


@EVERY
def test_noise_free_data_return_the_law_that_made_them(law: type[Law]) -> None:
    x = points(law, 150)
    found = fit.fit(law, x, example(law)(**x))
    assert found.status == "converged", found
    assert found.objective < 1e-20
    for name, value in law.example.items():
        assert found.law.params[name] == pytest.approx(value, rel=1e-8)


@EVERY
def test_no_unit_changes_the_answer(law: type[Law]) -> None:
    x = points(law, 60)
    y = example(law)(**x) * np.exp(np.random.default_rng(1).normal(0, 0.01, 60))
    units = {name: 1.0 if name in law.unscaled else 1e-6 for name in law.variables}
    units |= {own: units[other] for own, other in law.same_unit.items()}
    one = fit.fit(law, x, y)
    two = fit.fit(law, {name: x[name] * units[name] for name in x}, y / np.log(2))
    assert two.objective == pytest.approx(one.objective, rel=1e-7)
    np.testing.assert_allclose(two.residuals, one.residuals, atol=1e-7)
    dimensionless = [n for n, p in law.declared().items() if not p.unit(one.law.params) and n[0] not in "ab"]
    for name in dimensionless:
        assert two.law.params[name] == pytest.approx(one.law.params[name], rel=1e-4)


@EVERY
def test_a_law_prints_its_equation_and_every_parameter(law: type[Law]) -> None:
    text = str(example(law))
    assert law.equation in text
    assert all(f"{name} = " in text for name in law.example)
    assert law.source


@EVERY
def test_arrays_of_parameters_give_what_each_law_gives_alone(law: type[Law]) -> None:
    values = np.array(list(law.example.values())) * np.array([[1.0], [1.01]])
    x = points(law, 7)
    together = from_columns(law, values)(**x)
    for row, parameters in zip(together, values, strict=True):
        np.testing.assert_allclose(row, build(law, dict(zip(law.example, parameters, strict=True)))(**x), rtol=1e-12)


@EVERY
def test_declared_parameters_are_the_fields_in_order(law: type[Law]) -> None:
    assert tuple(law.declared()) == tuple(law.example) == tuple(example(law).params)


@EVERY
def test_a_missing_or_unknown_variable_is_named(law: type[Law]) -> None:
    with pytest.raises(ValueError, match=rf"takes {', '.join(law.variables)}; got nothing"):
        example(law)()
    with pytest.raises(ValueError, match="nonsense"):
        example(law)(nonsense=1.0)


@WITH_OPTIMUM
def test_the_optimum_spends_the_budget_and_no_neighbour_is_better(law: type[Law]) -> None:
    budgets = np.array([1e19, 1e20, 1e21])
    found = example(law).optimum(budgets, **held(law))
    np.testing.assert_allclose(6 * found.N * found.D, budgets, rtol=1e-12)
    for shift in (0.99, 1.01):
        near = example(law)(N=found.N * shift, D=found.D / shift, **held(law))
        assert (near > found.loss).all()


@pytest.mark.parametrize("law", IN_CLOSED_FORM, ids=[law.name for law in IN_CLOSED_FORM])
def test_the_closed_form_and_the_search_agree(law: type[Law]) -> None:
    searched = type("Searched", (law,), {"rival_terms": None})
    closed = example(law).optimum(1e21)
    found = build(searched, law.example).optimum(1e21)
    assert pytest.approx(closed.N, rel=1e-6) == found.N
    assert found.loss == pytest.approx(closed.loss, rel=1e-13)


@pytest.mark.parametrize("name", [n for n, law in LAWS.items() if law not in OF_LOSS])
def test_laws_without_a_compute_optimum_say_so(name: str) -> None:
    with pytest.raises(ValueError, match="has no compute optimum"):
        example(LAWS[name]).optimum(1e21)


def test_a_budget_without_an_interior_optimum_is_nan_beside_those_with_one() -> None:
    found = example(LAWS["farseer"]).optimum([1e20, 1e25])
    assert np.isfinite(found.N[0])
    assert np.isnan(found.N[1])


@dataclass(frozen=True)
class Pitted(Chinchilla):
    """Chinchilla with a deeper second dip of the loss at a billionth of a token a parameter."""

    rival_terms = None

    def formula(self, N: Any, D: Any) -> Any:
        pit = jet.exp((jet.log(D) - jet.log(N) + 20.0) ** 2.0 * -0.5) * -1e3
        return super().formula(N, D) + pit


def test_an_optimum_is_looked_for_near_the_tokens_per_parameter_tried() -> None:
    law, closed = build(Pitted, Chinchilla.example), example(Chinchilla).optimum([1e20, 1e21])
    assert (law.optimum([1e20, 1e21]).N > 100 * closed.N).all()
    found = law.tried_at((5.0, 80.0)).optimum([1e20, 1e21])
    assert pytest.approx(closed.N, rel=1e-4) == found.N
    columns = from_columns(Pitted, np.array([list(Chinchilla.example.values())] * 2)).tried_at((5.0, 80.0))
    assert pytest.approx(np.broadcast_to(closed.N, (2, 2)), rel=1e-4) == columns.optimum([1e20, 1e21]).N


def test_an_optimum_beyond_the_sizes_tried_is_refused_with_law_compute_and_range() -> None:
    law = build(Pitted, Chinchilla.example).tried_at((1e4, 1e5))
    with pytest.raises(ValueError, match=r"the law 'chinchilla' has no optimum at C = 1e\+20 FLOPs with N from 4.08e"):
        law.optimum(1e20)
    with pytest.raises(ValueError, match=r"10 times beyond the 1e\+04 to 1e\+05 tokens per parameter tried"):
        law.optimum(1e20)


def test_a_fitted_law_knows_the_tokens_per_parameter_it_was_fitted_to() -> None:
    law = example(Chinchilla)
    N, D = np.meshgrid(np.geomspace(1e8, 1e10, 5), np.geomspace(1e10, 1e12, 5))
    fitted = fit.fit("chinchilla", {"N": N.ravel(), "D": D.ravel()}, law(N=N, D=D).ravel())
    assert fitted.law.tried == pytest.approx((1.0, 1e4))


def test_an_absent_term_leaves_no_interior_optimum() -> None:
    with pytest.raises(ValueError, match="no interior compute optimum"):
        Chinchilla(E=1.8, A=0.0, B=2000.0, alpha=0.3, beta=0.3).optimum(1e21)
    with pytest.raises(ValueError, match="compute must be positive"):
        example(Chinchilla).optimum(-1.0)
    with pytest.raises(ValueError, match="needs U held"):
        example(DataConstrained).optimum(1e21)


def test_chinchilla_exponents_are_those_of_the_optimum() -> None:
    law = example(Chinchilla)
    one, two = law.optimum(6.0), law.optimum(6e2)
    assert pytest.approx(law.derived["G"]) == one.N
    assert np.log(two.N / one.N) / np.log(1e2) == pytest.approx(law.derived["a"])
    assert np.log(two.D / one.D) / np.log(1e2) == pytest.approx(law.derived["b"])


@pytest.mark.parametrize(("name", "extra"), [("gamma", {"gamma": 1.0}), ("power_mean", {"q": 1.0})])
def test_generalisations_contain_chinchilla(name: str, extra: dict[str, float]) -> None:
    x = points(Chinchilla, 20)
    np.testing.assert_allclose(build(LAWS[name], {**Chinchilla.example, **extra})(**x), example(Chinchilla)(**x))


def test_tied_is_chinchilla_with_its_derived_parameters() -> None:
    law = example(LAWS["tied"])
    x = points(type(law), 20)
    d = law.derived
    same = Chinchilla(E=law.params["E"], A=d["A"], B=d["B"], alpha=d["alpha"], beta=d["alpha"])
    np.testing.assert_allclose(law(**x), same(**x))


def test_hoffmann_exponents_are_those_of_their_table() -> None:
    unrounded = Chinchilla(E=1.6934, A=406.4, B=410.7, alpha=0.3392, beta=0.2849)  # their fit, before printing
    assert (round(unrounded.derived["a"], 2), round(unrounded.derived["b"], 2)) == (0.46, 0.54)  # table 2


def test_the_replication_agrees_with_the_training_of_chinchilla() -> None:
    law = example(Chinchilla)
    assert round(law.derived["a"], 4) == 0.5126  # Besiroglu et al. 2024, table 1
    best = law.optimum(6 * 70e9 * 1.4e12)
    assert pytest.approx(20, rel=0.1) == best.D / best.N
    assert pytest.approx(70e9, rel=0.1) == best.N


def test_kaplan_ties_data_to_model_size_as_published() -> None:
    law = example(LAWS["kaplan"])
    p = law.params
    assert round(p["alpha_N"] / p["alpha_D"], 2) == 0.74  # eq. 4.4: D grows as N^0.74
    scale = np.array([1.0, 8.0])
    excess = law(N=1e8 * scale, D=1e9 * scale ** (p["alpha_N"] / p["alpha_D"])) / law(N=1e8 * scale, D=1e30)
    assert excess[1] == pytest.approx(excess[0], rel=1e-9)  # eq. 4.3: overfitting depends on N^0.74 / D alone


def test_pure_power_example_is_kaplans_law_of_model_size() -> None:
    N = np.array([1e6, 1e9])
    np.testing.assert_allclose(example(LAWS["pure_power"])(x=N), (8.8e13 / N) ** 0.076, rtol=1e-4)  # eq. 1.1


@pytest.mark.parametrize(("N", "D", "loss"), [(6.34e9, 242e9, 2.2256440889984477), (8.67e9, 178e9, 2.2269634075087867)])
def test_data_constrained_gives_the_losses_its_authors_print(N: float, D: float, loss: float) -> None:
    assert example(DataConstrained)(N=N, D=D, U=25e9) == pytest.approx(loss, abs=1e-6)  # datablations README


def test_four_epochs_are_nearly_as_good_as_new_data_and_forty_are_not() -> None:
    law, N, D = example(DataConstrained), 8.67e9, 178e9
    four, forty = (law(N=N, D=D, U=D / epochs) / law(N=N, D=D, U=D) - 1 for epochs in (4, 40))
    assert 0 < four < 0.01  # their 8.7B run: 0.5% higher loss
    assert forty > 10 * four


def test_the_farthest_repetition_reaches_is_its_constant_more_than_one_epoch() -> None:
    law = example(DataConstrained)
    U = 1e9
    endless, fresh = law(N=1e7, D=1e6 * U, U=U), law(N=1e7, D=(1 + law.params["R_D_star"]) * U, U=1e15)
    assert endless == pytest.approx(fresh, rel=1e-12)


def test_tied_is_best_at_the_multiplier_where_its_terms_meet() -> None:
    law = example(LAWS["tied"])
    p, best = law.params, law.optimum(np.array([1e19, 1e22]))
    np.testing.assert_allclose(best.D / best.N, (p["b"] / p["a"]) ** (0.5 / p["eta"]))


def test_tied_gives_the_losses_of_its_authors_runs() -> None:
    N = np.array([10569312, 411616256, 1439795200])  # their C4 runs at 20 tokens per parameter
    printed = [5.220676313056785, 3.0417367343404416, 2.6568587118096136]  # mlfoundations/scaling, exp_data/models
    np.testing.assert_allclose(example(LAWS["tied"])(N=N, D=20.0 * N), printed, rtol=0.009)  # figure 5: 0 to 0.8%


def test_task_error_is_a_power_law_of_perplexity() -> None:
    law, perplexity = example(LAWS["task_exponential"]), np.array([10.0, 40.0])
    p = law.params
    expected = p["epsilon"] - p["k"] * perplexity ** -p["gamma"]  # Gadre et al. 2024, eq. 6
    np.testing.assert_allclose(law(x=np.log(perplexity)), expected)


def test_a_sharp_break_turns_the_slope_by_c_1() -> None:
    law = build(LAWS["broken_power"], {"a": 0.0, "b": 9.0, "c_0": 0.05, "c_1": 0.35, "d_1": 1e8, "f_1": 0.4})
    slopes = [np.log(law(x=10 * x) / law(x=x)) / np.log(10) for x in (1e2, 1e13)]
    np.testing.assert_allclose(slopes, [-0.05, -0.40], rtol=1e-6)


def test_unrepeated_data_are_unconstrained() -> None:
    law = example(DataConstrained)
    plain = Chinchilla(**{name: law.params[name] for name in Chinchilla.example})
    N, D = 1e8, np.geomspace(1e10, 1e12, 20)
    np.testing.assert_allclose(law(N=N, D=D, U=D), plain(N=N, D=D))
    once, often = law(N=1e9, D=4e11, U=4e11), law(N=1e9, D=4e11, U=1e10)
    assert often > once


def test_m4_solves_its_defining_equation() -> None:
    law = example(LAWS["m4"])
    p, x = law.params, points(type(law), 50)["x"]
    y = law(x=x)
    left = (y - p["eps_inf"]) / (p["eps_0"] - y) ** p["alpha"]
    np.testing.assert_allclose(left, p["beta"] * x ** -p["c"], rtol=1e-10)


def test_second_derivatives_equal_differences_of_first() -> None:
    def f(a: jet.Number, b: jet.Number) -> jet.Number:
        return jet.log(2.0 + a * b**a) / (1.0 + jet.exp(-a)) + jet.softplus(a - b) - 3.0**b + jet.reciprocal(b) * a

    at, h = np.array([0.7, 1.9]), 1e-6
    exact = f(jet.variable(0, at[0]), jet.variable(1, at[1]))
    assert isinstance(exact, jet.Jet)
    for j in range(2):
        step = h * np.eye(2)[j]
        up, down = (f(*(jet.variable(k, v) for k, v in enumerate(at + s * step))) for s in (1, -1))
        for i in range(2):
            numeric = (up.first[i] - down.first[i]) / (2 * h)
            assert exact.second[min(i, j), max(i, j)] == pytest.approx(numeric, rel=1e-7)


def test_a_law_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        example(Chinchilla).E = 2.0  # type: ignore[misc]
