"""IsoFLOP optima: budgets, curve models, their known bias, the noise model's intervals, the laws through
the minima.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import Akima1DInterpolator

from scaling.analysis.isoflop.curve_models import akima, cubic, mean, parabola
from scaling.analysis.isoflop.minima import Noise, draw_losses, edge, measure, vertex_variance
from scaling.analysis.isoflop.power_law import floored_power_law, power_law
from scaling.analysis.judgement.spread import Form
from scaling.analysis.laws.size_and_data import Chinchilla
from scaling.analysis.results.isoflop import isoflop_section, laws_of
from scaling.analysis.runs.budgets import group_budgets
from scaling.analysis.runs.observations import Observations
from tests.analysis.simulated import BUDGETS, TRUTH, observe, table

HOFFMANN = Chinchilla(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)  # Hoffmann et al. 2022, approach 3
GRID = np.geomspace(1e14, 1e18, 5)
CURVES = {"parabola": parabola, "cubic": cubic, "akima": akima}


def exponent(observations: Observations, *, draws: int = 400, seed: int = 0) -> dict[str, Any]:
    """The law of optimal params against compute through the parabolas' minima."""
    section = isoflop_section(measure(observations, draws=draws, seed=seed), None, GRID)
    law: dict[str, Any] = section["laws"]["parabola"]["params"]
    return law


@pytest.mark.parametrize(("width", "bias"), [(2, -0.0033), (4, -0.0130), (8, -0.0290), (16, -0.0510)])
def test_the_parabolas_known_bias_in_tokens_at_1e24_is_reproduced(width: float, bias: float, tmp_path: Path) -> None:
    spreads = np.logspace(-1, 1, 15, base=width)
    frame = table(budgets=np.logspace(17, 21, 5).tolist(), spreads=spreads.tolist(), truth=HOFFMANN)
    budgets, _ = group_budgets(observe(frame, tmp_path))
    vertices = np.array([parabola(b.log_params, b.loss[:, None], b.weights).log_params[0] for b in budgets])
    tokens = np.array([b.tokens_at(vertex) for b, vertex in zip(budgets, vertices, strict=True)])
    (exponent,), (coefficient,) = power_law(np.array([b.flops for b in budgets]), tokens[:, None])
    predicted = coefficient * 1e24**exponent
    assert predicted / float(HOFFMANN.optimum(1e24).D) - 1 == pytest.approx(bias, abs=5e-5)


def test_on_wide_grids_the_cubic_is_less_biased_than_the_parabola(tmp_path: Path) -> None:
    frame = table(spreads=np.logspace(-1, 1, 15, base=16).tolist())
    study = measure(observe(frame, tmp_path), draws=0, seed=0)
    for budget in study.budgets:
        truth = np.log(TRUTH.optimum(budget.flops).N)
        found = {name: find(budget.log_params, budget.loss[:, None], budget.weights) for name, find in CURVES.items()}
        off = {name: abs(float(one.log_params[0] - truth)) for name, one in found.items()}
        assert off["cubic"] < 0.5 * off["parabola"]
        assert off["akima"] < 0.5 * off["parabola"]


def test_all_curve_models_find_the_minimum_of_a_parabola() -> None:
    x = np.linspace(10, 14, 9)
    losses = (3 + 0.2 * (x - 12.1) ** 2)[:, None]
    for name, find in CURVES.items():
        found = find(x, losses, np.ones(9))
        assert found.log_params[0] == pytest.approx(12.1, abs=0.03 if name == "akima" else 1e-9), name
        assert found.curve(np.array([11.0]))[0] == pytest.approx(3.242, abs=1e-3), name


def test_the_minimum_of_a_cubic_is_its_exact_local_minimum() -> None:
    x = np.linspace(-1, 2, 9)
    found = cubic(x, (x**3 - x)[:, None], np.ones(9))
    assert found.log_params[0] == pytest.approx(3**-0.5, abs=1e-9)
    assert found.loss[0] == pytest.approx(-2 / 3**1.5, abs=1e-9)


def test_the_minimum_of_an_akima_spline_is_its_lowest_point_through_the_means_of_each_size() -> None:
    rng = np.random.default_rng(0)
    x = np.linspace(0, 4, 9)
    y = (x - 1.9) ** 2 + 0.05 * rng.normal(size=9)
    spline = Akima1DInterpolator(x, y)(at := np.linspace(0, 4, 4001))
    found = akima(np.repeat(x, 2), np.repeat(y, 2)[:, None] + np.tile([0.3, -0.3], 9)[:, None], np.ones(18))
    assert found.log_params[0] == pytest.approx(at[spline.argmin()], abs=0.006)
    assert found.loss[0] == pytest.approx(spline.min(), abs=1e-4)


def test_the_mean_of_curves_is_over_those_that_have_a_minimum_in_the_draw() -> None:
    x = np.linspace(-2, 2, 9)
    losses = np.stack([x**2 + 0.1 * x**3, x**2 + 0.1 * x**3, -x], axis=1)
    one, other = parabola(x, losses, np.ones(9)), cubic(x, losses, np.ones(9))
    one.log_params[1] = np.nan
    found = mean([one, other])
    assert found.log_params[0] == pytest.approx((one.log_params[0] + other.log_params[0]) / 2)
    assert found.log_params[1] == other.log_params[1]
    assert np.isnan(found.log_params[2])


def test_a_curve_without_a_minimum_has_none() -> None:
    x = np.linspace(0, 4, 9)
    falling = (5 - x)[:, None]
    assert np.isnan(cubic(x, falling - 0.001 * x[:, None] ** 2, np.ones(9)).log_params[0])
    assert np.isnan(parabola(x, falling - 0.1 * x[:, None] ** 2, np.ones(9)).log_params[0])
    assert np.isnan(CURVES["akima"](x, falling, np.ones(9)).log_params[0])


def test_budgets_are_clustered_by_tolerance_not_by_equality(tmp_path: Path) -> None:
    frame = table().drop(columns="budget")
    jitter = np.random.default_rng(0).uniform(0.99, 1.01, len(frame))
    frame["flops"] *= jitter
    budgets, outside = group_budgets(observe(frame, tmp_path))
    assert outside == 0
    assert [len(budget.rows) for budget in budgets] == [7] * 4
    assert [budget.flops for budget in budgets] == pytest.approx(BUDGETS, rel=0.01)


def test_a_named_budget_holds_its_runs_whatever_they_spent(tmp_path: Path) -> None:
    frame = table()
    frame["flops"] *= np.linspace(0.7, 1.4, len(frame))
    budgets, outside = group_budgets(observe(frame, tmp_path))
    assert outside == 0
    assert [len(budget.rows) for budget in budgets] == [7] * 4


def test_stray_runs_are_in_no_budget_and_counted(tmp_path: Path) -> None:
    stray = pd.DataFrame({"params": [3e5, 4e5], "tokens": [5e7, 1e8], "flops": [9e13 * 2, 6e14], "loss": [4.6, 4.2]})
    frame = pd.concat([table().drop(columns="budget"), stray])
    assert measure(observe(frame, tmp_path), draws=0, seed=0).outside == 2


def test_without_budgets_there_is_no_isoflop(tmp_path: Path) -> None:
    frame = pd.DataFrame({"params": np.geomspace(1e6, 1e9, 9), "tokens": 1e10, "loss": np.linspace(4, 3, 9)})
    with pytest.raises(ValueError, match="no compute budget has 4 or more model sizes within ±8%"):
        measure(observe(frame, tmp_path), draws=0, seed=0)


@pytest.mark.parametrize(("shift", "end", "remedy"), [(8.0, "smallest", "smaller"), (0.125, "largest", "larger")])
def test_a_minimum_on_the_grids_edge_is_said_with_the_remedy(
    tmp_path: Path, shift: float, end: str, remedy: str
) -> None:
    study = measure(observe(table(shift=shift), tmp_path), draws=50, seed=0)
    for budget, minima in zip(study.budgets, study.minima, strict=True):
        said = edge(budget, minima["parabola"])
        assert f"on the grid's edge: the {end} model" in said
        assert f"try {remedy} ones" in said
    law = laws_of("parabola", study, _budget_sections(study), None, GRID)["params"]
    assert law["exponent"] is None
    assert law["why"] == "0 of 4 budgets have a trusted minimum; a law in compute needs two"


def _budget_sections(study: Any) -> Sequence[dict[str, Any]]:
    sections: Sequence[dict[str, Any]] = isoflop_section(study, None, GRID)["budgets"]
    return sections


@pytest.mark.long
@pytest.mark.parametrize(
    ("spreads", "seeds", "method"),
    [
        ((0.25, 0.5, 1, 2, 4), 1, "parametric"),
        (np.geomspace(0.25, 4, 12), 1, "wild"),
        ((0.25, 0.5, 1, 2, 4), 2, "seeds"),
        ((0.25, 0.5, 1, 2, 4), 3, "seeds"),
    ],
)
def test_the_exponents_interval_covers_in_small_samples(
    tmp_path: Path, spreads: Sequence[float], seeds: int, method: str
) -> None:
    truth = float(TRUTH.derived["a"])
    covered = 0
    studies = 80
    for k in range(studies):
        frame = table(budgets=BUDGETS[:3], spreads=list(spreads), seeds=seeds, noise_nats=0.013, seed=k)
        observations = observe(frame, tmp_path)
        if k == 0:
            assert measure(observations, draws=10, seed=0).noise.method == method
        interval = exponent(observations, seed=k)["interval"]
        covered += interval["low"] <= truth <= interval["high"]
    # 80 trials at 95%: fewer than 69 hits has probability below 1 in 1,000.
    assert covered >= 69


@pytest.mark.long
def test_two_seeds_a_size_cover_every_budgets_minimum(tmp_path: Path) -> None:
    """Two tell little of their size's own noise: resampled within it they would cover 85% of the time."""
    truth = [float(TRUTH.optimum(budget).N) for budget in BUDGETS]
    covered = 0
    for k in range(80):
        study = measure(observe(table(seeds=2, noise_nats=0.01, seed=k), tmp_path), draws=400, seed=k)
        for budget, params in zip(isoflop_section(study, None, GRID)["budgets"], truth, strict=True):
            low, high = (budget["estimates"]["parabola"]["params"][end] for end in ("low", "high"))
            covered += low <= params <= high
    assert covered >= 0.91 * 80 * len(BUDGETS)


def test_a_vertexs_variance_is_its_scatter_over_redraws(tmp_path: Path) -> None:
    frame = table(budgets=BUDGETS[:1], spreads=(0.5, 0.8, 1.5, 3.0, 6.0)).assign(weight=[1.0, 2.0, 1.0, 0.5, 1.5])
    ((budget,), _) = group_budgets(observe(frame, tmp_path))
    noise = Noise("parametric", "", loss_sd_nats=1e-4, degrees_of_freedom=8)
    redrawn = draw_losses(budget, noise, 20_000, np.random.default_rng(0))
    vertices = parabola(budget.log_params, redrawn, budget.weights).log_params[1:]
    assert vertex_variance(budget, noise) == pytest.approx(float(vertices.var()), rel=0.05)
    assert vertex_variance(replace(budget, loss=-budget.loss), noise) == np.inf


def test_wild_redraws_turn_residuals_to_either_side_at_their_own_size(tmp_path: Path) -> None:
    frame = table(budgets=BUDGETS[:1], spreads=np.geomspace(0.25, 4, 12), noise_nats=0.01)
    ((budget,), _) = group_budgets(observe(frame, tmp_path))
    noise = Noise("wild", "", loss_sd_nats=0.01, degrees_of_freedom=9)
    off = draw_losses(budget, noise, 1000, np.random.default_rng(0))[:, 1:] - budget.loss[:, None]
    X = np.vander(budget.log_params, 3)
    hat = X @ np.linalg.solve(X.T @ X, X.T)
    size = np.abs(budget.loss - hat @ budget.loss) / np.sqrt(1 - np.diag(hat))
    assert np.abs(off) == pytest.approx(np.tile(size[:, None], 1000), rel=1e-4)
    assert (off > 0).mean(axis=1) == pytest.approx(np.full(12, 0.5), abs=0.08)  # five standard deviations


def test_noise_is_pooled_with_its_degrees_of_freedom(tmp_path: Path) -> None:
    found = [
        measure(
            observe(table(spreads=(0.5, 0.8, 1, 1.25, 2), noise_nats=0.01, seed=k), tmp_path), draws=10, seed=0
        ).noise
        for k in range(40)
    ]
    assert {noise.degrees_of_freedom for noise in found} == {8}
    assert np.mean([noise.loss_sd_nats**2 for noise in found]) ** 0.5 == pytest.approx(0.01, rel=0.12)


def test_three_sizes_a_budget_give_a_minimum_and_no_interval(tmp_path: Path) -> None:
    frame = table(spreads=(0.5, 1, 2))
    study = measure(observe(frame, tmp_path), draws=100, seed=0)
    section = isoflop_section(study, None, GRID)
    assert section["noise"]["words"] == "no intervals: every parabola passes through all its points"
    for budget in section["budgets"]:
        assert budget["estimates"]["parabola"]["params"]["value"] > 0
        assert budget["estimates"]["parabola"]["params"]["low"] is None
    law = section["laws"]["parabola"]["params"]
    assert law["exponent"] == pytest.approx(float(TRUTH.derived["a"]), abs=0.01)
    assert law["interval"] is None


def test_the_same_seed_gives_the_same_draws(tmp_path: Path) -> None:
    observations = observe(table(noise_nats=0.01), tmp_path)
    first, again = exponent(observations, seed=3), exponent(observations, seed=3)
    assert first["interval"] == again["interval"]
    assert first["interval"] != exponent(observations, seed=4)["interval"]


@settings(max_examples=30, deadline=None)
@given(slope=st.floats(-2, 2), level=st.floats(-5, 5), weights=st.lists(st.floats(0.1, 10), min_size=4, max_size=4))
def test_a_power_law_is_recovered_exactly_whatever_the_weights(
    slope: float, level: float, weights: list[float]
) -> None:
    compute = np.array([1e10, 1e12, 3e12, 1e15])
    values = np.exp(level) * (compute / 1e12) ** slope
    found, coefficient = power_law(compute, np.stack([values, 2 * values], axis=1), np.array(weights))
    assert found == pytest.approx([slope, slope], abs=1e-9)
    assert coefficient[1] / coefficient[0] == pytest.approx(2)


def test_a_power_law_leaves_missing_minima_out_of_their_own_draw() -> None:
    compute = np.array([1e10, 1e12, 1e14])
    values = np.stack([compute**0.5, compute**0.5, compute**0.5], axis=1)
    values[1, 1] = np.nan
    values[:2, 2] = np.nan
    found, _ = power_law(compute, values)
    assert found[:2] == pytest.approx([0.5, 0.5])
    assert np.isnan(found[2])


@settings(max_examples=20, deadline=None)
@given(floor=st.floats(0, 3), rate=st.floats(0.05, 0.8), size=st.floats(0.1, 5))
def test_a_floored_power_law_is_recovered(floor: float, rate: float, size: float) -> None:
    compute = np.geomspace(1e15, 1e20, 6)
    values = (floor + size * (compute / 1e17) ** -rate)[:, None]
    found_floor, found_exponent, coefficient = floored_power_law(compute, values)
    fitted = found_floor[0] + coefficient[0] * compute ** found_exponent[0]
    assert fitted == pytest.approx(values[:, 0], abs=1e-6 * values.max())  # least squares weigh absolute errors
    assert found_exponent[0] == pytest.approx(-rate, rel=1e-3)


@pytest.mark.parametrize(("lead", "used"), [(TRUTH, "surface"), (replace(TRUTH, A=0.8 * TRUTH.A), "mean")])
def test_a_surface_is_quoted_only_where_it_agrees_with_the_runs(lead: Chinchilla, used: str, tmp_path: Path) -> None:
    """Sizes mostly above the optimum bias a parabola, by either surface, by more than so little noise does."""
    frame = table(spreads=(0.6, 1.5, 4, 10, 25), seeds=2, noise_nats=1e-3)
    study = measure(observe(frame, tmp_path), draws=200, seed=0)
    section = isoflop_section(study, Form("chinchilla", lead, None), GRID)
    assert min(budget["parabola_bias"] for budget in section["budgets"]) > 0.08
    assert section["used"] == used, section["why"]
