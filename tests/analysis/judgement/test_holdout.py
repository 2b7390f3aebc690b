"""Roll-outs: fitted below a cut, scored beyond it; the table, AICc and the calibration that follow."""

from pathlib import Path

import numpy as np
import pytest

from analysis.fitting.fit import Loss, fit
from analysis.judgement.holdout import Z_LEVEL, Score, aicc, calibrate, compare, noise_sd, roll_out, rungs
from analysis.laws import LAWS
from analysis.runs.observations import Observations
from tests.analysis.simulated import observe, table

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


def test_aicc_is_the_textbook_formula_for_squares(tmp_path: Path) -> None:
    observations = study(tmp_path)
    fitted = fit(LAWS["chinchilla"], observations.variables(("N", "D")), observations.column("loss"), loss=Loss("mse"))
    n, k = 35, 6
    expected = n * np.log((fitted.residuals**2).mean()) + 2 * k + 2 * k * (k + 1) / (n - k - 1)
    assert aicc(fitted) == pytest.approx(expected)
    assert noise_sd(fitted) == pytest.approx(np.sqrt((fitted.residuals**2).sum() / 30))


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
