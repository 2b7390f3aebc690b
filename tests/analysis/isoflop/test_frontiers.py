"""Frontiers of the losses: the runs that no smaller run beats, and power laws through those with ample data or size."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scaling.analysis.isoflop import frontiers
from tests.analysis import simulated
from tests.analysis.simulated import observe, table

LEVEL = 0.95


def section(frame: pd.DataFrame, folder: Path, ratio: float | None = 20.0) -> Any:
    """The frontiers of a table of runs, where the compute optimum takes so many tokens per parameter."""
    minimum = {"edge": "", "tokens_per_param": {"value": ratio}}
    study: Any = {"used": "parabola", "budgets": [{"estimates": {"parabola": minimum}}]}
    return frontiers.measure(observe(frame, folder), None if ratio is None else study, [], LEVEL)


def kaplan_runs(alpha: float = 0.076, scale: float = 8.8e13) -> pd.DataFrame:
    """Sizes trained on tokens without end, whose loss depends on parameters alone, and one undertrained run of each."""
    rows = []
    for params in np.geomspace(1e6, 1e9, 7):
        rows += [
            (params, 1e4 * params, (scale / params) ** alpha),
            (params, 10 * params, 1.3 * (scale / params) ** alpha),
        ]
    return pd.DataFrame(rows, columns=["params", "tokens", "loss"])


def test_kaplans_law_of_size_is_recovered_exactly(tmp_path: Path) -> None:
    found = section(kaplan_runs(), tmp_path)["by"]["params"]
    assert found["x"] == pytest.approx(np.geomspace(1e6, 1e9, 7).tolist())
    assert found["ample"] == [True] * 7
    assert found["law"]["exponent"] == pytest.approx(0.076)
    assert found["law"]["scale"] == pytest.approx(8.8e13, rel=1e-6)


def test_runs_that_a_smaller_run_beats_do_not_enter(tmp_path: Path) -> None:
    frame = kaplan_runs()
    frame.loc[len(frame)] = (2e9, 1e13, 5.0)  # large, and worse than all
    by = section(frame, tmp_path)["by"]
    assert 2e9 not in by["params"]["x"]
    for entry in by.values():
        assert entry["loss"] == sorted(entry["loss"], reverse=True)
        assert entry["x"] == sorted(entry["x"])


def test_points_with_too_little_of_the_other_quantity_are_kept_out_of_the_law(tmp_path: Path) -> None:
    frame = kaplan_runs()
    frame["tokens"] = np.where(frame["params"] > 1e8, 20 * frame["params"], frame["tokens"])
    found = section(frame.drop_duplicates(["params", "tokens"]), tmp_path)["by"]["params"]
    sizes = np.array(found["x"])
    assert found["ample"] == (sizes <= 1.0001e8).tolist()
    assert found["law"]["exponent"] == pytest.approx(0.076)


def test_seeds_are_one_point_with_their_mean(tmp_path: Path) -> None:
    frame = table(seeds=3, noise_nats=0.05)
    found = section(frame, tmp_path)["by"]["flops"]
    means = frame.groupby(["params", "tokens"])["loss"].mean()
    assert found["runs"] == [3] * len(found["x"])
    assert set(np.round(found["loss"], 9)) <= set(means.round(9))


def test_the_interval_holds_the_exponent_of_noisy_runs(tmp_path: Path) -> None:
    held = 0
    for seed in range(60):
        frame = kaplan_runs().iloc[::2]
        noise = 1 + 0.01 * np.random.default_rng(seed).standard_normal(len(frame))
        law = section(frame.assign(loss=frame["loss"] * noise), tmp_path)["by"]["params"]["law"]
        held += law is not None and law["interval"]["low"] <= 0.076 <= law["interval"]["high"]
    assert held >= 52


def test_reasons_stand_where_there_is_no_law(tmp_path: Path) -> None:
    found = section(kaplan_runs(), tmp_path, ratio=None)
    assert found["by"]["params"]["law"] is None
    assert "no compute optimum is known" in found["by"]["params"]["why"]
    assert found["by"]["flops"]["law"] is not None
    few = section(kaplan_runs().iloc[::2], tmp_path)["by"]["tokens"]
    assert few["law"] is None
    assert few["why"] == "a law needs 3 points, and 0 are of ample size"


def test_isoflop_grids_find_their_ratio_in_the_minima(tmp_path: Path) -> None:
    from tests.analysis.conformance import analyse

    results = analyse(observe(table(noise_nats=0.003), tmp_path), bootstrap=0)
    found = results["frontiers"]
    best = simulated.TRUTH.optimum(5e14)
    assert found["optimal_tokens_per_param"] == pytest.approx(float(best.D / best.N), rel=0.25)
    assert found["basis"] == "the median of 4 isoFLOP minima"
    assert len(found["by"]["flops"]["x"]) == len(simulated.BUDGETS)
