"""Forecasts: what the interval holds, how far it is trusted, and in which words; nothing is quietly
confident.
"""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scaling.analysis.fitting.fit import Loss
from scaling.analysis.judgement.forecast import describe, predict
from scaling.analysis.judgement.spread import Form, spread
from scaling.analysis.laws.law import from_columns
from scaling.analysis.laws.size_and_data import Chinchilla
from tests.analysis.conformance import analyse
from tests.analysis.simulated import TRUTH, observe, table

BUDGETS = np.geomspace(1e14, 1e16, 5).tolist()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    frame = table(budgets=BUDGETS, noise_nats=0.01, seed=1)
    return analyse(observe(frame, tmp_path_factory.mktemp("forecast")), laws=("chinchilla",), bootstrap=200)


def test_at_a_compute_the_truth_lies_in_every_interval(results: dict[str, Any]) -> None:
    found, best = predict(results, flops=1e17), TRUTH.optimum(1e17)
    for name, truth in (("params", best.N), ("tokens", best.D), ("loss", best.loss)):
        assert found[name]["low"] < float(truth) < found[name]["high"], name
        assert found[name]["low"] < found[name]["value"] < found[name]["high"], name
    assert found["params"]["value"] * found["tokens"]["value"] * 6 == pytest.approx(1e17)


def test_at_a_size_and_tokens_only_the_loss_is_predicted(results: dict[str, Any]) -> None:
    found = predict(results, params=1e7, tokens=1e9)
    assert found["flops"] == pytest.approx(6e16)
    assert found["loss"]["low"] < float(TRUTH(N=1e7, D=1e9)) < found["loss"]["high"]
    assert "params" not in found
    assert (found["params_given"], found["tokens_given"]) == (1e7, 1e9)


def test_a_prediction_in_a_line_holds_every_quantity_with_its_interval(results: dict[str, Any]) -> None:
    found = predict(results, flops=1e17)
    N, D, loss = (found[name] for name in ("params", "tokens", "loss"))
    parts = [f"{one['value']:.4g} [{one['low']:.4g}, {one['high']:.4g}]" for one in (N, D, loss)]
    assert describe(found).startswith("N* {}, D* {}, loss {}; ".format(*parts))
    assert describe(predict(results, params=1e7, tokens=1e9)).startswith("loss ")


def test_params_and_compute_give_tokens_and_say_so(results: dict[str, Any]) -> None:
    found = predict(results, params=1e7, flops=6e16)
    assert found["tokens_given"] == pytest.approx(1e9)
    assert "tokens = C / (6 N) = 1e+09" in found["notes"]


def test_beyond_the_longest_roll_out_the_interval_is_marked_uncalibrated(results: dict[str, Any]) -> None:
    reach = results["forecast"]["reach_decades"]
    assert reach == pytest.approx(1.5, abs=0.01)
    near, far = predict(results, flops=10 ** (16 + reach - 0.1)), predict(results, flops=10 ** (16 + reach + 0.1))
    assert near["calibrated"]
    assert not far["calibrated"]
    assert f"{reach + 0.1:.2f} decades beyond the data" in far["words"]
    assert "UNCALIBRATED" in far["words"]
    assert "UNCALIBRATED" in describe(far)
    below = predict(results, flops=1e12)
    assert not below["calibrated"]
    assert "2.00 decades below the data" in below["words"]


def test_a_twentieth_of_compute_is_no_distance_beyond_what_was_checked(results: dict[str, Any]) -> None:
    ends = 16 + results["forecast"]["reach_decades"], 14
    for end, outward in zip(ends, (1, -1), strict=True):
        assert predict(results, flops=10 ** (end + outward * 0.01))["calibrated"]
        assert not predict(results, flops=10 ** (end + outward * 0.03))["calibrated"]


def test_an_interval_that_rests_on_one_law_alone_says_so(results: dict[str, Any]) -> None:
    alone = {**results, "isoflop": None}
    two = deepcopy(alone)
    two["forecast"]["forms"] *= 2
    for flops in (1e17, 1e20):
        assert "one law only" in predict(alone, flops=flops)["words"]
        assert "one law only" not in predict(results, flops=flops)["words"]
        assert "one law only" not in predict(two, flops=flops)["words"]


def test_intervals_widen_with_distance(results: dict[str, Any]) -> None:
    widths = []
    for flops in (1e15, 1e17, 1e19, 1e21):
        one = predict(results, flops=flops)["params"]
        widths.append(np.log(one["high"] / one["low"]))
    assert widths == sorted(widths)
    assert widths[-1] > 2 * widths[0]


def test_a_loss_interval_holds_noise_parameters_and_form(results: dict[str, Any]) -> None:
    found = predict(results, flops=1e17)["loss"]
    assert found["noise"] == pytest.approx(1.96 * results["fits"][0]["noise_sd_log"], rel=1e-3)
    half = np.log(found["high"] / found["low"]) / 2
    factor = results["forecast"]["calibration"]["loss"]["factor"]
    widened = factor * np.hypot(found["noise"], found["parameter"])
    assert half == pytest.approx(np.hypot(widened, found["form"]), rel=0.1)


def test_the_roll_outs_factor_widens_every_interval_but_never_the_forms_share(results: dict[str, Any]) -> None:
    wider = deepcopy(results)
    for one in wider["forecast"]["calibration"].values():
        one["factor"] *= 2
    for name in ("params", "loss"):
        before, after = predict(results, flops=1e17)[name], predict(wider, flops=1e17)[name]
        own, doubled = (np.log(one["high"] / one["value"]) ** 2 - one["form"] ** 2 for one in (before, after))
        assert doubled == pytest.approx(4 * own)


def test_where_nothing_was_rolled_out_the_interval_is_not_widened(results: dict[str, Any]) -> None:
    none, once = deepcopy(results), deepcopy(results)
    for copied, factor in ((none, None), (once, 1.0)):
        for one in copied["forecast"]["calibration"].values():
            one["factor"] = factor
    for name in ("params", "loss"):
        assert predict(none, flops=1e17)[name] == predict(once, flops=1e17)[name]


def test_spreads_add_in_quadrature_and_the_factor_widens_those_it_was_calibrated_on() -> None:
    values = np.tile(list(TRUTH.params.values()), (201, 1))
    values[:, list(TRUTH.params).index("E")] *= np.exp(np.linspace(-1, 1, 201))
    lead = Form("one", TRUTH, from_columns(Chinchilla, values))

    def of_E(**changes: Any) -> Any:
        settings: dict[str, Any] = {"also": (), "noise_sd": 0.0, "factor": 1.0, "level": 0.5, "z": 2.0, **changes}
        return spread([lead], lambda law: law.params["E"], **settings)

    alone = of_E()  # the middle half of even draws over two is one
    assert np.log([alone.low[0] / TRUTH.E, alone.high[0] / TRUTH.E]) == pytest.approx([-0.5, 0.5])
    found = of_E(noise_sd=0.3, also=(0.4, -0.2), factor=1.5)
    half = np.sqrt(1.5**2 * (0.5**2 + 0.6**2) + 4 * (0.4**2 + 0.2**2) / 2)
    assert np.log([found.low[0] / TRUTH.E, found.high[0] / TRUTH.E]) == pytest.approx([-half, half])
    assert (found.parameter[0], found.noise[0]) == pytest.approx((0.5, 0.6))
    assert found.form[0] == pytest.approx(2 * np.sqrt(0.1))


def test_the_isoflop_law_widens_an_interval_by_its_gap_less_its_own_noise(results: dict[str, Any]) -> None:
    apart = deepcopy(results)
    lead, z = predict(results, flops=1e17)["params"]["value"], results["forecast"]["z"]
    value = 2 * lead * np.array([1e-2, 1.0, 1e2]) ** 0.5
    band = {"flops": [1e15, 1e17, 1e19], "low": value * np.exp(-0.1 * z), "high": value * np.exp(0.1 * z)}
    law = {"floor": 0.0, "exponent": 0.5, "coefficient": 2 * lead / 1e17**0.5, "band": band}
    apart["isoflop"]["laws"]["parabola"]["params"] = law
    assert predict(apart, flops=1e17)["params"]["form"] == pytest.approx(z * np.sqrt(np.log(2) ** 2 - 0.1**2))
    law["floor"] = 2 * lead
    assert predict(apart, flops=1e17)["params"]["form"] == pytest.approx(z * np.sqrt(np.log(4) ** 2 - 0.1**2))


def test_another_form_that_the_data_allow_widens_the_interval() -> None:
    rng = np.random.default_rng(0)
    values = np.array(list(TRUTH.params.values())) * (1 + 0.01 * rng.standard_normal((200, 5)))
    lead = Form("one", TRUTH, from_columns(Chinchilla, values))
    other = Form("other", Chinchilla(E=1.8, A=100.0, B=700.0, alpha=0.33, beta=0.35), None)

    def at(forms: list[Form]) -> Any:
        return spread(forms, lambda law: law(N=1e9, D=1e11), also=(), noise_sd=0.0, factor=1.0, level=0.95, z=1.96)

    alone, both = at([lead]), at([lead, other])
    gap = abs(np.log(other.point(N=1e9, D=1e11) / TRUTH(N=1e9, D=1e11)))
    assert both.form[0] == pytest.approx(1.96 * gap)
    assert alone.form[0] == 0
    assert both.high[0] > alone.high[0]
    assert both.low[0] < alone.low[0]


def test_without_resamples_there_is_no_interval_and_no_calibration(tmp_path: Path) -> None:
    point = analyse(observe(table(noise_nats=0.01), tmp_path), bootstrap=0)
    found = predict(point, flops=1e17)
    assert found["params"]["value"] > 0
    assert found["params"]["low"] is None
    assert not found["calibrated"]
    assert "no resamples were drawn" in found["words"]
    assert "[no interval]" in describe(found)


def test_without_roll_outs_the_interval_is_uncalibrated(tmp_path: Path) -> None:
    found = predict(analyse(observe(table(noise_nats=0.01), tmp_path), bootstrap=50, holdout=None), flops=1e16)
    assert found["params"]["low"] < found["params"]["high"]
    assert not found["calibrated"]
    assert "UNCALIBRATED (no prediction could be tested" in found["words"]


def test_unseen_ratios_of_tokens_to_parameters_are_noted(results: dict[str, Any]) -> None:
    assert "outside the" in predict(results, params=1e4, tokens=1e11)["notes"][0]
    assert predict(results, params=1e6, tokens=1.2e8)["notes"] == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give --flops, or --params with --tokens or --flops; got nothing"),
        ({"params": 1e9}, "got params"),
        ({"flops": 1e20, "tokens": 1e9}, "got flops, tokens"),
        ({"flops": -1.0}, "flops must be positive and finite, got -1"),
        ({"flops": 0.0}, "flops must be positive and finite, got 0"),
        ({"flops": float("inf")}, "flops must be positive and finite"),
        ({"params": 1e9, "tokens": float("nan")}, "tokens must be positive and finite"),
    ],
)
def test_other_questions_are_refused(results: dict[str, Any], given: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        predict(results, **given)


def test_results_without_a_law_of_params_and_tokens_are_refused(tmp_path: Path) -> None:
    only = analyse(observe(table(noise_nats=0.01), tmp_path), laws=("power:C",), bootstrap=20)
    with pytest.raises(ValueError, match="no fitted law of params and tokens"):
        predict(only, params=1e6, tokens=1e9)
    with pytest.raises(ValueError, match="--params with --tokens or --flops; got params"):
        predict(only, params=1e6)
    assert predict(only, flops=1e17)["law"] == "power:C"


@pytest.mark.long
def test_forecasts_a_decade_out_cover_the_truth(tmp_path: Path) -> None:
    hits = {"params": 0, "loss": 0}
    studies = 16
    for seed in range(studies):
        frame = table(budgets=BUDGETS, noise_nats=0.01, seed=seed)
        found = analyse(observe(frame, tmp_path), loss=Loss("mse"), bootstrap=60, seed=seed, target_flops=1e17)
        best = TRUTH.optimum(1e17)
        for name, truth in (("params", float(best.N)), ("loss", float(best.loss))):
            one = found["forecast"]["at_target"][name]
            hits[name] += one["low"] <= truth <= one["high"]
    # 16 trials at 95%: fewer than 13 hits has probability below 1%.
    assert min(hits.values()) >= 13, hits
