"""Forecasters: the near set recovers truths of several forms, members fall out by name, and errors grow as stated."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scaling.analysis.fitting.fit import Loss
from scaling.analysis.isoflop.minima import IsoFlop, measure
from scaling.analysis.judgement.forecasters import NEAR, Ensemble, Minimum, OfSurface, near_set, trusted_minima
from scaling.analysis.judgement.growth import ENSEMBLE, PRIOR, PRIOR_CUTS, Growth, Trial, growth, rms, roll_out
from scaling.analysis.laws.law import Law
from scaling.analysis.laws.size_and_data import Chinchilla, Gamma, PowerMean
from scaling.analysis.runs.observations import Observations
from tests.analysis.simulated import observe

BUDGETS = (3.16e10, 1e11, 3.16e11, 1e12)
TRUTHS: tuple[Law, ...] = (
    Chinchilla(E=0.86, A=20.0, B=60.0, alpha=0.30, beta=0.33),
    Gamma(E=0.5, A=1e3, B=3e4, alpha=0.75, beta=0.75, gamma=0.288),
    PowerMean(E=0.9, A=20.0, B=60.0, alpha=0.28, beta=0.3, q=1.6),
)


def grid(truth: Law, budgets: tuple[float, ...] = BUDGETS, noise: float = 0.0) -> pd.DataFrame:
    """Five sizes a budget from a quarter to four times its optimum, two seeds each with log noise."""
    rng = np.random.default_rng(0)
    rows = []
    for flops in budgets:
        for factor in (0.25, 0.5, 1.0, 2.0, 4.0):
            size = float(truth.optimum(flops).N) * factor
            tokens = flops / 6 / size
            for _ in range(2):
                loss = float(truth(N=size, D=tokens)) * np.exp(noise * rng.standard_normal())
                rows.append((size, tokens, flops, loss, flops))
    return pd.DataFrame(rows, columns=["params", "tokens", "flops", "loss", "budget"])


def minima_of(observations: Observations) -> list[Minimum]:
    return trusted_minima(measure(observations, draws=0, seed=0))


def mean_at(ensemble: Ensemble, flops: float) -> Any:
    return np.mean(list(ensemble.log_optima(flops).values()), axis=0)


@pytest.mark.parametrize("truth", TRUTHS, ids=lambda law: law.name)
def test_the_log_mean_finds_the_optimum_a_decade_beyond_whatever_the_form(truth: Law, tmp_path: Path) -> None:
    observed = observe(grid(truth), tmp_path)
    ensemble = near_set(observed, minima_of(observed), Loss())
    assert len(ensemble.members) == 4
    best, found = truth.optimum(1e13), mean_at(ensemble, 1e13)
    assert found[1] == pytest.approx(np.log(float(best.loss)), abs=0.013)
    assert found[0] == pytest.approx(np.log(float(best.N)), abs=0.20)


def test_surfaces_see_only_the_runs_near_their_budgets_minimum(tmp_path: Path) -> None:
    frame = grid(TRUTHS[0])
    observed = observe(frame, tmp_path)
    minima = minima_of(observed)
    before = near_set(observed, minima, Loss()).surfaces[0].law
    sizes = observed.column("params")
    near = np.concatenate([one.near for one in minima])
    assert 0 < len(near) < len(sizes)
    for one in minima:
        assert (np.abs(np.log(sizes[one.near]) - one.log_params) <= NEAR).all()
    observed.table.loc[np.setdiff1d(np.arange(len(sizes)), near), "loss"] *= 3.0
    assert near_set(observed, minima, Loss()).surfaces[0].law == before


def test_a_member_that_cannot_be_had_falls_out_by_name(tmp_path: Path) -> None:
    observed = observe(grid(TRUTHS[0]), tmp_path)
    minima = minima_of(observed)
    two = near_set(observed, minima[:2], Loss())
    assert "isoFLOP power laws over a floor" in two.absent
    assert "3 budgets" in two.absent["isoFLOP power laws over a floor"]
    assert [one.name for one in two.members][-1] == "isoFLOP power laws"
    none = near_set(observed, minima[:1], Loss())
    assert none.members == ()
    assert len(none.absent) == 4


def test_a_surface_without_an_optimum_is_left_out_of_the_mean() -> None:
    flat = OfSurface("flat", Chinchilla(E=1.0, A=0.0, B=60.0, alpha=0.3, beta=0.3), TRUTHS[0].cost)
    fine = OfSurface("fine", TRUTHS[0], TRUTHS[0].cost)
    assert list(Ensemble((flat, fine), {}).log_optima(1e13)) == ["fine"]


def test_roll_outs_fit_the_smaller_budgets_and_score_every_larger(tmp_path: Path) -> None:
    observed = observe(grid(TRUTHS[0]), tmp_path)
    minima = minima_of(observed)
    trials = roll_out(observed, measure(observed, draws=0, seed=0), Loss())
    mine = [one for one in trials if one.forecaster == ENSEMBLE]
    asked = [(round(np.log10(one.trained_to_flops), 1), round(np.log10(one.tested_at_flops), 1)) for one in mine]
    assert asked == [(11.0, 11.5), (11.0, 12.0), (11.5, 12.0)]
    members = [one for one in trials if one.trained_to_flops == mine[-1].trained_to_flops and one is not mine[-1]]
    assert len(members) == 4
    assert mine[-1].loss == pytest.approx(np.mean([one.loss for one in members]))
    assert mine[-1].params == pytest.approx(np.mean([one.params for one in members]))
    below = near_set(observed, minima[:3], Loss())
    measured = minima[3]
    assert mine[-1].loss == pytest.approx(np.log(measured.loss) - mean_at(below, measured.budget.flops)[1])


def test_budgets_beyond_a_cut_decide_nothing_about_the_fits_below(tmp_path: Path) -> None:
    frame = grid(TRUTHS[0], noise=0.002)
    before, trials = rolled(frame, tmp_path)
    largest = frame["flops"] == frame["flops"].max()
    frame.loc[largest & (frame["params"] == frame["params"][largest].min()), "loss"] *= 1.3
    after, bent = rolled(frame, tmp_path)
    assert (before.quoted, after.quoted) == ("parabola", "mean")  # parabolas through all sizes miss the one alone
    assert trials[0].forecaster == bent[0].forecaster == "chinchilla near the minima"
    known = trusted_minima(before)[2], trusted_minima(after)[2]  # predicted by the first cut
    assert [one.budget.flops for one in known] == pytest.approx([trials[0].tested_at_flops] * 2)
    predicted = [one.log_params - trial.params for one, trial in zip(known, (trials[0], bent[0]), strict=True)]
    assert predicted[0] == predicted[1]


def rolled(frame: pd.DataFrame, folder: Path) -> tuple[IsoFlop, list[Trial]]:
    observed = observe(frame, folder)
    study = measure(observed, draws=0, seed=0)
    return study, roll_out(observed, study, Loss())


def test_errors_grow_by_the_cuts_of_this_study_and_of_others() -> None:
    def trial(trained: float, tested: float, loss: float) -> Trial:
        return Trial(ENSEMBLE, trained, tested, 0.0, loss)

    assert growth([], "loss") == Growth(PRIOR["loss"], PRIOR_CUTS)
    one = growth([trial(1e10, 1e11, 0.08), trial(1e10, 1e12, 0.16)], "loss")  # budgets of one cut count once
    assert one.degrees_of_freedom == PRIOR_CUTS + 1
    assert one.sd_per_decade == pytest.approx(np.sqrt((PRIOR_CUTS * PRIOR["loss"] ** 2 + 0.08**2) / (PRIOR_CUTS + 1)))
    assert growth([Trial("gamma near the minima", 1e10, 1e11, 9.0, 9.0)], "loss") == growth([], "loss")
    assert rms([trial(1e10, 1e11, 0.3), trial(1e10, 1e12, 0.4)], ENSEMBLE, "loss") == pytest.approx(0.125**0.5)
    assert rms([], ENSEMBLE, "loss") is None


def test_intervals_widen_with_the_distance_and_keep_a_width_inside_the_data() -> None:
    grown = Growth(0.02, 6)
    assert grown.half_width(1.0, 0.95) == pytest.approx(2.4469 * 0.02, rel=1e-4)  # Student's, not the normal's
    assert grown.half_width(2.0, 0.95) == pytest.approx(2 * grown.half_width(1.0, 0.95))
    assert grown.half_width(0.0, 0.95) == pytest.approx(grown.half_width(0.25, 0.95))
