"""The next runs to buy: better than plain orders on known truths, within the budget, and a sweep that trains."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from scaling.analysis.design.acquisition import buy
from scaling.analysis.design.proposal import MOST_REPEATS, lines, propose
from scaling.analysis.design.uncertainty import MISFIT, PRIOR, believed, covariance, law_covariance
from scaling.analysis.laws.size_and_data import Chinchilla
from scaling.cli import main
from scaling.config.config import compose
from scaling.config.grid import cells, grid_of
from scaling.config.proposed_sweep import sweep_text
from scaling.config.sections import Rows
from tests.analysis import simulated
from tests.analysis.design import replay

LAWS = ("chinchilla",)
BUDGETS = (1e14, 3e14, 1e15)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    frame = simulated.table(budgets=BUDGETS, seeds=2, noise_nats=0.01)
    return simulated.observe(frame, tmp_path_factory.mktemp("runs"))


def test_the_variance_of_a_forecast_is_that_of_weighted_least_squares() -> None:
    rng = np.random.default_rng(0)
    params, tokens = 10 ** rng.uniform(6, 8, 40), 10 ** rng.uniform(8, 10, 40)
    truth, sd = simulated.TRUTH, 0.01
    losses = truth(N=params, D=tokens) * np.exp(sd * rng.standard_normal((30, 40)))
    laws = believed(params, tokens, losses[0], LAWS, near=0)
    stated = covariance(laws, (params, tokens), (np.array([1e9]), np.array([1e11])), sd)[0, 0]
    fits = [believed(params, tokens, loss, LAWS, near=0)[0].fit for loss in losses]
    drawn = [one.law(N=1e9, D=1e11) for one in fits]
    assert np.sqrt(stated) == pytest.approx(np.std(np.log(drawn)), rel=0.4)


def test_with_a_misfit_many_runs_of_one_kind_are_one_piece_of_information() -> None:
    runs = (np.array([1e7, 1e7, 3e7, 1e8, 1e8]), np.array([1e9, 4e9, 1e9, 3e9, 1e10]))
    ahead = (np.array([1e9, 3e8]), np.array([1e11, 1e10]))
    sd, misfit = 0.004, MISFIT
    stated = law_covariance(simulated.TRUTH, runs, ahead, sd, misfit)
    whole = tuple(np.concatenate(pair) for pair in zip(runs, ahead, strict=True))
    slopes = simulated.TRUTH.gradient(N=whole[0], D=whole[1]) * np.array(list(simulated.TRUTH.params.values()))
    slopes /= simulated.TRUTH(N=whole[0], D=whole[1])[:, None]
    apart = sum(np.subtract.outer(np.log(one), np.log(one)) ** 2 for one in whole)
    before = PRIOR**2 * slopes @ slopes.T + misfit**2 * np.exp(-apart / (2 * np.log(10) ** 2))
    seen, across, beyond = before[:5, :5], before[5:, :5], before[5:, 5:]
    assert stated == pytest.approx(beyond - across @ np.linalg.solve(seen + sd**2 * np.eye(5), across.T), rel=1e-4)
    repeated = tuple(np.append(one, np.full(200, one[-1])) for one in runs)
    without, with_misfit = (
        law_covariance(simulated.TRUTH, repeated, ahead, sd, size)[0, 0]
        / law_covariance(simulated.TRUTH, runs, ahead, sd, size)[0, 0]
        for size in (0.0, misfit)
    )
    assert 1 - with_misfit < (1 - without) / 3


def test_no_cell_is_bought_beyond_the_cap_and_the_words_say_so(runs: Any) -> None:
    found = propose(runs, {"flops": 1e16}, 3e17, laws=LAWS)
    times = [len(one["seeds"]) for one in found["runs"]]
    assert max(times) == MOST_REPEATS
    assert any(f"no cell is bought more than {MOST_REPEATS} times" in line for line in found["words"])


def test_a_purchase_lowers_the_variance_as_conditioning_does_and_stops_when_it_is_enough() -> None:
    spread = np.array([[2.0, 0.0, 1.0], [0.0, 1.0, 0.1], [1.0, 0.1, 1.0]])
    one = buy(spread, np.array([1.0, 1.0]), 1.0, noise=0.5)
    assert one.picks == (0,)
    assert one.variance == pytest.approx((1.0, 1 - 1 / 2.5))
    assert buy(spread, np.array([1.0, 1.0]), 10.0, noise=0.5, enough=0.7).picks == (0,)
    assert buy(spread, np.array([1.0, 1.0]), 10.0, noise=0.5, enough=2.0).picks == ()
    assert buy(spread, np.array([1.0, 1.0]), 10.0, noise=0.5, most=[1, 1]).price == 2.0


def test_a_proposal_stays_in_its_budget_and_narrows_the_interval(runs: Any) -> None:
    found = propose(runs, {"flops": 1e16}, 3e15, laws=LAWS)
    assert 0 < found["price"] <= 3e15
    assert found["price"] == pytest.approx(sum(one["flops"] * len(one["seeds"]) for one in found["runs"]))
    halves = [found[name]["high"] / found[name]["low"] for name in ("before", "after", "repeats_only")]
    assert halves[1] < halves[0]
    assert halves[1] <= halves[2]
    assert found["noise_words"].endswith("as seeds measure it")
    assert found["before"]["value"] == pytest.approx(float(simulated.TRUTH.optimum(1e16).loss), rel=0.02)
    assert any("buy " in line for line in lines(found))


def test_a_narrow_grid_is_widened_and_a_wide_target_needs_nothing(tmp_path: Path) -> None:
    frame = simulated.table(budgets=(1e14, 2e14), spreads=(0.8, 1.0, 1.25), seeds=4, noise_nats=0.01)
    narrow = simulated.observe(frame, tmp_path)
    found = propose(narrow, {"params": 2e7, "tokens": 2e9}, 3e15, laws=LAWS)
    assert any(line.startswith("widen the grid") for line in found["words"])
    assert any(not one["trained"] for one in found["runs"])
    done = propose(narrow, {"params": 2e7, "tokens": 2e9}, 3e15, laws=LAWS, width=1e6)
    assert done["runs"] == []
    assert "buy nothing" in done["words"][0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--budget", "1e15", "--target", "flops=x"], "--target 'flops=x'"),
        (["--budget", "1e15", "--target", "params=1e9"], "got params"),
        (["--budget", "-1"], "--budget must be positive"),
        (["--budget", "1"], "buys no run: the cheapest of these runs took 1e+14 FLOPs"),
    ],
)
def test_what_cannot_be_proposed_is_refused(
    options: list[str], said: str, runs: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["next", runs.source[0], "--law", "chinchilla", *options]) == 2
    assert said in capsys.readouterr().err


@pytest.fixture(scope="module")
def shaped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study's table: shapes of 12 d^2 parameters, and 1,000 steps a run."""
    frame = simulated.table(budgets=BUDGETS, seeds=2, noise_nats=0.01)
    width = (2 * np.round(np.sqrt(frame["params"] / 24) / 2)).astype(int)
    shapes = {"model.n_layers": 2, "model.d_model": width, "model.n_heads": 1}
    path = tmp_path_factory.mktemp("priced") / "runs.csv"
    frame.assign(**shapes, **{"recipe.steps": 1000, "recipe.precision": "bf16"}).to_csv(path, index=False)
    return path


def priced(shaped: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    asked = ["--law", "chinchilla", "--target", "flops=1e16", "--json", "--on", "h100", *options]
    assert main(["next", str(shaped), *asked]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_a_named_machine_prices_the_proposed_runs(shaped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = priced(shaped, capsys, "--budget", "3e15", "--count", "2", "--usd-per-hour", "3")
    machine = found["machine"]
    runs = sum(len(one["seeds"]) for one in found["runs"])
    assert machine["gpu_hours"] > runs * 1000 * 2e-3 / 3600 * 0.9  # steps of 2 ms before any arithmetic
    halved = machine["gpu_hours"] * 1800  # two devices that end together, but for rounding
    assert halved * (1 - 1e-12) <= machine["wall_s"] < 2 * halved
    assert machine["usd"] == pytest.approx(2 * 3 * machine["wall_s"] / 3600)
    assert machine["ranked_by"] == "flops"


def test_runs_ranked_by_hours_are_fewer_and_larger_where_small_ones_are_slow(
    shaped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    by_flops = priced(shaped, capsys, "--budget", "3e15")
    hours = by_flops["machine"]["gpu_hours"]
    by_hours = priced(shaped, capsys, "--budget", f"{hours}", "--price", "hours")
    assert by_hours["machine"]["gpu_hours"] <= hours
    assert by_hours["after"]["high"] / by_hours["after"]["low"] < by_flops["after"]["high"] / by_flops["after"]["low"]
    mean = [one["price"] / sum(len(run["seeds"]) for run in one["runs"]) for one in (by_flops, by_hours)]
    assert mean[1] > mean[0]
    by_dollars = priced(shaped, capsys, "--budget", f"{2 * hours}", "--price", "usd", "--usd-per-hour", "2")
    assert by_dollars["runs"] == by_hours["runs"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--count", "2"], "name it with --on"),
        (["--price", "hours"], "name it with --on"),
        (["--on", "h100", "--price", "usd"], "give the price of a device"),
        (["--on", "h100"], "whose records state shapes and steps"),
        (["--on", "abacus"], "abacus"),
    ],
)
def test_a_price_without_its_ground_is_refused(
    options: list[str], said: str, runs: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["next", runs.source[0], "--law", "chinchilla", "--budget", "1e15", *options]) == 2
    assert said in capsys.readouterr().err


def test_the_sweep_trains_the_proposed_cells_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bought = [
        {"shape": [2, 16, 2], "flops": 1e11, "seeds": [2, 3]},
        {"shape": [2, 24, 2], "flops": 3.16e11, "seeds": [0]},
    ]
    text = sweep_text("quickstart", "quickstart", bought, "Which?")
    assert yaml.safe_load(text)["budget"]["total_flops"] == pytest.approx(1.1 * 5.16e11)
    (tmp_path / "conf" / "sweep").mkdir(parents=True)
    (tmp_path / "conf" / "sweep" / "mine.yaml").write_text(text)
    cfg = compose(["+sweep=mine"])
    grid = grid_of(cfg)
    assert cfg.study == "quickstart"
    assert (grid.budgets, grid.shapes, grid.axes) == ([], [], {"seed": []})
    rows = cells(grid, {}, Rows(cfg, compose))
    assert [row[0] for row in rows] == ["budget.flops=1e+11", "budget.flops=1e+11", "budget.flops=3.16e+11"]
    assert [row[2] for row in rows] == ["model.d_model=16", "model.d_model=16", "model.d_model=24"]
    assert [row[-1] for row in rows] == ["seed=2", "seed=3", "seed=0"]


@pytest.mark.parametrize("share", replay.SHARES)
def test_the_design_beats_plain_orders(share: float) -> None:
    truth = Chinchilla(E=1.9, A=120.0, B=900.0, alpha=0.35, beta=0.37)
    pool = replay.isoflop_pool("", truth, noise=0.004, seed=0, budgets=(1e17, 3.16e17, 1e18, 3.16e18, 1e19))
    budget = share * float(pool.price.sum())
    errors = {name: replay.error(pool, buys(pool, budget, 0)) for name, buys in replay.STRATEGIES.items()}
    assert errors["next"] < min(value for name, value in errors.items() if name != "next")
