"""Parameters held at values or between bounds: exact, for shipped laws and formulas alike, and counted as known."""

import numpy as np
import pytest

from scaling.analysis.fitting import fit
from scaling.analysis.fitting.bootstrap import bootstrap, identify
from scaling.analysis.fitting.fit import Loss
from scaling.analysis.fitting.profile_likelihood import profile_likelihood
from scaling.analysis.laws import LAWS
from scaling.analysis.laws.held import hold
from scaling.analysis.laws.law import build

LOSSES = [Loss(), Loss("mse", on="linear"), Loss("mae")]


def runs(name: str, n: int, noise: float = 0.005) -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(0)
    law = LAWS[name]
    x = {symbol: np.exp(rng.uniform(*np.log(ends), n)) for symbol, ends in law.domain.items()}
    return x, build(law, law.example)(**x) * np.exp(rng.normal(0, noise, n))


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_repeats_alone_are_fitted_with_five_published_parameters_held(loss: Loss) -> None:
    x, y = runs("data_constrained", 80)
    published = {k: v for k, v in LAWS["data_constrained"].example.items() if k not in ("R_N_star", "R_D_star")}
    found = fit.fit("data_constrained", x, y, loss=loss, fix=published)
    assert {k: found.law.params[k] for k in published} == published
    assert found.law.params["R_D_star"] == pytest.approx(15.4, rel=0.2)

    def objective(R_N: float, R_D: float) -> float:
        predicted = build(LAWS["data_constrained"], {**published, "R_N_star": R_N, "R_D_star": R_D})(**x)
        return float(np.sum(loss(np.log(y / predicted) if loss.on == "log" else y - predicted)))

    best = found.law.params["R_N_star"], found.law.params["R_D_star"]
    assert objective(*best) == pytest.approx(found.objective, rel=1e-12)
    grid = [objective(best[0] * f, best[1] * g) for f in np.geomspace(0.1, 10, 15) for g in np.geomspace(0.1, 10, 15)]
    assert found.objective <= min(grid) * (1 + 1e-9)


def test_the_fit_with_its_own_optimum_held_is_the_fit() -> None:
    x, y = runs("chinchilla", 60)
    free = fit.fit("chinchilla", x, y)
    for name in free.law.params:
        found = fit.fit("chinchilla", x, y, fix={name: free.law.params[name]})
        assert found.objective == pytest.approx(free.objective, rel=1e-9)
        assert found.law.params[name] == free.law.params[name]


def test_what_is_held_is_no_parameter_of_intervals_profiles_or_counts() -> None:
    x, y = runs("chinchilla", 40)
    found = fit.fit("chinchilla", x, y, fix={"E": 1.8, "alpha": 0.35})
    draws = bootstrap(found, x, y, n=40)
    assert set(identify(found, draws)) == {"A", "B", "beta"}
    assert (draws.values[:, 0] == 1.8).all()
    profile = profile_likelihood(found, x, y, "beta")
    assert profile.low < found.law.params["beta"] < profile.high
    held = fit.fit("chinchilla", x, y, fix={"E": 1.8, "alpha": 0.35, "beta": profile.values[0]})
    assert profile.objective[0] == pytest.approx(held.objective, rel=1e-6)
    assert "E = 1.8  (held)" in str(found)
    few = {name: column[:4] for name, column in x.items()}
    assert fit.fit("chinchilla", few, y[:4], fix={"E": 1.8, "alpha": 0.35}).n == 4


@pytest.mark.parametrize("formula", ["chinchilla", "E + A*N^-alpha + B*D^-beta"])
@pytest.mark.parametrize(
    ("name", "ends"), [("A", (1.0, 300.0)), ("A", (900.0, np.inf)), ("E", (0.0, 1.5)), ("alpha", (0.4, 0.6))]
)
def test_a_bound_in_the_way_holds_its_parameter_at_it(formula: str, name: str, ends: tuple[float, float]) -> None:
    x, y = runs("chinchilla", 60)
    free = fit.fit(formula, x, y)
    found = fit.fit(formula, x, y, bounds={name: ends})
    near = min(ends, key=lambda end: abs(end - free.law.params[name]))
    assert found.law.params[name] == pytest.approx(near, rel=1e-9)
    assert found.evidence.at_bound == (name,)
    assert found.objective == pytest.approx(fit.fit(formula, x, y, fix={name: near}).objective, rel=1e-9)


@pytest.mark.parametrize("ends", [(1.0, 1e6), (1e-3, np.inf), (-5.0, 1e5)])
def test_bounds_out_of_the_way_leave_the_fit(ends: tuple[float, float]) -> None:
    x, y = runs("chinchilla", 60)
    found = fit.fit("chinchilla", x, y, bounds={"A": ends, "beta": (0.0, 1.0)})
    assert found.objective == pytest.approx(fit.fit("chinchilla", x, y).objective, rel=1e-9)


@pytest.mark.parametrize(
    ("fix", "bounds", "words"),
    [
        ({"e": 1.0}, {}, "unknown parameter of the law 'chinchilla' 'e'"),
        ({"E": np.inf}, {}, "E is to be held at inf: give a finite number"),
        ({"E": 1.0}, {"E": (0.0, 1.0)}, "both held at 1 and bounded"),
        ({}, {"E": (2.0, 1.0)}, "E has no room between 2 and 1"),
        (dict.fromkeys(("E", "A", "B", "alpha", "beta"), 1.0), {}, "nothing is to be fitted"),
    ],
)
def test_impossible_wishes_are_named(fix: dict[str, float], bounds: dict[str, tuple[float, float]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        hold(LAWS["chinchilla"], fix, bounds)
