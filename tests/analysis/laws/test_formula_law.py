"""Laws of formulas: the optimum of the equal shipped law, units, ranges by name and place, columns of any sign."""

import numpy as np
import pytest

from scaling.analysis.fitting import fit
from scaling.analysis.fitting.fit import Loss
from scaling.analysis.laws import LAWS, law_named
from scaling.analysis.laws.formula_law import formula_law, is_formula, split
from scaling.analysis.laws.law import build

EQUAL = {
    "chinchilla": "E + A*N^-alpha + B*D^-beta",
    "kaplan": "((Nc/N)^(a/b) + Dc/D)^b",
    "gamma": "E + (A/N^a + B/D^b)^g",
    "power_mean": "qmean(E, qmean(A*N^-a, B*D^-b, q), q)",
    "tied": "E + (a*(D/N)^eta + b*(D/N)^-eta)*(6*N*D)^-eta",
}


def noisy(n: int = 60) -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(3)
    law = build(LAWS["chinchilla"], LAWS["chinchilla"].example)
    x = {"N": np.exp(rng.uniform(17, 23, n)), "D": np.exp(rng.uniform(21, 27, n))}
    return x, law(**x) * np.exp(rng.normal(0, 0.01, n))


@pytest.mark.parametrize("name", EQUAL)
@pytest.mark.parametrize("loss", [Loss(), Loss("mse", on="linear")], ids=str)
def test_a_formula_reaches_the_optimum_of_the_equal_shipped_law(name: str, loss: Loss) -> None:
    x, y = noisy(40)
    shipped, formula = fit.fit(name, x, y, loss=loss), fit.fit(EQUAL[name], x, y, loss=loss)
    assert formula.objective == pytest.approx(shipped.objective, rel=1e-9)
    assert formula.status == shipped.status == "converged"


def test_a_formula_declares_what_the_equal_class_declares() -> None:
    law, shipped = formula_law(EQUAL["chinchilla"], ("N", "D")), LAWS["chinchilla"]
    at = {"alpha": 0.3, "beta": 0.4}
    for name, own in shipped.declared().items():
        found = law.declared()[name]
        assert (found.low, found.high, found.linear, found.kind) == (own.low, own.high, own.linear, own.kind)
        assert found.unit(at) == own.unit(at)
    assert law.unscaled == ()


def test_no_unit_of_a_column_changes_the_fit() -> None:
    x, y = noisy()
    one = fit.fit("E + A*N^-a + B*D^-b", x, y)
    two = fit.fit("E + A*N^-a + B*D^-b", {"N": x["N"] / 1e6, "D": x["D"] / 1e9}, y)
    assert two.objective == pytest.approx(one.objective, rel=1e-9)
    assert two.law.params["A"] == pytest.approx(one.law.params["A"] * 1e-6 ** one.law.params["a"], rel=1e-6)


@pytest.mark.parametrize(
    ("formula", "unscaled"),
    [
        ("A*N^-a*D^-b*exp(c*log(N)*log(D))", {"N", "D"}),
        ("E + A*(N/(1 + k*log(D)))^-a", {"D"}),
        ("E + F*valley(N, M*D^m)", set()),
        ("N + A*D^-a", {"N", "L"}),
        ("exp(e + A*D^-a)", {"L"}),
    ],
)
def test_what_cannot_balance_keeps_its_own_unit(formula: str, unscaled: set[str]) -> None:
    assert set(formula_law(formula, ("N", "D")).unscaled) == unscaled


def test_a_law_of_three_columns_is_recovered_and_predicts() -> None:
    rng = np.random.default_rng(0)
    x = {name: np.exp(rng.uniform(*np.log(ends), 50)) for name, ends in (("P", (1e7, 1e9)), ("V", (4e3, 1e5)))}
    x["steps"] = rng.uniform(1e3, 1e5, 50)
    y = 1.5 + 200 * x["P"] ** -0.3 + 8 * x["V"] ** -0.4 + 3 * x["steps"] ** -0.2
    found = fit.fit("E + A*P^-a + B*V^-b + S*steps^-s", x, y)
    expected = {"E": 1.5, "A": 200, "a": 0.3, "B": 8, "b": 0.4, "S": 3, "s": 0.2}
    assert found.law.params == {name: pytest.approx(size, rel=1e-6) for name, size in expected.items()}
    assert found.law(P=1e8, V=1e4, steps=1e4) == pytest.approx(
        1.5 + 200 * 1e8**-0.3 + 8 * 1e4**-0.4 + 3 * 1e4**-0.2, rel=1e-7
    )


def test_columns_that_are_zero_are_fitted_where_no_power_is_taken_of_them() -> None:
    rng = np.random.default_rng(1)
    x = {"web": rng.uniform(0, 1, 40), "code": rng.uniform(0, 1, 40)}
    x["web"][0] = 0.0
    y = 2.0 + 0.7 * np.exp(-1.5 * x["web"] + 0.4 * x["code"])
    found = fit.fit("E + K*exp(s*web + t*code)", x, y)
    assert found.law.params == {
        name: pytest.approx(size, rel=1e-6) for name, size in {"E": 2.0, "K": 0.7, "s": -1.5, "t": 0.4}.items()
    }
    with pytest.raises(ValueError, match="web has 1 of 40 values not positive, where the law takes a power"):
        fit.fit("E + K*web^-a", {"web": x["web"]}, y)


def test_negative_values_are_fitted_on_the_linear_scale() -> None:
    x, y = noisy()
    found = fit.fit("e + A*N^-a + B*D^-b", x, y - 4.0, loss=Loss(on="linear"))
    assert found.law.params["e"] < 0
    assert np.isfinite(found.objective)
    with pytest.raises(ValueError, match='use on="linear"'):
        fit.fit("e + A*N^-a + B*D^-b", x, y - 4.0)


def test_a_mixture_of_domains_is_recovered() -> None:
    rng = np.random.default_rng(2)
    shares = rng.dirichlet([1.0, 1.0, 1.0], 60)
    x = {"web": shares[:, 0], "code": shares[:, 1], "books": shares[:, 2]}
    y = 1.2 + 0.9 * (x["web"] + 0.3 * x["code"] + 0.6 * x["books"]) ** -0.4
    found = fit.fit("domain_mixture:web,code,books", x, y)
    truth = {"E": 1.2, "A": 0.9, "t_2": 0.3, "t_3": 0.6, "alpha": 0.4}
    assert found.law.params == {name: pytest.approx(truth[name], rel=1e-5) for name in found.law.params}


def test_a_parameter_that_nothing_determines_is_named() -> None:
    x, y = noisy()
    found = fit.fit("E + A*K*N^-a + B*D^-b", x, y)
    assert {"A", "K"} <= set(found.evidence.unseen)


def test_texts_are_told_apart_and_split() -> None:
    assert not any(map(is_formula, ("kaplan", "power:C", "my.laws:Own", "domain_mixture:web,code")))
    assert all(map(is_formula, ("E + A*N^-a", "L = E+A/N", "A*N^a", "loss_web = mixture(web, code)")))
    assert split("loss_web = E + A*P^-a [P]") == ("loss_web", "E + A*P^-a", ("P",))
    assert split("L = E/P") == ("", "E/P", None)


def test_the_name_of_a_formulas_law_gives_the_law_again() -> None:
    law = formula_law("E + A*P^-a", ("P", "V"))
    assert law.name == "E + A*P^-a [P]"
    assert LAWS[law.name].variables == ("P",)
    with pytest.raises(ValueError, match="does not list its columns"):
        law_named("E + A*P^-a")
    with pytest.raises(ValueError, match="cannot name a parameter"):
        formula_law("formula + A*P", ("P",))
    with pytest.raises(ValueError, match="no parameter"):
        formula_law("P*2", ("P",))
