"""Roll-outs: fitted below a cut, scored beyond it; the table, AICc and the calibration that follow."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scaling.analysis.fitting.bootstrap import bootstrap
from scaling.analysis.fitting.fit import Loss, fit
from scaling.analysis.judgement.holdout import (
    Z_LEVEL,
    MeasuredOptimum,
    Score,
    aicc,
    calibrate,
    compare,
    noise_sd,
    roll_out,
    rungs,
)
from scaling.analysis.laws import LAWS
from scaling.analysis.laws.cost import Cost
from scaling.analysis.runs.observations import Observations
from tests.analysis.simulated import TRUTH, observe, table

BOTH = {name: (LAWS[name], ("N", "D")) for name in ("kaplan", "chinchilla")}


def study(folder: Path, seed: int = 0) -> Observations:
    frame = table(budgets=np.geomspace(1e14, 1e16, 5).tolist(), noise_nats=0.01, seed=seed)
    return observe(frame, folder)


def score(z: float, *, horizon: float = 1.0, quantity: str = "loss") -> Score:
    return Score("chinchilla", quantity, 1e14, 1e15, 10, 1, horizon, z, abs(z), 0, np.array([z]), np.array([z]))


def test_no_law_sees_a_run_beyond_its_cut(tmp_path: Path) -> None:
    observations = study(tmp_path)
    before, _ = roll_out(observations, BOTH, loss=Loss(), seed=0, resamples=10)
    spoiled = observations.table.copy()
    top = spoiled["flops"] > 5e15
    spoiled.loc[top, "loss"] += 1.0
    after, _ = roll_out(Observations(spoiled, (), (), {}, ("x",)), BOTH, loss=Loss(), seed=0, resamples=10)
    assert len(before) == len(after)
    for one, two in zip(before, after, strict=True):
        assert one.tested_at_flops > one.trained_to_flops
        assert one.trained_to_flops < 5e15
        if one.tested_at_flops < 5e15:
            assert one.error == pytest.approx(two.error)
        else:
            assert (two.error > one.error + 0.1).all()


def test_every_cut_predicts_every_larger_budget(tmp_path: Path) -> None:
    scores, unscored = roll_out(study(tmp_path), BOTH, loss=Loss(), seed=0, resamples=10)
    assert unscored == []
    pairs = {(s.trained_to_flops, s.tested_at_flops) for s in scores if s.law == "chinchilla"}
    assert len(pairs) == 3 + 2 + 1
    assert max(s.horizon_decades for s in scores) == pytest.approx(1.5, abs=0.01)


@pytest.mark.long
def test_the_law_that_made_the_data_predicts_best(tmp_path: Path) -> None:
    observations = study(tmp_path)
    scores, _ = roll_out(observations, BOTH, loss=Loss(), seed=0, resamples=60)
    fits = {
        name: fit(law, observations.variables(names), observations.column("loss"))
        for name, (law, names) in BOTH.items()
    }
    rows = compare(scores, fits)
    assert [row["law"] for row in rows] == ["chinchilla", "kaplan"]
    assert rows[0]["delta_aicc"] == 0
    assert rows[1]["delta_aicc"] > 10
    assert rows[0]["rmse"] < rows[1]["rmse"]
    assert rows[0]["predictions"] == 7 * 6


def test_intervals_of_the_true_law_cover_its_hold_outs(tmp_path: Path) -> None:
    covered = total = 0
    for seed in range(12):
        only = {"chinchilla": BOTH["chinchilla"]}
        scores, _ = roll_out(study(tmp_path, seed), only, loss=Loss("mse"), seed=seed, resamples=60)
        for one in scores:
            covered, total = covered + one.covered, total + one.n_tested
    assert 0.85 <= covered / total <= 1.0


def test_rungs_follow_the_budgets(tmp_path: Path) -> None:
    observations = study(tmp_path)
    label = rungs(observations)
    assert label.tolist() == np.repeat(np.arange(5), 7).tolist()


def test_many_budgets_are_held_out_in_eight_rungs_of_whole_budgets(tmp_path: Path) -> None:
    frame = table(budgets=np.geomspace(1e14, 1e17, 13).tolist(), spreads=(0.5, 1.0, 2.0))
    by_budget = rungs(observe(frame, tmp_path)).reshape(13, 3)
    assert (by_budget == by_budget[:, :1]).all()
    assert np.unique(by_budget).tolist() == list(range(8))


def test_without_budgets_rungs_are_quantiles_of_compute(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = table(budgets=10 ** rng.uniform(14, 17, 60), spreads=(1.0,)).drop(columns="budget")
    label = rungs(observe(frame, tmp_path))
    counts = np.bincount(label)
    assert len(counts) == 8
    assert counts.min() >= 6


def test_a_law_that_cannot_be_fitted_below_a_cut_is_recorded(tmp_path: Path) -> None:
    frame = table(budgets=(1e14, 1e15, 1e16), spreads=(0.5, 2.0))
    scores, unscored = roll_out(observe(frame, tmp_path), BOTH, loss=Loss(), seed=0, resamples=5)
    assert {one.law for one in unscored} >= {"chinchilla"}
    assert all(one.why for one in unscored)
    assert all(one.law != "chinchilla" or one.trained_to_flops > 1e14 for one in scores)


def test_an_optimum_is_judged_by_its_own_noise_and_the_resamples_spread_together(tmp_path: Path) -> None:
    observations = observe(table(budgets=(1e14, 1e15, 1e16), noise_nats=0.01), tmp_path)
    beyond = [MeasuredOptimum(1e16, np.log(float(TRUTH.optimum(1e16).N)) + 0.1, sd, Cost()) for sd in (0.0, 0.2, 3.0)]
    only, squares = {"chinchilla": BOTH["chinchilla"]}, Loss("mse")
    scores, _ = roll_out(observations, only, loss=squares, seed=0, resamples=30, optima=beyond)
    sd = [abs(float(score.error[0] / score.z[0])) for score in scores if score.quantity == "params"]
    below = observations.select(observations.column("flops") < 5e15)
    x, y = below.variables(("N", "D")), below.column("loss")
    draws = bootstrap(fit(LAWS["chinchilla"], x, y, loss=squares), x, y, below.clusters, n=30, seed=0).law
    assert draws is not None
    low, high = np.quantile(np.log(draws.optimum(1e16).N), [0.15865, 0.84135])
    assert sd == pytest.approx([np.hypot((high - low) / 2, own) for own in (0.0, 0.2, 3.0)], rel=1e-6)


def test_aicc_is_the_textbook_formula_for_squares(tmp_path: Path) -> None:
    observations = study(tmp_path)
    fitted = fit(LAWS["chinchilla"], observations.variables(("N", "D")), observations.column("loss"), loss=Loss("mse"))
    n, k = 35, 6
    expected = n * np.log((fitted.residuals**2).mean()) + 2 * k + 2 * k * (k + 1) / (n - k - 1)
    assert aicc(fitted) == pytest.approx(expected)
    assert noise_sd(fitted) == pytest.approx(np.sqrt((fitted.residuals**2).sum() / 30))


def test_a_law_without_resamples_or_without_a_score_has_no_coverage(tmp_path: Path) -> None:
    observations = study(tmp_path)
    fits = {
        name: fit(law, observations.variables(names), observations.column("loss"), loss=Loss("mse"))
        for name, (law, names) in BOTH.items()
    }
    one = score(1.0)
    scored, unscored = compare([replace(one, z=np.array([np.nan]))], fits)
    assert (scored["law"], scored["predictions"], scored["coverage"]) == ("chinchilla", 1, None)
    assert (unscored["law"], unscored["predictions"], unscored["coverage"]) == ("kaplan", 0, None)
    assert compare([one, replace(one, tested_at_flops=2e15, covered=1)], fits)[0]["coverage"] == 0.5


def test_calibration_widens_to_the_conformal_quantile_and_never_narrows() -> None:
    wide = calibrate([score(z) for z in np.linspace(-3, 4, 15)], "chinchilla", "loss")
    assert wide["factor"] == pytest.approx(4 / Z_LEVEL)
    assert "all of 15" in wide["words"]
    many = calibrate([score(z) for z in np.linspace(0, 4, 100)], "chinchilla", "loss")
    assert many["factor"] == pytest.approx(np.linspace(0, 4, 100)[95] / Z_LEVEL)
    assert "95% of 100" in many["words"]
    assert calibrate([score(0.1)], "chinchilla", "loss")["factor"] == 1.0


def test_calibration_reaches_as_far_as_its_longest_roll_out() -> None:
    found = calibrate([score(1, horizon=0.5), score(1, horizon=1.25)], "chinchilla", "loss")
    assert found["reach_decades"] == 1.25
    assert calibrate([], "chinchilla", "loss")["factor"] is None
    assert calibrate([score(1, quantity="params")], "chinchilla", "loss")["rungs"] == 0
