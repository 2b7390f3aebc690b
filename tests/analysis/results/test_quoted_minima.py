"""The minima quoted: their agreement with published exponents, their error on simulated grids, and their warnings."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scaling.analysis.isoflop.curve_models import parabola
from scaling.analysis.isoflop.local_sizes import near
from scaling.analysis.isoflop.minima import measure, measure_budgets
from scaling.analysis.judgement.spread import Form
from scaling.analysis.laws import LAWS
from scaling.analysis.laws.law import Law
from scaling.analysis.results.isoflop import isoflop_section
from scaling.analysis.results.quoted_minima import disagreement
from scaling.analysis.runs.budgets import group_budgets
from scaling.analysis.schema.isoflop import ASKABLE, CurveModel
from scaling.analysis.words import count, flops_text
from tests.analysis.simulated import BUDGETS, TRUTH, observe, table
from tests.published import PORIAN, needs_published

EXPONENTS = {  # Porian et al. 2024: exponent of N* and its 95% interval
    "rw/tuned/short/const/standard/val": (0.497, 0.491, 0.505),
    "rw/base/long/kaplan/standard/val": (0.706, 0.691, 0.717),
    "owt2/base/short/chinchilla/standard/val": (0.574, 0.542, 0.606),
    "rw/base/short/kaplan/attention/train": (0.622, 0.607, 0.632),
}
GRID = np.geomspace(1e14, 1e18, 5)
GAMMA = LAWS["gamma"](E=1.9, A=900.0, B=9000.0, alpha=0.5, beta=0.52, gamma=0.7)


@needs_published
@pytest.mark.parametrize("series", EXPONENTS)
def test_published_exponents_are_met_with_intervals_or_without(series: str, tmp_path: Path) -> None:
    value, low, high = EXPONENTS[series]
    frame = pd.read_csv(PORIAN).query("series == @series").drop(columns="series")
    observations, found = observe(frame, tmp_path), []
    for draws in (0, 40):
        section = isoflop_section(measure(observations, draws=draws, seed=0), None, GRID)
        found.append(section["laws"][section["used"]]["params"]["exponent"])
    assert found[1] == pytest.approx(found[0], rel=1e-9)
    assert low <= found[0] <= high
    assert abs(found[0] - value) <= 0.02
    assert section["noise"]["loss_sd_nats"] < 0.03


@pytest.mark.long
@pytest.mark.parametrize("truth", [TRUTH, GAMMA], ids=["chinchilla", "gamma"])
@pytest.mark.parametrize("sizes", [5, 9])
def test_minima_of_noisy_grids_are_as_near_as_a_parabolas_and_covered(truth: Law, sizes: int, tmp_path: Path) -> None:
    frame = table(truth=truth, spreads=np.geomspace(0.25, 4, sizes).tolist())  # type: ignore[arg-type]
    budgets, _ = group_budgets(observe(frame, tmp_path))
    rng, off, usual, covered = np.random.default_rng(0), [], [], []
    best = np.array([np.log(truth.optimum(budget.flops).N) for budget in budgets])
    for k in range(60):
        noisy = tuple(replace(b, loss=b.loss + 0.01 * rng.standard_normal(sizes)) for b in budgets)
        study = measure_budgets(noisy, draws=200, seed=k)
        drawn = np.array([minima[study.quoted].log_params for minima in study.minima])
        low, high = np.nanquantile(drawn[:, 1:], [0.025, 0.975], axis=1)
        off.append(drawn[:, 0] - best)
        usual.append([parabola(b.log_params, b.loss[:, None], b.weights).log_params[0] for b in noisy] - best)
        covered.append((low <= best) & (best <= high))
    assert np.sqrt(np.mean(np.square(off))) <= 1.05 * np.sqrt(np.mean(np.square(usual)))
    assert 0.90 <= np.mean(covered) <= 0.99


def test_one_curve_model_can_be_asked_for(tmp_path: Path) -> None:
    study = measure(observe(table(noise_nats=0.003), tmp_path), draws=20, seed=0)
    for name in ASKABLE[:3]:
        section = isoflop_section(study, None, GRID, name)
        assert section["used"] == name
        assert "as asked for" in section["why"]
    with pytest.raises(ValueError, match="--minimum surface needs a fitted law"):
        isoflop_section(study, None, GRID, "surface")
    assert isoflop_section(study, Form("chinchilla", TRUTH, None), GRID, "surface")["used"] == "surface"


def test_curves_that_disagree_beyond_their_intervals_are_named(tmp_path: Path) -> None:
    frame = table(spreads=np.geomspace(0.6, 90, 12).tolist(), budgets=BUDGETS, noise_nats=1e-4, seeds=2)
    study = measure(observe(frame, tmp_path), draws=100, seed=0)
    assert study.quoted == "mean"
    said = isoflop_section(study, None, GRID)["disagreement"]
    assert said.startswith("IsoFLOP minima depend on the curve beyond their intervals: log means of")
    assert "parabolas put N*" in said
    calm = measure(observe(table(noise_nats=0.01), tmp_path), draws=100, seed=0)
    assert isoflop_section(calm, None, GRID)["disagreement"] == ""


def test_a_spline_through_few_sizes_contradicts_nothing(tmp_path: Path) -> None:
    frame = table(spreads=(0.25, 0.5, 1, 2, 4), noise_nats=0.003, seeds=2)
    study = measure(observe(frame, tmp_path), draws=100, seed=0)
    section = isoflop_section(study, None, GRID)
    assert study.quoted == "parabola"
    budget = section["budgets"][-1]
    far = 2 * (budget["estimates"]["parabola"]["params"]["high"] or 0.0)
    held_against: tuple[tuple[CurveModel, bool], ...] = (("akima", False), ("mean", True))
    for name, named in held_against:
        moved = copy.deepcopy(section)
        moved["budgets"][-1]["estimates"][name]["params"].update(low=far, high=2 * far)
        said = disagreement("parabola", moved["budgets"], moved["laws"])
        assert (said != "") == named, name
    assert f"put N* at {flops_text(budget['budget_flops'])} at {count(far)} to" in said


def test_below_six_sizes_the_cubic_is_a_parabola_of_the_nearest(tmp_path: Path) -> None:
    study = measure(observe(table(spreads=(0.25, 0.5, 1, 2, 4)), tmp_path), draws=0, seed=0)
    for budget, minima in zip(study.budgets, study.minima, strict=True):
        part = near(budget)
        own = parabola(part.log_params, part.loss[:, None], part.weights)
        assert minima["cubic"].log_params[0] == own.log_params[0]
