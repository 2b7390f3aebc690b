"""Health of a study: curves of one shape collapse and a bent one is named, both noises are recovered."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scaling.analysis.fitting.fit import Loss, fit
from scaling.analysis.health import noise_scale, seed_noise
from scaling.analysis.health.collapse import collapse_section
from scaling.analysis.runs.observations import Observations
from tests.analysis import simulated
from tests.analysis.conformance import analyse
from tests.analysis.simulated import TRUTH

STEPS = 400
RNG = np.random.default_rng
Bend = Callable[[int, np.ndarray[Any, Any]], np.ndarray[Any, Any]]


def best_of_each_budget(observed: Observations) -> list[int]:
    table = observed.table
    return [int(rows["loss"].idxmin()) for _, rows in table.groupby("budget")]


def with_curves(observed: Observations, bend: Bend, *, validations: int = 0) -> Observations:
    """Every run's curve: its own loss above E times one function of the share of the run, bent by (row, share)."""
    table = observed.table
    table = table.assign(**{"recipe.steps": STEPS, "recipe.schedule.kind": "wsd"})
    table = table.assign(**{"recipe.schedule.warmup_steps": 4, "recipe.schedule.cooldown_steps": STEPS // 5})
    x = np.arange(1, STEPS + 1) / STEPS
    frames = []
    for k, run in table.iterrows():
        loss = TRUTH.E + (run["loss"] - TRUTH.E) * x**-0.3 * bend(int(str(k)), x)
        scored = np.full(STEPS, np.nan)
        if validations:
            scored[STEPS // validations - 1 :: STEPS // validations] = 1.5  # of another shape, to be told apart
            scored[-1] = 2.0
        frames.append(
            pd.DataFrame(
                {"run_id": run["run_id"], "step": x * STEPS, "tokens": x * run["tokens"], "flops": x * run["flops"]}
            ).assign(loss=loss, val_loss=scored, lr=np.nan, params=run["params"])
        )
    return replace(observed, table=table, curves=pd.concat(frames, ignore_index=True))


def health(observed: Observations) -> dict[str, Any]:
    return analyse(observed, bootstrap=0, holdout=None)["health"]


def straight(row: int, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.ones_like(x)


# ----------------------------------------------------------------------------------------------- scaling collapse


def test_curves_of_one_shape_collapse(tmp_path: Path) -> None:
    found = health(with_curves(simulated.observe(simulated.table(), tmp_path), straight))["collapse"]
    assert found["holds"]
    assert found["kind"] == "training"
    assert found["floor"]["value"] == pytest.approx(TRUTH.E, rel=1e-3)
    assert found["overall_spread"] < 1e-3
    assert found["seed_noise"] is None
    assert "curves of 4 compute-optimal models collapse" in found["verdict"]
    assert "no repeats" in found["verdict"]
    normalised = np.array(found["runs"]["normalised"])
    means = np.mean((np.arange(1, STEPS + 1) / STEPS).reshape(40, -1) ** -0.3, axis=1)
    np.testing.assert_allclose(normalised[0], means / means[-1], rtol=1e-3)


@pytest.mark.parametrize(("bent", "side"), [(0.3, "above"), (-0.25, "below")])
def test_a_curve_of_another_shape_is_named(tmp_path: Path, bent: float, side: str) -> None:
    observed = simulated.observe(simulated.table(), tmp_path)
    wrong = best_of_each_budget(observed)[1]
    curved = with_curves(observed, lambda row, x: 1 + bent * (1 - x) * (row == wrong))
    found = health(curved)["collapse"]
    assert not found["holds"]
    assert [found["runs"]["run_id"][k] for k in found["departing"]] == [observed.table["run_id"][wrong]]
    assert "do not collapse" in found["verdict"]
    assert f"{observed.table['run_id'][wrong]} (" in found["verdict"]
    assert f"mostly {side}" in found["verdict"]
    others = [k for k in range(4) if k not in found["departing"]]
    assert max(found["runs"]["departure"][k] for k in others) < 1e-3  # the median is not drawn along


@pytest.mark.parametrize("shared", [True, False])
def test_noise_that_a_run_keeps_to_its_end_is_taken_off_and_the_collapse_is_tight(tmp_path: Path, shared: bool) -> None:
    frame = simulated.table(seeds=3, noise_nats=1e-6)  # runs alike to the last digit would count as one
    rng = RNG(0)
    level = 1 + 0.02 * rng.standard_normal(len(frame))

    def bend(row: int, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        # The mean of ten steps is taken, so single steps scatter by root ten more.
        return np.full_like(x, level[row]) if shared else 1 + 0.02 * np.sqrt(10) * rng.standard_normal(len(x))

    found = health(with_curves(simulated.observe(frame, tmp_path), bend))["collapse"]
    assert found["seed_degrees_of_freedom"] == 8
    assert found["overall_seed_noise"] == pytest.approx(0.02, rel=0.4)
    assert found["tight"] == shared
    assert ("supercollapse" in found["verdict"]) == shared


def test_curves_whose_seeds_scatter_more_than_any_shape_are_not_judged(tmp_path: Path) -> None:
    level = np.exp(0.4 * RNG(0).standard_normal(84))
    frame = simulated.table(seeds=3, noise_nats=1e-6)
    curved = with_curves(simulated.observe(frame, tmp_path), lambda row, x: np.full_like(x, level[row]))
    assert "more than 20%" in health(curved)["collapse"]["why"]


def test_a_floor_whose_interval_reaches_the_losses_normalises_nothing(tmp_path: Path) -> None:
    curved = with_curves(simulated.observe(simulated.table(), tmp_path), straight)
    results = analyse(curved, bootstrap=0, holdout=None)
    entry = results["fits"][0]
    wide = entry | {"intervals": {"E": {"low": 1.5, "high": 3.5}}}
    assert "upper end of its interval" in collapse_section(curved, results["isoflop"], [wide])["why"]
    told = entry | {"intervals": {"E": {"low": 1.5, "high": 3.25}}}
    found = collapse_section(curved, results["isoflop"], [told])
    assert max(found["overall_at_floors"]) > found["allowed"] > found["overall_spread"]
    assert "though not for every E in its interval" in found["verdict"]


def test_validation_losses_are_used_where_every_run_has_enough_and_never_mixed(tmp_path: Path) -> None:
    observed = simulated.observe(simulated.table(), tmp_path)
    enough = with_curves(observed, straight, validations=20)
    assert "no less than validation losses" in health(enough)["collapse"]["why"]  # their 1.5 lies below E
    assert enough.curves is not None
    lacking = enough.curves["run_id"] == observed.table["run_id"][best_of_each_budget(observed)[0]]
    mixed = replace(enough, curves=enough.curves.assign(val_loss=enough.curves["val_loss"].where(~lacking)))
    assert health(mixed)["collapse"]["kind"] == "training"


def test_without_curves_budgets_or_a_floor_it_is_said_why(tmp_path: Path) -> None:
    observed = simulated.observe(simulated.table(), tmp_path)
    assert "no training curves" in health(observed)["collapse"]["why"]
    curved = with_curves(observed, straight)
    without = analyse(curved, laws=("kaplan",), bootstrap=0, holdout=None)["health"]["collapse"]
    assert "irreducible loss" in without["why"]
    two = curved.select((observed.table["budget"] < 1e15).to_numpy())
    assert "2 of its budgets" in health(two)["collapse"]["why"]
    edge = with_curves(simulated.observe(simulated.table(shift=30.0), tmp_path), straight)
    assert "0 of its budgets" in health(edge)["collapse"]["why"]
    assert curved.curves is not None
    halves = replace(curved, curves=curved.curves[curved.curves["step"] <= STEPS / 2])
    assert "logged" in health(halves)["collapse"]["why"]  # runs cut short have no end to normalise by


def test_checkpoints_of_one_run_are_no_runs_of_their_own(tmp_path: Path) -> None:
    """The best row of every budget is a checkpoint of one run: five curves would be one curve five times."""
    sizes, tokens = np.geomspace(1e6, 1e8, 5), np.geomspace(1e8, 1e10, 60)
    frame = pd.concat(
        pd.DataFrame({"run_id": f"run{k}", "params": size, "tokens": tokens, "budget": np.geomspace(1, 60, 60)})
        for k, size in enumerate(sizes)
    )
    frame["loss"] = TRUTH(N=frame["params"], D=frame["tokens"]) + 0.3 * np.log(frame["params"] / 1e7) ** 2
    frame = frame.drop_duplicates(["run_id", "budget"])
    observed = simulated.observe(frame, tmp_path, curves=True)
    best = observed.table.loc[best_of_each_budget(observed), "run_id"]
    assert set(best) == {"run2"}
    found = health(observed)["collapse"]
    assert "(distinct runs that end there: 1)" in found["why"]


def test_a_row_before_the_end_of_its_run_is_not_its_end(tmp_path: Path) -> None:
    observed = simulated.observe(simulated.table(), tmp_path)
    longer = with_curves(observed, straight)
    stretched = longer.curves.assign(tokens=longer.curves["tokens"] * 1.1)
    assert "(distinct runs that end there: 0)" in health(replace(longer, curves=stretched))["collapse"]["why"]
    barely = longer.curves.assign(tokens=longer.curves["tokens"] * 1.01)
    assert health(replace(longer, curves=barely))["collapse"]["holds"]


# --------------------------------------------------------------------------------------------------- noise scale


def test_the_ratio_of_averages_lies_in_its_interval_as_often_as_it_says() -> None:
    rng = RNG(0)
    inside = []
    for seed in range(200):
        square, trace = 1e-3 * (1 + rng.standard_normal(30)), 4.0 * rng.gamma(4, 0.25, 30)
        value, low, high = noise_scale.scale_with_interval(square, trace, np.ones(30), seed, 0.95)
        assert low <= value <= high
        inside.append(low <= 4000 <= high)
    assert np.mean(inside) == pytest.approx(0.95, abs=0.05)


def test_a_gradient_that_is_not_told_from_zero_has_no_upper_end() -> None:
    rng = RNG(0)
    square = 1e-4 * rng.standard_normal(12) + 2e-5
    _, low, high = noise_scale.scale_with_interval(square, np.full(12, 4.0), np.ones(12), 0, 0.95)
    assert np.isinf(high)
    assert np.isfinite(low)


def measured(observed: Observations, scale_of: Callable[[int], float]) -> Observations:
    """Curves whose rows hold noise measurements of this scale in the window, and of another outside it."""
    curved = with_curves(observed, straight)
    assert curved.curves is not None
    rows = curved.curves.assign(noise_steps=1.0, grad_square=1e-3 * RNG(0).gamma(16, 1 / 16, len(curved.curves)))
    numbers = rows["run_id"].map({run: k for k, run in enumerate(observed.table["run_id"])})
    inside = (rows["step"] > 0.4 * STEPS) & (rows["step"] <= 0.8 * STEPS)
    scale = np.where(inside, numbers.map(scale_of), 1.0)
    return replace(curved, curves=rows.assign(grad_trace=1e-3 * scale))


def test_runs_below_and_above_the_critical_batch_are_told_with_what_it_costs(tmp_path: Path) -> None:
    observed = simulated.observe(simulated.table(), tmp_path)
    batch = observed.column("tokens") / STEPS
    below = health(measured(observed, lambda k: 10 * batch[k]))["noise_scale"]
    assert set(below["runs"]["side"]) == {"below"}
    assert below["runs"]["extra_tokens"] == pytest.approx([0.1] * 28, rel=0.1)
    assert below["verdict"].startswith("Batches lie below the critical batch (28 below")
    assert "1.10 times the fewest tokens" in below["verdict"]
    above = health(measured(observed, lambda k: batch[k] / 4))["noise_scale"]
    assert above["verdict"].startswith("Batches lie above the critical batch (28 above")
    assert "5.0" in above["verdict"]
    near = health(measured(observed, lambda k: batch[k]))["noise_scale"]
    assert near["runs"]["side"].count("not told") > 20


def test_noise_scales_are_in_tokens_read_where_only_some_are_predicted(tmp_path: Path) -> None:
    observed = simulated.observe(simulated.table(), tmp_path)
    part = replace(observed, table=observed.table.assign(predicted_tokens=observed.table["tokens"] * 0.25))
    whole, quarter = (
        health(measured(one, lambda k: 1000.0))["noise_scale"]["runs"]["value"] for one in (observed, part)
    )
    assert quarter == pytest.approx(4 * np.array(whole))


def test_the_interval_of_a_run_does_not_depend_on_the_runs_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    observed = simulated.observe(simulated.table(), tmp_path)
    whole = measured(observed, lambda k: 1000.0 + k)
    assert whole.curves is not None
    number = whole.curves["run_id"].map({run: k for k, run in enumerate(observed.table["run_id"])})
    whole = replace(whole, curves=whole.curves[(number % 3 > 0) | (whole.curves["step"] % 2 == 0)])  # fewer of a third
    alone = noise_scale.noise_scale_section(whole.select(np.arange(28) % 4 == 0), seed=3, level=0.9)
    monkeypatch.setattr(noise_scale, "AT_ONCE", 5)
    every = noise_scale.noise_scale_section(whole, seed=3, level=0.9)
    assert not alone["why"]
    assert not every["why"]
    assert len(set(every["runs"]["measured_steps"])) == 2
    assert every["runs"]["run_id"] == observed.table["run_id"].tolist()
    for name in ("value", "low", "high"):
        assert alone["runs"][name] == pytest.approx(every["runs"][name][::4], rel=1e-12)


def test_runs_without_or_with_too_few_measurements_are_not_judged(tmp_path: Path) -> None:
    observed = simulated.observe(simulated.table(), tmp_path)
    assert "no training curves" in health(observed)["noise_scale"]["why"]
    assert "no run logged" in health(with_curves(observed, straight))["noise_scale"]["why"]
    few = measured(observed, lambda k: 1000.0)
    assert few.curves is not None
    few = replace(few, curves=few.curves.assign(noise_steps=np.where(few.curves["step"] % 64 == 0, 1.0, np.nan)))
    assert "1,300 steps" in health(few)["noise_scale"]["why"]


# ---------------------------------------------------------------------------------------------------- seed noise


def test_a_known_seed_noise_is_recovered_within_its_interval_as_often_as_it_says(tmp_path: Path) -> None:
    inside, flat = [], []
    for k in range(100):
        observed = simulated.observe(simulated.table(seeds=3, noise_nats=0.01, seed=k), tmp_path)
        noise = seed_noise.measure(observed, 0.95)
        assert noise is not None
        section = seed_noise.seed_noise_section(observed, noise, 0.95)
        assert section["pooled"]["degrees_of_freedom"] == 56
        inside.append(section["pooled"]["low"] <= 0.01 <= section["pooled"]["high"])
        assert noise.trend is not None
        flat.append(not noise.trend.told)
    assert 0.89 <= np.mean(inside) <= 1
    assert 0.89 <= np.mean(flat) <= 1


def uneven(slope: float, seed: int = 0) -> pd.DataFrame:
    """Three seeds of every cell, whose noise is 0.01 nats at 1e6 parameters and goes as N^slope."""
    frame = simulated.table(seeds=3)
    sd = 0.01 * (frame["params"] / 1e6) ** slope
    return frame.assign(loss=frame["loss"] + sd * RNG(seed).standard_normal(len(frame)))


def test_a_trend_with_size_is_told_and_weighs_the_fit_where_asked(tmp_path: Path) -> None:
    observed = simulated.observe(uneven(-1.0), tmp_path)
    noise = seed_noise.measure(observed, 0.95)
    assert noise is not None
    assert noise.trend is not None
    assert noise.trend.low < -1 < noise.trend.high < 0
    weighted, errors, said = seed_noise.apply_errors(observed, "seeds", noise)
    params, weight = weighted.column("params"), weighted.column("weight")
    assert weight.mean() == pytest.approx(1)
    assert np.polyfit(np.log(params), np.log(weight), 1)[0] == pytest.approx(-2 * noise.trend.slope)
    assert "sd ~ N^-" in said
    assert errors == "seeds"
    given, *_ = seed_noise.apply_errors(observed, "given", noise)
    assert given is observed


def test_the_trends_line_is_the_seeds_scatter_at_its_ends(tmp_path: Path) -> None:
    observed = simulated.observe(uneven(-1.0), tmp_path)
    line = seed_noise.seed_noise_section(observed, seed_noise.measure(observed, 0.95), 0.95)["trend"]["line"]
    sizes = np.array(line["params"])
    assert [sizes.min(), sizes.max()] == pytest.approx(
        [observed.column("params").min(), observed.column("params").max()]
    )
    assert line["sd_nats"] == pytest.approx(0.01 * 1e6 / sizes, rel=0.5)  # as simulated


def test_weighing_by_seed_noise_draws_the_fit_nearer_to_the_truth(tmp_path: Path) -> None:
    off: dict[str, list[float]] = {"given": [], "seeds": []}
    for k in range(12):
        observed = simulated.observe(uneven(-1.0, seed=k), tmp_path)
        noise = seed_noise.measure(observed, 0.95)
        for errors in off:
            data, *_ = seed_noise.apply_errors(observed, errors, noise)
            x = data.variables(("N", "D"))
            law = fit("chinchilla", x, data.column("loss"), loss=Loss("mse"), weights=data.column("weight")).law
            off[errors].append(float(law.params["E"]) - TRUTH.E)
    assert np.std(off["seeds"]) < 0.7 * np.std(off["given"])


def test_a_report_says_which_errors_its_fits_used(tmp_path: Path) -> None:
    from scaling.analysis.report import fit_tables, prose

    observed = simulated.observe(uneven(-1.0), tmp_path)
    for errors, said in (("given", "weighed equally"), ("seeds", "by 1 / sd^2 of the measured seed noise")):
        results = analyse(observed, bootstrap=0, holdout=None, errors=errors)
        health_words = next(one for one in prose.sections(results) if one.id == "health").words
        assert said in health_words[0]
        assert (said in fit_tables.parameters(results)[0].note) == (errors == "seeds")
        assert (said in " ".join(results["notes"])) == (errors == "seeds")
    with pytest.raises(ValueError, match="unknown errors 'noise': choose from given, seeds"):
        analyse(observed, errors="noise")


def test_without_repeats_the_command_that_measures_it_is_named(tmp_path: Path) -> None:
    observed = simulated.observe(simulated.table(noise_nats=0.01), tmp_path)
    assert "seed=0,1,2" in health(observed)["seed_noise"]["why"]
    with pytest.raises(ValueError, match="seed=0,1,2"):
        analyse(observed, errors="seeds")


def test_runs_that_differ_in_a_setting_are_no_repeats(tmp_path: Path) -> None:
    observed = simulated.observe(simulated.table(seeds=2, noise_nats=0.01), tmp_path)
    rates = np.tile([1e-3, 2e-3], 28)
    assert seed_noise.measure(observed, 0.95) is not None
    tuned = replace(observed, table=observed.table.assign(**{"recipe.optimizer.learning_rate": rates}))
    assert seed_noise.measure(tuned, 0.95) is None
    assert analyse(tuned, bootstrap=10, holdout=None)["isoflop"]["noise"]["method"] != "seeds"
    assert analyse(observed, bootstrap=10, holdout=None)["isoflop"]["noise"]["method"] == "seeds"
