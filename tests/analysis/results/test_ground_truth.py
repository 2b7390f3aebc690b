"""Known answers: the analysis of a witness that memorises associations, and of transformers that learn them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar

from scaling.analysis.design.proposal import propose
from scaling.analysis.report.ground_truth import ground_truth
from scaling.analysis.results.document import analyse, summary
from scaling.analysis.results.ground_truth import ground_truth_section
from scaling.analysis.runs.choices import Choices
from scaling.analysis.runs.observations import Observations, load, validate
from scaling.analysis.runs.reading import Reading
from scaling.cli import main
from tests.analysis.associations import SOURCE, expected_loss, memory_runs
from tests.analysis.design.replay import STRATEGIES, Pool, error

A, B = 0.5, 1 / 3  # s = 1.5: exponents in N and in D
BUDGETS = np.geomspace(3e5, 3e7, 5)
WITHIN = (0.25, 0.4, 0.63, 1.0, 1.6, 2.5, 4.0)


def best(flops: float) -> tuple[float, float]:
    """N* and L* of the witness at C = 6 N D, by search."""

    def loss(log_size: float) -> float:
        size = np.exp(np.array([log_size]))
        return float(expected_loss(size, flops / 6 / size)[0])

    found = minimize_scalar(loss, bounds=np.log([3, 3e4]), method="bounded", options={"xatol": 1e-3})
    return float(np.exp(found.x)), float(found.fun)


def grid() -> tuple[np.ndarray, np.ndarray]:
    cells = [(round(best(flops)[0] * share), flops) for flops in BUDGETS for share in WITHIN]
    sizes = np.array([size for size, _ in cells], dtype=float)
    return sizes, np.array([flops for _, flops in cells]) / 6 / sizes


GRID = grid()
TARGET = 10 * BUDGETS[-1]


def observed(table: pd.DataFrame) -> Observations:
    return validate(Reading(table, "witness", counts_known=True), Choices())


def slices(noise: float = 0.0) -> Observations:
    sizes, records = np.geomspace(30, 3000, 6).round(), np.geomspace(1e3, 1e5, 6)
    capacity = np.append(sizes, np.full(6, 2e5))
    return observed(memory_runs(capacity, np.append(np.full(6, 1e8), records), noise=noise))


@pytest.mark.parametrize("exponent", [1.3, 1.5, 2.0])
def test_a_memory_loses_with_the_exponents_of_the_source(exponent: float) -> None:
    source = replace(SOURCE, zipf_exponent=exponent)
    sizes, records = np.geomspace(30, 3000, 6), np.geomspace(1e3, 3e4, 6)
    by_size = expected_loss(sizes, np.full(6, 1e9), source=source)
    by_data = expected_loss(np.full(6, 2.6e5), records, source=source)
    truth = source.truth(64)
    assert -np.polyfit(np.log(sizes), np.log(by_size), 1)[0] == pytest.approx(truth["params"], rel=0.01)
    assert -np.polyfit(np.log(records), np.log(by_data), 1)[0] == pytest.approx(truth["tokens"], rel=0.01)


def test_slices_of_a_memory_measure_its_exponents_and_no_others() -> None:
    runs = slices(noise=0.01)
    section = ground_truth_section(runs, [], None, 0.95)
    assert section is not None
    assert [one["inside"] for one in section["exponents"]] == [True, True]
    assert [one["value"] for one in section["exponents"]] == pytest.approx([A, B], rel=0.05)
    assert section["words"] == "2 of 2 intervals hold the known exponent"
    wrong = observed(runs.table.assign(**{"truth.params": 0.6}))
    section = ground_truth_section(wrong, [], None, 0.95)
    assert section is not None
    assert [one["inside"] for one in section["exponents"]] == [False, True]
    assert "outside: loss against N by 6 runs at 1e+08 tokens" in section["words"]


def test_runs_without_one_known_law_are_not_checked() -> None:
    table = slices().table
    plain = observed(table.drop(columns=[name for name in table.columns if name.startswith("truth.")]))
    assert ground_truth_section(plain, [], None, 0.95) is None
    mixed = observed(table.assign(**{"truth.params": [0.5] * 6 + [0.7] * 6}))
    assert ground_truth_section(mixed, [], None, 0.95) is None


def test_laws_with_a_sharp_elbow_recover_the_exponents_from_a_grid() -> None:
    results = analyse(observed(memory_runs(*GRID)), laws=["gamma", "power_mean"], bootstrap=0)
    section = results["ground_truth"]
    assert section is not None
    by_law = [one["value"] for one in section["exponents"] if "law of all runs" in one["by"]]
    assert by_law == pytest.approx([A, B, A, B], rel=0.02)


def test_minima_and_their_forecast_have_the_known_exponents_and_the_true_loss() -> None:
    results = analyse(observed(memory_runs(*GRID)), bootstrap=0, target_flops=TARGET)
    section = results["ground_truth"]
    assert section is not None
    found = {one["quantity"]: one for one in section["exponents"] if one["by"] == "the isoFLOP minima"}
    for name, known in (("N* against C", 0.4), ("L* against C", -0.2)):
        assert found[name]["known"] == pytest.approx(known)
        assert found[name]["value"] == pytest.approx(known, abs=0.003)
    size, loss = best(TARGET)
    target = results["forecast"]["at_target"]
    assert target is not None
    members = {one["name"]: one for one in target["members"]}
    for name in ("gamma near the minima", "isoFLOP power laws", "isoFLOP power laws over a floor"):
        assert members[name]["loss"] == pytest.approx(loss, rel=0.01)
        assert members[name]["params"] == pytest.approx(size, rel=0.05)
    assert "ground truth, loss = 0 + A / N^0.5 + B / D^0.3333" in summary(results)
    table = ground_truth(results)
    assert [row[0].words for row in table.rows] == [one["quantity"] for one in section["exponents"]]
    json.dumps(section, allow_nan=False)


@pytest.mark.long
def test_runs_bought_by_design_forecast_the_memory_better_than_the_cheapest_do() -> None:
    sizes, records = GRID
    size, loss = best(TARGET)
    cheapest = np.argsort(sizes * records, kind="stable")[:14]
    laws = ("gamma", "power_mean")

    def missed(strategy: str) -> float:
        found = []
        for seed in range(3):
            runs = memory_runs(sizes, records, noise=0.004, seed=seed)
            target = (size, TARGET / 6 / size, loss)
            pool = Pool("memory", sizes, records, runs["loss"].to_numpy(), target, cheapest, 0.004, laws)
            found.append(error(pool, STRATEGIES[strategy](pool, 0.1 * float(pool.price.sum()), seed)))
        return float(np.sqrt(np.mean(np.square(found))))

    assert missed("next") < missed("cheapest first")


def test_next_shrinks_the_interval_of_the_memorys_loss_around_the_truth() -> None:
    small = GRID[0] * GRID[1] * 6 < 1e7
    runs = observed(memory_runs(GRID[0][small], GRID[1][small], noise=0.004))
    size, loss = best(TARGET)
    target = {"params": size, "tokens": TARGET / 6 / size}
    found = propose(runs, target, 3e7, laws=["gamma", "power_mean"])  # type: ignore[arg-type]
    before, after = found["before"], found["after"]
    ends = [before["low"], before["high"], after["low"], after["high"]]
    low, high, lower, upper = (0.0 if end is None else end for end in ends)
    assert low < loss < high
    assert upper / lower < (high / low) ** 0.9
    assert found["price"] <= 3e7


@pytest.mark.long
def test_transformers_that_learn_associations_show_the_known_exponents(tmp_path: Path) -> None:
    assert main(["train", "--multirun", "+sweep=ground-truth", f"runs_dir={tmp_path}", "runtime.progress=false"]) == 0
    runs = load(tmp_path / "ground-truth", params="total")
    assert (runs.column("loss") > runs.table["truth.least_loss_nats"]).all()
    section = ground_truth_section(runs, [], None, 0.95)
    assert section is not None
    measured = {one["quantity"]: one["value"] for one in section["exponents"]}
    # Measured below the asymptotes: views of a code, and sizes, are both finite (docs/ground-truth.md).
    assert measured["loss against N"] == pytest.approx(A, abs=0.12)
    assert measured["loss against D"] == pytest.approx(B, abs=0.07)
