"""The cheapest model of a loss when serving is paid for: exact, and as the paper says it behaves."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scaling.analysis.judgement.serving import cheapest, describe_served, predict_served, serving_section
from scaling.analysis.laws import LAWS
from scaling.analysis.laws.cost import Cost
from scaling.analysis.laws.law import from_columns
from scaling.analysis.laws.size_and_data import Chinchilla
from tests.analysis.conformance import analyse
from tests.analysis.simulated import TRUTH, observe, table

# Hoffmann et al. 2022, appendix D.3, as printed; Sardana et al. 2024 use the same.
PUBLISHED = Chinchilla(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
SURFACES = {name: law for name, law in LAWS.items() if law.predicts == "loss" and set(law.variables) == {"N", "D"}}


@pytest.mark.parametrize("cost", [Cost(), Cost(k=20.0, gamma=0.9)], ids=str)
@pytest.mark.parametrize("served", [0.0, 1e11, 1e13])
def test_nothing_on_the_line_of_equal_loss_is_cheaper(served: float, cost: Cost) -> None:
    found = cheapest(PUBLISHED, 2.1, served, cost)
    N = np.geomspace(float(found.N) / 20, float(found.N) * 20, 400_001)
    with np.errstate(invalid="ignore"):
        D = (PUBLISHED.B / (2.1 - PUBLISHED.E - PUBLISHED.A * N**-PUBLISHED.alpha)) ** (1 / PUBLISHED.beta)
    total = cost.flops(N, D + served / 3)
    best = np.nanargmin(total)
    assert float(found.N) == pytest.approx(N[best], rel=1e-4)
    assert float(found.total_flops) <= total[best] * (1 + 1e-12)
    assert float(PUBLISHED(N=found.N, D=found.D)) == pytest.approx(2.1, abs=1e-12)


@pytest.mark.parametrize("name", SURFACES)
def test_without_serving_it_is_the_compute_optimum(name: str) -> None:
    law = SURFACES[name](**SURFACES[name].example)
    flops = 6 * np.prod([np.sqrt(low * high) for low, high in law.domain.values()])
    best = law.optimum(flops)
    found = cheapest(law, float(best.loss), 0.0)
    assert float(found.N) == pytest.approx(float(best.N), rel=1e-6)
    assert float(found.train_flops) == pytest.approx(flops, rel=1e-6)
    assert float(found.saving) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", SURFACES)
def test_tokens_for_a_loss_undo_the_law(name: str) -> None:
    law = SURFACES[name](**SURFACES[name].example)
    N, D = (float(np.sqrt(low * high)) for low, high in law.domain.values())
    assert float(law.log_tokens(law(N=N, D=D), N)) == pytest.approx(np.log(D), rel=1e-9)


def test_more_served_tokens_make_it_smaller_trained_longer_and_worth_more() -> None:
    served = np.geomspace(1e9, 1e15, 40)
    found = cheapest(PUBLISHED, 2.1, served)
    assert (np.diff(found.N) < 0).all()
    assert (np.diff(found.D) > 0).all()
    assert (np.diff(found.saving) > 0).all()
    assert (found.saving > 0).all()


def test_a_model_that_serves_as_much_as_the_papers_is_smaller_and_trained_longer() -> None:
    """Sardana et al. 2024, figure 1: of the quality of a compute-optimal model of some tens of billions of parameters
    and with 1e13 tokens served, the cheapest is about two thirds its size, and saves a good part of the total.
    """
    usual = PUBLISHED.optimum(6 * 30e9 * 1.4e12)
    found = cheapest(PUBLISHED, usual.loss, 1e13)
    assert 0.3 < float(found.N / usual.N) < 0.8
    assert 1.2 < float(found.D / usual.D) < 4
    assert 0.05 < float(found.saving) < 0.4


def test_a_served_token_costs_two_flops_a_parameter() -> None:
    found = cheapest(PUBLISHED, 2.1, 1e12)
    assert float(found.serve_flops) == pytest.approx(2 * float(found.N) * 1e12)
    assert float(found.train_flops) == pytest.approx(6 * float(found.N) * float(found.D))


def test_resamples_are_solved_together_as_one_by_one() -> None:
    rng = np.random.default_rng(0)
    values = np.array(list(PUBLISHED.params.values())) * (1 + 0.02 * rng.standard_normal((5, 5)))
    values[3, 0] = 2.5  # cannot reach the loss
    served = np.array([0.0, 1e12])
    found = cheapest(from_columns(Chinchilla, values), 2.1, served)
    assert found.N.shape == (5, 2)
    assert np.isnan([found.N[3], found.D[3], found.total_flops[3], found.saving[3]]).all()
    one = cheapest(Chinchilla(*values[1]), 2.1, 1e12)
    assert float(found.N[1, 1]) == pytest.approx(float(one.N), rel=1e-9)


def test_a_loss_below_the_floor_is_refused_with_the_floor() -> None:
    with pytest.raises(ValueError, match=r"a loss of 1\.6 is out of reach: the chinchilla law ends at 1\.69"):
        cheapest(PUBLISHED, 1.6, 1e12)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    frame = table(budgets=np.geomspace(1e14, 1e16, 5).tolist(), noise_nats=0.01, seed=1)
    return analyse(observe(frame, tmp_path_factory.mktemp("serving")), bootstrap=200)


def test_intervals_hold_the_truth_and_the_words_say_the_cost(results: dict[str, Any]) -> None:
    found, truth = predict_served(results, loss=2.9, served=1e9), cheapest(TRUTH, 2.9, 1e9)
    for name, symbol in (("params", "N"), ("tokens", "D"), ("total_flops", "total_flops"), ("saving", "saving")):
        assert found[name]["low"] <= found[name]["value"] <= found[name]["high"], name
        assert found[name]["low"] < float(getattr(truth, symbol)) < found[name]["high"], name
    assert "C = 6 N D" in found["notes"][0]
    said = describe_served(found)
    assert "1e+09 tokens served" in said
    assert "saves" in said


def test_as_good_as_the_optimum_at_a_compute_and_cheaper(results: dict[str, Any]) -> None:
    alone, served = (predict_served(results, flops=1e16, served=tokens) for tokens in (0.0, 1e10))
    best = TRUTH.optimum(1e16)
    assert alone["params"]["low"] < float(best.N) < alone["params"]["high"]
    assert alone["total_flops"]["value"] == pytest.approx(1e16, rel=1e-6)
    assert served["params"]["value"] < alone["params"]["value"]
    assert served["saving"]["value"] > 0.05
    assert served["loss"] == alone["loss"]


def test_ratios_outside_the_runs_are_warned_of(results: dict[str, Any]) -> None:
    assert any("tokens per parameter lie outside" in n for n in predict_served(results, loss=2.6, served=1e14)["notes"])
    assert not any("tokens per parameter" in n for n in predict_served(results, loss=2.6, served=0.0)["notes"])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"served": 1e9}, "either --loss or --flops"),
        ({"served": 1e9, "loss": 2.5, "flops": 1e16}, "either --loss or --flops"),
        ({"served": -1.0, "loss": 2.5}, "serve must be positive"),
        ({"served": 1.0, "loss": float("nan")}, "loss must be positive and finite"),
        ({"served": 1.0, "loss": 1.0}, "out of reach"),
    ],
)
def test_other_questions_are_refused(results: dict[str, Any], asked: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        predict_served(results, **asked)


def test_without_resamples_there_is_no_interval(tmp_path: Path) -> None:
    point = analyse(observe(table(noise_nats=0.01), tmp_path), bootstrap=0)
    found = predict_served(point, loss=2.6, served=1e9)
    assert found["params"]["low"] is None
    assert "[no interval]" in describe_served(found)


def test_the_curve_in_the_results_is_the_solution_at_its_points(results: dict[str, Any]) -> None:
    section = serving_section(results)
    assert section is not None
    law = Chinchilla(**copy.deepcopy(results["fits"][0]["params"]))
    found = cheapest(law, section["loss"], section["served"][7])
    assert section["params"]["value"][7] == pytest.approx(float(found.N))
    low, high = section["params"]["low"], section["params"]["high"]
    assert all(below < above for below, above in zip(low, high, strict=True))


def test_of_the_curves_resamples_as_many_lie_below_its_band_as_above(results: dict[str, Any]) -> None:
    halved = copy.deepcopy(results)
    halved["settings"]["level"] = 0.5
    section = serving_section(halved)
    assert section is not None
    draws = from_columns(Chinchilla, np.array(results["fits"][0]["draws"]["values"]))
    found = cheapest(draws, draws.optimum(section["flops"]).loss, np.array(section["served"]))
    for name, drawn in (("params", found.N), ("tokens", found.D), ("saving", found.saving)):
        assert (drawn < section[name]["low"]).sum(axis=0).tolist() == [50] * len(section["served"])
        assert (drawn > section[name]["high"]).sum(axis=0).tolist() == [50] * len(section["served"])


def test_resamples_that_cannot_reach_the_loss_are_counted(results: dict[str, Any]) -> None:
    assert not any("of the resamples cannot" in note for note in predict_served(results, loss=2.6, served=1e9)["notes"])
    floors = copy.deepcopy(results)
    draws = floors["fits"][0]["draws"]["values"]
    for values in draws[: len(draws) // 4]:
        values[0] = 2.7  # E
    found = predict_served(floors, loss=2.6, served=1e9)
    assert "25% of the resamples cannot reach that loss at all and are not in the intervals" in found["notes"]
    floors["fits"][0]["draws"]["values"] = draws[len(draws) // 4 :]
    for name in ("params", "tokens", "total_flops", "saving"):
        assert found[name] == predict_served(floors, loss=2.6, served=1e9)[name]
