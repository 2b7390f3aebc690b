# ruff: noqa: RUF009  (a parameter's declaration is a dataclass field)
"""The report's calculator: it agrees with the forecast, doubts what that doubts, and reads amounts in words."""

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from scaling.analysis.judgement import forecast
from scaling.analysis.laws import LAWS, jet
from scaling.analysis.laws.law import Law, amplitude, build, exponent, level
from scaling.analysis.report import calculator
from scaling.analysis.report import page as report
from tests.analysis import simulated
from tests.analysis.conformance import analyse
from tests.analysis.node import evaluate, needs_node
from tests.analysis.report.test_page import Page, Results, render


def calculate(code: str, facts: Any = None, **values: Any) -> Any:
    """The value of an expression over `given` and `whatIf`, the calculator's functions, and the page's FORMULAS."""
    before = f"const whatIf = require({json.dumps(str(report.TEMPLATES / 'what_if.js'))});"
    return evaluate(code, before=before + (calculator.formulas_js(facts) if facts else ""), facts=facts, **values)


@needs_node
@pytest.mark.parametrize("times", [0.1, 1.0, 10.0, 1e4])
def test_the_calculator_agrees_with_the_forecast(times: float, results: Results) -> None:
    assert len(results["forecast"]["forms"]) >= 1
    flops = results["settings"]["target_flops"] * times
    expected = forecast.predict(results, flops=flops)
    found = calculate(
        "whatIf.whatIf(given.facts, FORMULAS, {flops: given.flops, served: 0, unique: Infinity})",
        facts=calculator.what_if_facts(results),
        flops=flops,
    )
    for name in ("params", "tokens", "loss"):
        for end in ("value", "low", "high"):
            assert found[name][end] == pytest.approx(expected[name][end], rel=1e-5), (name, end)
    assert found["decades_beyond"] == pytest.approx(expected["decades_beyond"], abs=1e-6)
    assert found["calibrated"] <= expected["calibrated"]


@needs_node
@pytest.mark.parametrize("times", [0.1, 1.0, 1e4])
def test_the_calculator_takes_the_log_mean_of_the_forecasters(times: float, averaged: Results) -> None:
    flops = averaged["settings"]["target_flops"] * times
    expected = forecast.predict(averaged, flops=flops)
    assert len(expected["members"]) == 4
    facts = calculator.what_if_facts(averaged)
    ask = "{flops: given.flops, served: 0, unique: Infinity}"
    found = calculate(f"whatIf.whatIf(given.facts, FORMULAS, {ask})", facts=facts, flops=flops)
    for name in ("params", "tokens", "loss"):
        for end in ("value", "low", "high"):
            assert found[name][end] == pytest.approx(expected[name][end], rel=1e-5), (name, end)
    assert found["calibrated"] <= expected["calibrated"]


@needs_node
def test_the_calculator_doubts_what_the_forecast_doubts(averaged: Results) -> None:
    """Every forecaster is rejected: neither the answer nor the calculator calls its interval calibrated."""
    rejected = copy.deepcopy(averaged)
    for member in rejected["forecast"]["ensemble"]["members"]:
        member["verdict"]["rejected"] = True
    flops = rejected["settings"]["target_flops"]
    ask = "{flops: given.flops, served: 0, unique: Infinity}"
    code = f"whatIf.whatIf(given.facts, FORMULAS, {ask})"
    calm, doubted = (calculate(code, facts=calculator.what_if_facts(one), flops=flops) for one in (averaged, rejected))
    assert (calm["calibrated"], doubted["calibrated"]) == (True, False)
    assert not forecast.predict(rejected, flops=flops)["calibrated"]
    assert doubted["reasons"] == ["the runs reject every forecaster behind it, so the interval may be too narrow"]


@needs_node
def test_serving_moves_the_log_mean_and_spends_the_same_compute(averaged: Results) -> None:
    flops = averaged["settings"]["target_flops"]
    ask = "{flops: given.flops, served, unique: Infinity}"
    code = f"given.served.map((served) => whatIf.whatIf(given.facts, FORMULAS, {ask}))"
    facts = calculator.what_if_facts(averaged)
    plain, served, nothing_left = calculate(code, facts=facts, flops=flops, served=[0, 1e9, 1e20])
    assert served["params"]["value"] < plain["params"]["value"]
    assert served["loss"]["value"] > plain["loss"]["value"]
    a_token = forecast.cost_of(averaged).rate(served["params"]["value"])
    assert a_token * (served["tokens"]["value"] + 1e9 / 3) == pytest.approx(flops, rel=1e-9)
    assert nothing_left is None


@needs_node
def test_the_calculator_takes_the_dip_near_the_sizes_tried_that_the_law_takes(results: Results) -> None:
    farseer = build(LAWS["farseer"], LAWS["farseer"].example)
    facts: Any = calculator.what_if_facts(results)
    form = {"law": "farseer", "names": list(farseer.params), "values": list(farseer.params.values()), "draws": []}
    code = "given.flops.map((flops) => whatIf.whatIf(given.facts, FORMULAS, {flops, served: 0, unique: Infinity}))"
    for near, there in (((5.0, 80.0), True), ((1e7, 1e8), False)):
        facts = {**facts, "cost": {"k": 6.0, "gamma": 1.0}, "forms": [{**form, "near": [near[0] / 10, near[1] * 10]}]}
        found = calculate(code, facts=facts, flops=[1e20, 1e21])
        if there:
            best = farseer.tried_at(near).optimum([1e20, 1e21])
            assert [one["params"]["value"] for one in found] == pytest.approx(best.N.tolist(), rel=1e-5)
        else:
            assert found == [None, None]
            with pytest.raises(ValueError, match="no optimum at C = 1e"):
                farseer.tried_at(near).optimum([1e20, 1e21])


@needs_node
def test_serving_more_tokens_buys_a_smaller_model_trained_longer(results: Results) -> None:
    facts = calculator.what_if_facts(results)
    flops = results["settings"]["target_flops"]
    ask = "{flops: given.flops, served, unique: Infinity}"
    code = f"given.served.map((served) => whatIf.whatIf(given.facts, FORMULAS, {ask}))"
    plain, served = calculate(code, facts=facts, flops=flops, served=[0, 1e10])
    assert served["params"]["value"] < plain["params"]["value"]
    assert served["tokens_per_param"]["value"] > plain["tokens_per_param"]["value"]
    assert served["loss"]["value"] > plain["loss"]["value"]
    a_token = forecast.cost_of(results).rate(served["params"]["value"])
    spent = a_token * served["tokens"]["value"] + a_token / 3 * 1e10
    assert spent == pytest.approx(flops, rel=1e-9)


@needs_node
def test_few_unique_tokens_cost_loss_and_are_never_called_calibrated(results: Results) -> None:
    facts = calculator.what_if_facts(results)
    flops = results["range"]["flops"][1]
    code = "given.unique.map((unique) => whatIf.whatIf(given.facts, FORMULAS, {flops: given.flops, served: 0, unique}))"
    enough, few = calculate(code, facts=facts, flops=flops, unique=[1e15, 1e7])
    assert few["loss"]["value"] > enough["loss"]["value"]
    assert few["epochs"] > 1
    assert not few["calibrated"]
    assert any("repeated" in reason for reason in few["reasons"])


@dataclass(frozen=True)
class Saturating(Law):
    """A law that the package does not hold: tokens beyond a thousand per parameter teach nothing."""

    name: ClassVar = "saturating"
    variables: ClassVar = ("N", "D")
    equation: ClassVar = "L = E + A / N^alpha + B / min(D, 1000 N)^beta"
    source: ClassVar = "made up"
    example: ClassVar = {"E": 1.9, "A": 120.0, "B": 900.0, "alpha": 0.35, "beta": 0.37}
    domain: ClassVar = {"N": (1e5, 1e8), "D": (1e6, 1e10)}

    E: Any = level()
    A: Any = amplitude(lambda p: {"L": 1.0, "N": p["alpha"]})
    B: Any = amplitude(lambda p: {"L": 1.0, "D": p["beta"]})
    alpha: Any = exponent()
    beta: Any = exponent()

    def formula(self, N: Any, D: Any) -> Any:
        tokens = jet.where(np.less(jet.value(D), 1000 * jet.value(N)), D, 1000 * N)
        return self.E + self.A * N**-self.alpha + self.B * jet.exp(-self.beta * jet.log(tokens))


@needs_node
def test_a_law_of_the_users_own_is_in_the_pages_calculator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(LAWS, "saturating", Saturating)
    observed = simulated.observe(simulated.table(noise_nats=0.01, seeds=2), tmp_path)
    results = analyse(observed, laws=("saturating",), bootstrap=20, holdout=None)
    assert results["forecast"]["forms"] == ["saturating"]
    flops = results["settings"]["target_flops"]
    expected = forecast.predict(results, flops=flops)
    (script,) = (text for text in Page(render(results)).scripts if "function whatIf(" in text)
    ask = "{flops: given.flops, served: 0, unique: Infinity}"
    facts = calculator.what_if_facts(results)
    found = evaluate(f"whatIf(given.facts, FORMULAS, {ask})", before=script, facts=facts, flops=flops)
    for name in ("params", "tokens", "loss"):
        for end in ("value", "low", "high"):
            assert found[name][end] == pytest.approx(expected[name][end], rel=1e-5), (name, end)


def test_the_pages_formulas_cannot_end_its_script() -> None:
    text = calculator.formulas_js({"forms": [{"law": name} for name in LAWS]})
    assert all(json.dumps(name) in text for name in LAWS)
    assert not set(text) & set("<&\u2028\u2029")


@needs_node
def test_repeated_tokens_are_worth_what_the_data_constrained_law_holds() -> None:
    law = build(LAWS["data_constrained"], LAWS["data_constrained"].example)
    N, U = 1e6, 1e9  # a model so small that no parameter is in excess
    D = [1e9, 2e9, 1e10, 1e12]
    code = "given.D.map((D) => FORMULAS.effective({R_D_star: given.R}, {D, U: given.U}))"
    worth = calculate(code, {"forms": []}, D=D, U=U, R=law.params["R_D_star"])
    np.testing.assert_allclose(law(N=N, D=worth, U=1e15), law(N=N, D=D, U=U), rtol=1e-12)
    assert worth[0] == U
    assert worth[-1] < 17 * U


@needs_node
def test_amounts_are_read_as_people_write_them() -> None:
    read = calculate('["3e24", " 70B", "1.5 T", "2,000", "", "-1", "x", "1e3M"].map(whatIf.parseAmount)')
    assert read == [3e24, 70e9, 1.5e12, 2000, None, None, None, 1e9]
    assert calculate("[34e9, 999.6e9, 5e15, 1e6].map(whatIf.count)") == ["34.0B", "1.00T", "5.00×10¹⁵", "1.00M"]


@needs_node
def test_a_quantity_that_its_interval_leaves_open_is_no_number() -> None:
    code = "given.ends.map(([low, high]) => whatIf.stated({value: 1.4, low, high}, (v) => v.toFixed(4), 1000))"
    narrow, wide, none = calculate(code, ends=[[1.2, 1.6], [1e-7, 4256875.6], [None, None]])
    assert narrow == ["1.4000", "1.2000 to 1.6000"]
    assert wide == ["–", "not determined: its interval spans more than a factor of 1000"]
    assert none == ["1.4000", "no interval"]
