"""What a run costs: fitted to counted FLOPs, and every optimum taken under it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scaling.analysis.judgement.forecast import cost_of, predict
from scaling.analysis.laws import LAWS
from scaling.analysis.laws.cost import Cost, fit_cost
from scaling.analysis.laws.law import Law, build
from scaling.analysis.results.document import analyse, summary
from tests.analysis.simulated import BUDGETS, TRUTH, observe, table

EXACT = Cost(120.0, 0.85)
SURFACES = [name for name, law in LAWS.items() if law.variables == ("N", "D") and law.predicts == "loss"]


def cheapest(law: Law, flops: float, cost: Cost, sizes: tuple[float, float]) -> tuple[float, float, float]:
    """Params, tokens and loss of the best of many shapes, all of one cost."""
    params = np.geomspace(*sizes, 200_001)
    tokens = cost.tokens(flops, params)
    loss = law(N=params, D=tokens)
    best = int(loss.argmin())
    return float(params[best]), float(tokens[best]), float(loss[best])


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A noise-free study whose counted FLOPs are EXACT."""
    observed = observe(table(cost=EXACT), tmp_path_factory.mktemp("cost"))
    return analyse(observed, laws=("chinchilla", "farseer"), bootstrap=20, holdout=None)


def test_the_cost_of_counted_flops_is_recovered() -> None:
    params, tokens = np.geomspace(1e4, 1e7, 9), np.geomspace(1e9, 1e7, 9)
    found = fit_cost(params, tokens, EXACT.flops(params, tokens))
    assert (found.k, found.gamma) == pytest.approx((120.0, 0.85))
    assert found.spread == pytest.approx(0, abs=1e-12)
    noise = 0.03 * np.random.default_rng(0).standard_normal(9)
    assert fit_cost(params, tokens, EXACT.flops(params, tokens) * np.exp(noise)).spread == pytest.approx(0.03, rel=0.5)


def test_six_n_d_is_exactly_six_n_d() -> None:
    params, tokens = np.geomspace(1e4, 1e7, 9), np.geomspace(1e9, 1e7, 9)
    assert fit_cost(params, tokens, np.round(6 * params * tokens, -6)) == Cost()
    assert str(Cost()) == "C = 6 N D"


def test_one_size_alone_says_nothing_about_gamma() -> None:
    found = fit_cost(np.full(3, 1e6), np.array([1e8, 2e8, 4e8]), np.array([9e14, 18e14, 36e14]))
    assert (found.k, found.gamma) == pytest.approx((9.0, 1.0))


def test_flops_that_do_not_rise_with_the_size_keep_gamma_at_one() -> None:
    found = fit_cost(np.array([1e6, 1e7, 1e8]), np.full(3, 1e9), np.array([6e16, 6e16, 5e16]))
    assert found.gamma == 1
    assert found.spread > 1


HEADED = Cost(120.0, 0.5, limit=6.0)  # a head of 20 rows a root of the parameters
EMBEDDED = Cost(-300.0, 0.4, limit=6.0)  # embeddings among the parameters cost nothing


@pytest.mark.parametrize("cost", [HEADED, EMBEDDED], ids=str)
def test_a_cost_that_tends_to_six_n_d_is_recovered(cost: Cost) -> None:
    params, tokens = np.geomspace(1e3, 1e6, 9), np.geomspace(1e9, 1e7, 9)
    found = fit_cost(params, tokens, cost.flops(params, tokens))
    assert (found.k, found.gamma, found.limit) == pytest.approx((cost.k, cost.gamma, 6.0))
    assert found.spread == pytest.approx(0, abs=1e-9)


def test_far_beyond_the_runs_a_transformers_cost_is_six_n_d() -> None:
    widths = np.array([8, 16, 24, 32, 48, 64])
    params, exact = 24.0 * widths**2, 6 * (24.0 * widths**2 + 300 * widths + 2 * 64 * widths)
    found = fit_cost(params, np.full(6, 1e8), exact * 1e8)
    assert found.spread < 0.01
    assert found.rate(1e9) == pytest.approx(6e9, rel=0.02)
    alone = np.polyfit(np.log(params), np.log(exact), 1)
    assert np.exp(np.polyval(alone, np.log(1e9))) < 0.5 * found.rate(1e9)


@pytest.mark.parametrize("cost", [Cost(), EXACT, HEADED, EMBEDDED], ids=str)
def test_slope_and_inverse_are_those_of_the_rate(cost: Cost) -> None:
    params = np.geomspace(1e2, 1e9, 8)
    rise = np.log(cost.rate(params * 1.001) / cost.rate(params / 1.001)) / np.log(1.001**2)
    assert cost.slope(params) == pytest.approx(rise, rel=1e-5)
    spent = np.log(cost.rate(params) * params**0.7)
    assert cost.log_params(spent, 0.7) == pytest.approx(np.log(params), rel=1e-12)


def test_a_cost_without_flops_of_embeddings_is_positive_at_every_size() -> None:
    params = np.geomspace(1e-3, 1e12, 40)
    rate = EMBEDDED.rate(params)
    assert (rate > 0).all()
    assert (np.diff(rate) > 0).all()
    assert EMBEDDED.rate(1e8) == pytest.approx(6e8 - 300 * 1e8**0.4, rel=1e-6)


def test_a_results_document_before_the_limit_keeps_its_power_law() -> None:
    old: Any = {"cost": {"k": 64.1, "gamma": 0.808, "spread": 0.044}}
    assert cost_of(old) == Cost(64.1, 0.808, 0.044)


@pytest.mark.parametrize("wrong", [{"k": 0.0}, {"gamma": -1.0}, {"k": float("nan")}])
def test_a_cost_that_is_none_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be positive.*C = 6 N D has k = 6 and gamma = 1"):
        Cost(**wrong)


@pytest.mark.parametrize("cost", [Cost(), EXACT, Cost(2.0, 1.1), Cost(9e4, 0.5, limit=6.0), Cost(-3e5, 0.4, limit=6.0)])
@pytest.mark.parametrize("name", SURFACES)
def test_the_optimum_is_the_cheapest_of_all_shapes(name: str, cost: Cost) -> None:
    law = build(LAWS[name], LAWS[name].example)
    flops = float(cost.flops(*(np.sqrt(least * most) for least, most in law.domain.values())))
    least, most = law.domain["N"]
    found, best = law.optimum(flops, cost), cheapest(law, flops, cost, (least, most))
    assert (found.N, found.D, found.loss) == pytest.approx(best, rel=1e-4)
    assert float(cost.flops(found.N, found.D)) == pytest.approx(flops)


def test_the_surfaces_optima_are_those_of_the_true_cost(results: dict[str, Any]) -> None:
    assert (results["cost"]["k"], results["cost"]["gamma"]) == pytest.approx((120.0, 0.85))
    for budget in results["isoflop"]["budgets"]:
        one = budget["estimates"]["surface"]
        best = cheapest(TRUTH, budget["budget_flops"], EXACT, (1e4, 1e8))
        assert (one["params"]["value"], one["tokens"]["value"], one["loss"]["value"]) == pytest.approx(best, rel=1e-3)
        assert one["tokens_per_param"]["value"] == pytest.approx(best[1] / best[0], rel=1e-3)


def test_forecast_choices_and_influence_rest_on_the_true_cost(results: dict[str, Any]) -> None:
    flops = results["settings"]["target_flops"]
    best = cheapest(TRUTH, flops, EXACT, (1e4, 1e9))
    found = predict(results, flops=flops)
    assert (found["params"]["value"], found["tokens"]["value"]) == pytest.approx(best[:2], rel=1e-3)
    assert any("C = 120 N^0.850 D" in note for note in found["notes"])
    assert any("extrapolated" in note for note in predict(results, flops=flops * 1e6)["notes"])
    assert results["choices"]["rows"][0]["params"] == pytest.approx(best[0], rel=1e-3)
    assert results["influence"]["params"] == pytest.approx(best[0], rel=1e-3)
    assert all(abs(run["change"]) < 1e-2 for run in results["influence"]["runs"])
    one = predict(results, params=2e6, flops=1e17)
    assert one["tokens_given"] == pytest.approx(1e17 / (120 * 2e6**0.85))
    assert predict(results, params=2e6, tokens=one["tokens_given"])["flops"] == pytest.approx(1e17)


def test_the_exponents_are_stated_under_the_cost_they_hold_for(results: dict[str, Any]) -> None:
    alpha, beta = TRUTH.alpha, TRUTH.beta
    grown = results["fits"][0]["optimum"]["exponents"]
    assert grown["params"]["value"] == pytest.approx(beta / (alpha + 0.85 * beta), rel=1e-3)
    assert grown["tokens"]["value"] == pytest.approx(alpha / (alpha + 0.85 * beta), rel=1e-3)
    assert results["fits"][0]["derived"]["a"] == pytest.approx(beta / (alpha + beta), rel=1e-3)
    text = summary(results)
    assert "(for C = 6 N D)" in text
    assert f"under the runs' own C = 120 N^0.850 D: N* ~ C^{grown['params']['value']:.4g}" in text


def test_tokens_per_parameter_grow_as_tokens_over_parameters(results: dict[str, Any]) -> None:
    law = results["isoflop"]["laws"]["surface"]
    gap = law["tokens"]["exponent"] - law["params"]["exponent"]
    assert law["tokens_per_param"]["exponent"] == pytest.approx(gap, abs=1e-9)


def test_where_c_is_six_n_d_nothing_else_is_said(tmp_path: Path) -> None:
    found = analyse(observe(table(noise_nats=0.01), tmp_path), bootstrap=0)
    assert found["cost"] == {
        "k": 6.0,
        "gamma": 1.0,
        "spread": 0.0,
        "ratio": found["cost"]["ratio"],
        "words": "C = 6 N D",
    }
    assert predict(found, flops=1e16)["notes"] == []
    assert "under the runs' own" not in summary(found)
    for budget, flops in zip(found["isoflop"]["budgets"], BUDGETS, strict=True):
        best = TRUTH.__class__(**found["fits"][0]["params"]).optimum(flops)
        assert budget["estimates"]["surface"]["params"]["value"] == pytest.approx(float(best.N), rel=1e-6)
