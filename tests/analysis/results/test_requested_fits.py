"""Fits of as many parameters as runs: values without intervals, in the document, on the terminal and on the page."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scaling.analysis.fitting.bootstrap import bootstrap, identify
from scaling.analysis.fitting.fit import fit
from scaling.analysis.judgement.forecast import describe, predict
from scaling.analysis.report import fit_tables, prose
from scaling.analysis.results.document import summary
from tests.analysis.conformance import analyse
from tests.analysis.simulated import TRUTH, observe, table


def runs(count: int, *, checkpoints: int = 1, named: bool = True) -> pd.DataFrame:
    """Return runs of distinct sizes and token counts, each at several token counts, with a thousandth of noise."""
    rng = np.random.default_rng(count)
    params = np.repeat(np.exp(rng.uniform(np.log(1e6), np.log(1e9), count)), checkpoints)
    ends = np.exp(rng.uniform(np.log(1e8), np.log(1e10), count))
    tokens = np.concatenate([end * np.linspace(0.3, 1.0, checkpoints + 1)[1:] for end in ends])
    loss = TRUTH(N=params, D=tokens) * np.exp(rng.normal(0, 1e-3, len(params)))
    frame = pd.DataFrame({"params": params, "tokens": tokens, "loss": loss})
    return frame.assign(run_id=np.repeat([f"run{k}" for k in range(count)], checkpoints)) if named else frame


def described(results: Any) -> str:
    """Return all words of the terminal and of the page's tables and answer."""
    cells = [cell.words for made in fit_tables.parameters(results) for row in made.rows for cell in row]
    return "\n".join([summary(results), *cells, *prose.answer(results).lead])


@pytest.mark.parametrize(
    ("frame", "law", "why"),
    [
        (runs(5), "chinchilla", "5 runs for 5 parameters"),
        (runs(5, named=False), "chinchilla", "5 runs for 5 parameters"),
        (runs(3), "power:N", "3 runs for 3 parameters"),
        (runs(3, checkpoints=20), "power:D", "3 runs for 3 parameters"),
        (runs(4, checkpoints=20), "chinchilla", "4 runs for 5 parameters"),
    ],
)
def test_as_many_parameters_as_runs_leave_no_interval(frame: pd.DataFrame, law: str, why: str, tmp_path: Path) -> None:
    found = analyse(observe(frame, tmp_path), laws=(law,), bootstrap=200)
    (entry,) = found["fits"]
    assert entry["no_interval"] == why
    assert entry["intervals"] == entry["derived_intervals"] == entry["identification"] == entry["profiles"] == {}
    assert entry["draws"] is None
    text = described(found)
    assert "identified" not in json.dumps(found)
    assert "is identified" not in text
    assert [line for line in found["warnings"] if why in line]
    for name, value in entry["params"].items():
        assert f"{name} = {value:.5g} (no interval: {why})" in text
    assert f"no interval: {why}" in [
        cell.words for made in fit_tables.parameters(found) for row in made.rows for cell in row
    ]


def test_one_run_more_than_parameters_has_intervals(tmp_path: Path) -> None:
    (entry,) = analyse(observe(runs(6), tmp_path), bootstrap=50)["fits"]
    assert entry["no_interval"] == ""
    assert set(entry["intervals"]) == set(entry["params"])
    assert entry["draws"]["clusters"] == 6


def test_rows_that_are_resampled_together_count_once(tmp_path: Path) -> None:
    frame = runs(12).assign(batch=np.arange(12) % 4)
    (entry,) = analyse(observe(frame, tmp_path, cluster="batch"), bootstrap=50)["fits"]
    assert entry["no_interval"] == "4 groups of rows that are resampled together for 5 parameters"


def test_a_prediction_of_too_few_runs_has_no_interval_and_the_reason(tmp_path: Path) -> None:
    found = analyse(observe(runs(4, checkpoints=20), tmp_path), bootstrap=200)
    assert found["forecast"]["forms"] == ["chinchilla"]
    for one in (predict(found, params=1e8, tokens=1e10), predict(found, flops=1e20)):
        assert one["loss"]["low"] is one["loss"]["high"] is None
        assert not one["calibrated"]
        assert "no interval: 4 runs for 5 parameters" in describe(one)
        assert "UNCALIBRATED" not in describe(one)
    assert all(score["coverage"] is None for score in (found["holdout"] or {"predictions": []})["predictions"])
    for band in (found["fits"][0]["optimum"][name] for name in ("params", "tokens", "loss")):
        assert band["low"] is band["high"] is None


def test_roll_outs_from_too_few_runs_judge_no_interval(tmp_path: Path) -> None:
    frame = table(budgets=(1e14, 3e14, 1e15), spreads=(0.5, 2.0), noise_nats=0.01)
    found = analyse(observe(frame, tmp_path), laws=("kaplan",), bootstrap=50)
    assert [one["n_trained"] for one in found["holdout"]["predictions"]] == [4]
    assert found["holdout"]["predictions"][0]["coverage"] is None
    assert found["fits"][0]["no_interval"] == ""


def test_resamples_of_too_few_runs_state_no_interval() -> None:
    frame = runs(5)
    x, y = {"N": frame["params"].to_numpy(), "D": frame["tokens"].to_numpy()}, frame["loss"].to_numpy()
    found = fit("chinchilla", x, y)
    drawn = bootstrap(found, x, y, n=30)
    assert np.isnan(drawn.interval("E").low)
    assert np.isnan(drawn.interval(lambda law: law(N=1e9, D=np.array([1e9, 1e10]))).high).all()
    flags = identify(found, drawn)
    assert {flag.kind for flag in flags.values()} <= {"weakly identified", "at a bound"}
    assert any("5 runs for 5 parameters" in flag.sentence for flag in flags.values())
