"""results.json: its schema, its golden numbers, its warnings, and what the terminal prints."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scaling.analysis.fitting.fit import Loss
from scaling.analysis.judgement.forecast import cost_of
from scaling.analysis.results.document import SCHEMA, parse_laws, read, summary, write
from scaling.analysis.results.summary import warnings_of
from scaling.analysis.runs.observations import load
from tests.analysis.conformance import analyse
from tests.analysis.simulated import TRUTH, observe, table, write_study
from tests.published import CHINCHILLA, needs_published

KEYS = {
    "schema", "source", "conventions", "settings", "warnings", "notes", "excluded", "range", "cost", "bytes_per_token",
    "observations", "fits", "isoflop", "frontiers", "envelope", "curves", "health", "holdout", "influence", "choices",
    "forecast", "prices", "serving", "comparison", "inferred", "ground_truth",
}  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    study = write_study(tmp_path_factory.mktemp("results") / "study")
    laws = ("chinchilla", "kaplan", "power:C")
    return analyse(load(study, curves=True), laws=laws, bootstrap=60)


def test_the_document_is_plain_finite_json(results: dict[str, Any], tmp_path: Path) -> None:
    assert set(results) == KEYS
    path = tmp_path / "deep" / "results.json"
    write(results, path)
    assert read(path) == results
    assert not list(path.parent.glob(".*"))


def test_the_document_holds_what_is_drawn(results: dict[str, Any]) -> None:
    n = len(results["observations"]["loss"])
    assert n == 28
    chinchilla = results["fits"][0]
    assert len(chinchilla["residuals"]) == n
    assert len(chinchilla["draws"]["values"]) == 60
    assert chinchilla["draws"]["names"] == ["E", "A", "B", "alpha", "beta"]
    grid = chinchilla["optimum"]["flops"]
    for name in ("params", "tokens", "loss", "tokens_per_param"):
        band = chinchilla["optimum"][name]
        assert len(band["value"]) == len(grid)
        assert all(
            low <= value <= high for low, value, high in zip(band["low"], band["value"], band["high"], strict=True)
        )
    assert np.array(chinchilla["surface"]["loss"]).shape == (48, 48)
    assert sorted(set(results["observations"]["budget"])) == [0, 1, 2, 3]
    for budget in results["isoflop"]["budgets"]:
        assert set(budget["estimates"]) == {"parabola", "cubic", "akima", "mean", "surface"}
        assert len(budget["loss"]) == budget["n"] == 7
    assert len(results["curves"]) == 28
    assert results["envelope"]["laws"]["binned"]["exponent"] is not None
    assert results["forecast"]["at_target"]["flops"] == results["settings"]["target_flops"]


def test_the_forecast_rests_on_the_best_predictor_and_the_laws_not_much_worse(results: dict[str, Any]) -> None:
    assert [row["law"] for row in results["holdout"]["table"]] == ["chinchilla", "kaplan"]
    assert results["holdout"]["table"][1]["delta_aicc"] > 10
    assert results["forecast"]["forms"] == ["chinchilla"]


def test_a_law_of_compute_is_fitted_to_the_best_run_of_every_budget(results: dict[str, Any]) -> None:
    power = results["fits"][2]
    assert power["name"] == "power:C"
    assert power["n"] == len(power["rows"]) == 4
    losses = dict(zip(results["observations"]["row"], results["observations"]["loss"], strict=True))
    for budget, row in zip(results["isoflop"]["budgets"], power["rows"], strict=True):
        assert losses[row] == min(budget["loss"])


def test_a_law_of_one_variable_holds_its_curve_over_the_data_and_a_little_more(results: dict[str, Any]) -> None:
    power = results["fits"][2]
    x, value, low, high = (np.array(power["curve"][name]) for name in ("x", "value", "low", "high"))
    p = power["params"]
    assert value == pytest.approx(p["E"] + p["A"] / x ** p["alpha"])
    assert (low <= high).all()
    used = [
        flops
        for flops, row in zip(*(results["observations"][c] for c in ("flops", "row")), strict=True)
        if row in power["rows"]
    ]
    assert x[0] < min(used) < max(used) < x[-1]
    assert results["fits"][0]["curve"] is None


def test_the_surface_surrounds_the_optimum_at_the_target(results: dict[str, Any]) -> None:
    for name in ("params", "tokens"):
        grid, target = results["fits"][0]["surface"][name], results["forecast"]["at_target"][name]["value"]
        assert grid[0] < target
        assert grid[-1] == pytest.approx(3 * target) or grid[-1] == pytest.approx(2 * results["range"][name][1])
        assert grid[-1] >= 3 * target * (1 - 1e-9)


def test_every_estimate_holds_tokens_per_parameter_and_every_law_an_exponent_or_why_not(tmp_path: Path) -> None:
    for shift in (1.0, 8.0):
        study = analyse(observe(table(shift=shift, noise_nats=0.002), tmp_path), bootstrap=20, holdout=None)["isoflop"]
        for budget in study["budgets"]:
            for one in budget["estimates"].values():
                if one["params"]["value"] is not None:
                    ratio = one["tokens"]["value"] / one["params"]["value"]
                    assert one["tokens_per_param"]["value"] == pytest.approx(ratio)
        laws = [law for laws in study["laws"].values() for law in laws.values()]
        assert all(law["exponent"] is not None or law["why"] for law in laws)
        assert any(law["exponent"] is None for law in laws) == (shift > 1)


def test_what_moves_the_answer_is_warned_of_before_other_laws_and_curves(tmp_path: Path) -> None:
    frame = table(budgets=(1e14, 3e14), noise_nats=0.01, seed=3)
    frame.loc[13, "loss"] += 0.4
    laws = ("chinchilla", "power:C")
    found = analyse(observe(frame, tmp_path), laws=laws, bootstrap=60, holdout=None, loss=Loss("mse"))["warnings"]
    first = [line.split(" ")[0] for line in found]
    assert first.index("one") < next(k for k, word in enumerate(first) if word.startswith("power:C"))
    assert "without row-14 the optimal size moves by" in found[first.index("one")]


def test_a_cooldown_is_said_with_the_envelope_and_is_no_warning(results: dict[str, Any]) -> None:
    assert any("cool their learning rate down" in line for line in results["envelope"]["warnings"])
    assert not any("cool" in line for line in results["warnings"])


@needs_published
def test_the_golden_optimum_on_the_240_points() -> None:
    observations = load(CHINCHILLA, where="epoch_excluded == 0")
    found = analyse(observations, bootstrap=0)
    fitted = found["fits"][0]
    assert fitted["n"] == 240
    assert fitted["objective"] <= 0.00101827403
    assert fitted["loss"] == {"name": "huber", "delta": 0.001, "on": "log", "reduction": "sum"}
    assert fitted["status"] == "converged"
    assert [one["row"] for one in found["excluded"]] == [1, 2, 3, 4, 5]
    assert found["cost"]["words"] == "C = 6 N D"


@needs_published
def test_the_240_points_fall_into_the_budgets_that_were_drawn() -> None:
    observations = load(CHINCHILLA, where="epoch_excluded == 0")
    found = analyse(observations, bootstrap=0)["isoflop"]
    drawn = [6e18, 1e19, 3e19, 6e19, 1e20, 3e20, 6e20, 1e21, 3e21]  # Hoffmann et al. 2022, figure 3
    centres = np.array([budget["budget_flops"] for budget in found["budgets"]])
    assert all(np.abs(np.log(centres / budget)).min() < 0.12 for budget in drawn)
    assert found["laws"]["parabola"]["params"]["exponent"] == pytest.approx(0.5, abs=0.06)


def test_edge_minima_are_the_first_warning_and_the_first_line(tmp_path: Path) -> None:
    found = analyse(observe(table(shift=8.0, noise_nats=0.001), tmp_path), bootstrap=20)
    assert len(found["warnings"]) >= 4
    for warning in found["warnings"][:4]:
        assert "on the grid's edge: the smallest model" in warning
    assert summary(found).startswith("WARNING at ")
    assert "(EDGE)" in summary(found)


def test_exact_flops_are_not_taken_for_six_n_d(results: dict[str, Any]) -> None:
    cost = results["cost"]
    assert 6 < cost["ratio"]["least"] < 1.05 * cost["ratio"]["least"] < cost["ratio"]["most"]
    assert (cost["limit"], cost["k"], cost["gamma"]) == pytest.approx((6.0, 120.0, 0.5), rel=0.01)
    assert cost["spread"] < 1e-3
    assert cost["words"] in results["notes"]
    assert "C / (N D) is not 6 here" in cost["words"]
    optimum = results["fits"][0]["optimum"]
    params, tokens = (np.array(optimum[name]["value"]) for name in ("params", "tokens"))
    assert cost_of(results).flops(params, tokens) == pytest.approx(np.array(optimum["flops"]))
    assert optimum["flops"][-1] / (6 * params[-1] * tokens[-1]) == pytest.approx(1 + 20 * params[-1] ** -0.5, rel=1e-3)


def test_every_value_in_the_terminal_has_its_interval_or_its_flag(results: dict[str, Any]) -> None:
    text = summary(results)
    for name in ("E", "alpha", "a"):
        low = results["fits"][0]["intervals" if name != "a" else "derived_intervals"][name]["low"]
        assert f"  {name} = " in text
        assert f"[{low:.4g}, " in text
    assert "2 excluded" in text
    assert "diverged: loss 31.2 at step 40" in text
    assert "non-embedding parameters" in text
    assert "hold-out" in text
    assert "reasonable analyses N* ranges from" in text
    assert "cool their learning rate down" in text


def test_an_unidentified_parameter_is_never_a_bare_number(tmp_path: Path) -> None:
    frame = table(budgets=(1e14, 1.3e14), spreads=(0.8, 0.9, 1, 1.1, 1.25), noise_nats=0.02)
    found = analyse(observe(frame, tmp_path), bootstrap=100)
    weak = [
        (name, flag["sentence"])
        for name, flag in found["fits"][0]["identification"].items()
        if flag["kind"] != "identified"
    ]
    assert weak
    text = summary(found)
    for name, sentence in weak:
        assert f"  {name} = " not in text
        assert sentence in text


def test_profiles_hold_the_estimate_between_their_ends(tmp_path: Path) -> None:
    found = analyse(observe(table(noise_nats=0.01), tmp_path), bootstrap=200, holdout=None)
    profiles = found["fits"][0]["profiles"]
    assert list(profiles) == ["E", "A", "B", "alpha", "beta"]
    for name, one in profiles.items():
        assert one["low"] < found["fits"][0]["params"][name] < one["high"]
        assert min(one["objective"]) == pytest.approx(found["fits"][0]["objective"], rel=1e-6)
        assert one["closed"] == [True, True]


def test_point_fits_alone_state_no_intervals(tmp_path: Path) -> None:
    found = analyse(observe(table(noise_nats=0.01), tmp_path), bootstrap=0)
    assert found["fits"][0]["intervals"] == {}
    assert found["holdout"] is found["influence"] is found["choices"] is None
    assert "(no interval: no resamples)" in summary(found)


def degenerate(name: str) -> pd.DataFrame:
    """Return a grid of runs whose losses no law suits: noise of every size, none at all, or a loss that rises."""
    rng = np.random.default_rng(0)
    frame = table(budgets=(1e14, 1e15), spreads=(0.4, 0.63, 1, 1.6, 2.5))
    n = len(frame)
    losses = {
        "loud": frame["loss"] * np.exp(1.5 * rng.normal(size=n)),
        "flat": 3 + 1e-9 * rng.normal(size=n),
        "rising": 1 + 0.01 * frame["params"] ** 0.2,
        "one wild": np.where(np.arange(n) == 7, 90.0, frame["loss"]),
    }
    return frame.assign(loss=losses[name])


@pytest.mark.parametrize(
    ("name", "laws"),
    [
        ("loud", ("chinchilla",)),
        ("flat", ("chinchilla", "kaplan", "power:C")),
        ("rising", ("chinchilla",)),
        ("one wild", ("kaplan", "power:C")),
    ],
)
def test_losses_that_no_law_suits_print_no_warning_of_numpy_and_no_number_beyond_sense(
    name: str, laws: tuple[str, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = analyse(observe(degenerate(name), tmp_path), laws=laws, bootstrap=10, holdout=None)
    text = "\n".join([summary(found), *found["warnings"], *found["notes"]])
    assert capfd.readouterr().err == ""  # numpy's warnings are errors here, and would not pass unseen
    for share in re.findall(r"(\d[\d.]*)%", text):
        assert float(share) <= 1000
    for factor in re.findall(r"(\d[\d.]*) times", text):
        assert float(factor) <= 1000


def test_a_move_of_the_optimum_by_orders_of_magnitude_has_no_digits(tmp_path: Path) -> None:
    found = analyse(observe(table(noise_nats=0.01), tmp_path), bootstrap=20, holdout=None)
    found["influence"]["runs"][0]["change"] = 8388680783484.51
    assert "moves by a factor of more than 1000" in summary(found)
    assert "%" not in next(line for line in summary(found).splitlines() if "most influential" in line)
    assert "moves by a factor of more than 1000" in " ".join(warnings_of(found))


def test_on_exact_data_the_truth_is_found(tmp_path: Path) -> None:
    found = analyse(observe(table(), tmp_path), laws=("chinchilla",), bootstrap=20)
    fitted = found["fits"][0]
    for name, value in TRUTH.params.items():
        assert fitted["params"][name] == pytest.approx(value, rel=1e-4)
    best = TRUTH.optimum(found["settings"]["target_flops"])
    assert found["forecast"]["at_target"]["params"]["value"] == pytest.approx(float(best.N), rel=1e-4)
    assert found["isoflop"]["laws"]["surface"]["params"]["exponent"] == pytest.approx(
        float(TRUTH.derived["a"]), abs=1e-4
    )


def test_a_law_the_data_cannot_determine_is_refused_by_name_beside_others(tmp_path: Path) -> None:
    found = analyse(observe(table(budgets=(1e14,)), tmp_path), laws=("chinchilla", "power:N"), bootstrap=20)
    assert found["fits"][0]["status"] == "refused"
    assert found["fits"][1]["status"] != "refused"
    assert any(warning.startswith("chinchilla was not fitted") for warning in found["warnings"])
    assert "one compute budget only: nothing shows how the optimum moves with compute" in found["warnings"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "params,tokens,loss\n1e8,1e10,3\n2e8,1e10,2.9\n4e8,2e10,2.8\n",
            "3 observations cannot determine the 5 parameters",
        ),
        ("params,tokens,loss\n" + "".join(f"1e8,{k}e9,{3 + 1 / k}\n" for k in range(1, 9)), "same N"),
        ("params,tokens,loss\n" + "".join(f"{k}e8,{k}e9,3\n" for k in range(1, 9)), "every loss is the same, 3"),
        ("params,flops,loss\n" + "".join(f"{k}e8,1e19,{3 + 1 / k}\n" for k in range(1, 9)), "N and D lie on one line"),
    ],
)
def test_data_that_determine_nothing_are_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        analyse(load(path), bootstrap=10)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"laws": ("chinchila",)}, "did you mean 'chinchilla'"),
        ({"laws": ("learning_rate",)}, "predicts a learning rate, not the loss"),
        ({"laws": ()}, "no law given; choose from"),
        ({"laws": ("chinchilla:N",)}, "names a variable"),
        ({"laws": ("power:width",)}, "the data have no column 'width'"),
        ({"holdout": "runs"}, "unknown holdout 'runs'; choose from budget"),
        ({"bootstrap": -1}, "bootstrap must be 0"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
    ],
)
def test_unknown_options_name_the_choices(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        analyse(observe(table(), tmp_path), **{"bootstrap": 0, **options})


def test_laws_of_one_variable_are_named_with_it() -> None:
    assert list(parse_laws(["power", "power:N", "chinchilla"])) == ["power:C", "power:N", "chinchilla"]


def test_the_same_seed_gives_the_same_document(tmp_path: Path) -> None:
    observations = observe(table(noise_nats=0.01), tmp_path)
    one, two, other = (analyse(observations, bootstrap=30, seed=seed) for seed in (5, 5, 6))
    assert one == two
    assert one["fits"][0]["intervals"] != other["fits"][0]["intervals"]


def test_other_losses_are_recorded(tmp_path: Path) -> None:
    found = analyse(observe(table(noise_nats=0.01), tmp_path), loss=Loss("mse", on="linear"), bootstrap=0)
    assert found["fits"][0]["loss"]["name"] == "mse"
    assert found["settings"]["loss"]["on"] == "linear"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not a results.json"),
        ("[1]", "without schema and fits"),
        ('{"schema": 99, "fits": []}', f"has schema 99, this version reads {SCHEMA}"),
    ],
)
def test_other_files_are_not_results(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read(path)
    with pytest.raises(ValueError, match="does not exist; `scaling fit DATA --out DIR`"):
        read(tmp_path / "none.json")


def test_a_number_that_is_not_finite_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write({"schema": 1, "fits": [], "bad": float("nan")}, tmp_path / "results.json")
    assert list(tmp_path.iterdir()) == []


def test_the_analysis_imports_neither_torch_nor_plotting() -> None:
    code = (
        "import sys, scaling.analysis.results.document, scaling.analysis.judgement.forecast; "
        "print([m for m in ('torch', 'matplotlib', 'plotly', 'wandb', 'hydra', 'omegaconf') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_names_from_the_data_reach_the_document_untouched(tmp_path: Path) -> None:
    frame = table(noise_nats=0.01).assign(run_id=[f"<script>{{{k}}}</script>" for k in range(28)])
    found = analyse(observe(frame, tmp_path), bootstrap=10)
    assert found["observations"]["run_id"][0] == "<script>{0}</script>"
    assert json.loads(json.dumps(found)) == found
    summary(found)
