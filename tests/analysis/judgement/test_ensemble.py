"""The headline: the log mean with its members, each doubt counted once, and words where one law answers alone."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scaling.analysis.judgement.forecast import describe, members_in_words, predict
from scaling.analysis.judgement.growth import Growth
from scaling.analysis.results.summary import summary
from scaling.analysis.runs.observations import load
from tests.analysis.conformance import analyse
from tests.analysis.judgement.test_forecasters import TRUTHS, grid
from tests.analysis.simulated import observe

QUICKSTART = Path(__file__).with_name("quickstart.csv")  # sweeps/quickstart.yaml as trained on two CPU cores
TRAINED_PARAMS, TRAINED_LOSS = 154e3, 1.362  # of a run of the same recipe at 1e13 FLOPs


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return analyse(observe(grid(TRUTHS[0], noise=0.005), tmp_path_factory.mktemp("ensemble")), bootstrap=40)


def test_the_headline_is_the_log_mean_of_its_members(results: dict[str, Any]) -> None:
    found = predict(results, flops=1e13)
    assert found["law"] == "log mean of 4 forecasters"
    for name in ("params", "loss"):
        logs = [np.log(one[name]) for one in found["members"]]
        assert len(logs) == 4
        assert np.log(found[name]["value"]) == pytest.approx(np.mean(logs))
    assert found["params"]["value"] * found["tokens"]["value"] * 6 == pytest.approx(1e13)
    best = TRUTHS[0].optimum(1e13)
    for name, truth in (("params", best.N), ("tokens", best.D), ("loss", best.loss)):
        assert found[name]["low"] < float(truth) < found[name]["high"], name


def test_every_member_stands_beside_the_headline_with_the_error_of_its_roll_outs(results: dict[str, Any]) -> None:
    lines = members_in_words(predict(results, flops=1e13))
    for name in ("chinchilla near the minima", "gamma near the minima", "isoFLOP power laws", "over a floor"):
        assert any(name in line for line in lines)
    assert all("roll-out" in line for line in lines)
    assert "over a floor: N*" in summary(results)
    assert lines[0] in summary(results)


def test_the_interval_counts_the_roll_outs_errors_and_one_runs_noise_once(results: dict[str, Any]) -> None:
    found, section = predict(results, flops=1e13), results["forecast"]["ensemble"]
    grown = {
        name: Growth(one["sd_log_per_decade"], one["degrees_of_freedom"]) for name, one in section["growth"].items()
    }
    loss = found["loss"]
    noise = results["forecast"]["z"] * section["noise_sd_nats"] / loss["value"]
    half = np.hypot(grown["loss"].half_width(1.0, 0.95), noise)
    assert np.log([loss["low"] / loss["value"], loss["high"] / loss["value"]]) == pytest.approx([-half, half], rel=1e-3)
    params = np.log(found["params"]["high"] / found["params"]["value"])
    assert params == pytest.approx(grown["params"].half_width(1.0, 0.95), rel=1e-3)
    assert np.log(found["tokens"]["high"] / found["tokens"]["value"]) == pytest.approx(params)  # of C = 6 N D


def test_the_noise_is_that_of_seeds_and_never_the_misfit_of_a_law(results: dict[str, Any], tmp_path: Path) -> None:
    measured = results["forecast"]["ensemble"]["noise_sd_nats"]
    assert measured / 2 == pytest.approx(0.005, rel=0.5)  # of losses about 2 nats
    single = grid(TRUTHS[0]).iloc[::2]
    alone = analyse(observe(single, tmp_path), bootstrap=20)
    assert alone["forecast"]["ensemble"]["noise_sd_nats"] is None
    assert alone["forecast"]["at_target"]["loss"]["noise"] == 0
    assert "no runs differ in their seed alone" in alone["forecast"]["ensemble"]["words"]


def test_beyond_the_reach_tested_the_words_say_so(results: dict[str, Any]) -> None:
    assert results["forecast"]["ensemble"]["reach_decades"] == pytest.approx(1.0, abs=0.01)
    assert predict(results, flops=1e13)["calibrated"]
    far = predict(results, flops=2e13)
    assert not far["calibrated"]
    assert "UNCALIBRATED" in describe(far)


def test_near_the_optimum_the_loss_of_a_size_is_the_headlines_and_its_surfaces_excess(results: dict[str, Any]) -> None:
    best = predict(results, flops=1e13)
    size = best["params"]["value"]
    at = predict(results, params=size, flops=1e13)
    assert at["loss"]["value"] == pytest.approx(best["loss"]["value"], rel=1e-9)
    twice = predict(results, params=2 * size, flops=1e13)
    truth = TRUTHS[0]
    excess = float(truth(N=2 * truth.optimum(1e13).N, D=truth.optimum(1e13).D / 2) / truth.optimum(1e13).loss)
    assert twice["loss"]["value"] / best["loss"]["value"] == pytest.approx(excess, abs=0.003)
    far = predict(results, params=10 * size, flops=1e13)
    assert far["law"] == "chinchilla"
    assert any("far from the optimum" in note for note in far["notes"])


def test_the_quickstarts_headline_holds_the_loss_of_a_run_trained_at_ten_times_its_compute() -> None:
    found = analyse(load(QUICKSTART), bootstrap=20, holdout="budget", target_flops=1e13)["forecast"]["at_target"]
    loss = found["loss"]
    assert loss["low"] < TRAINED_LOSS < loss["high"]
    assert loss["high"] / loss["value"] < 1.15
    assert loss["low"] / loss["value"] > 0.85
    assert found["params"]["low"] < TRAINED_PARAMS < found["params"]["high"]


def test_a_law_that_is_named_answers_alone(tmp_path: Path) -> None:
    named = analyse(observe(grid(TRUTHS[0], noise=0.005), tmp_path), laws=("chinchilla",), bootstrap=0)
    found = predict(named, flops=1e13)
    assert "ensemble" not in named["forecast"]
    assert "members" not in found
    assert (found["law"], found["notes"]) == ("chinchilla", [])


def test_a_table_without_minima_is_answered_by_one_law_and_says_why(tmp_path: Path) -> None:
    frame = grid(TRUTHS[0]).iloc[::2].drop(columns="budget")
    frame["tokens"] *= np.geomspace(0.5, 2.0, len(frame))
    frame["flops"] = 6 * frame["params"] * frame["tokens"]
    frame["loss"] = TRUTHS[0](N=frame["params"], D=frame["tokens"])
    found = analyse(observe(frame, tmp_path), bootstrap=0)
    assert found["forecast"]["ensemble"] is None
    target = found["forecast"]["at_target"]
    assert target["law"] == "chinchilla"
    assert "one law answers alone" in target["notes"][0]
    assert "one law answers alone" in summary(found)


def test_without_resamples_there_is_a_headline_without_an_interval(tmp_path: Path) -> None:
    found = analyse(observe(grid(TRUTHS[0]), tmp_path), bootstrap=0)
    target = found["forecast"]["at_target"]
    assert len(target["members"]) == 4
    assert target["loss"]["low"] is None
    assert not target["calibrated"]


def test_a_document_of_an_earlier_version_is_answered_by_its_law(results: dict[str, Any]) -> None:
    old = deepcopy(results)
    del old["forecast"]["ensemble"]
    assert predict(old, flops=1e13)["law"] == "chinchilla"
