"""Checkpoints of one run in a table without a run id are one cluster."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scaling.analysis.results.document import analyse
from scaling.analysis.runs.observations import Observations, load
from tests.analysis.simulated import TRUTH, table


def checkpoints(*, runs: int = 5, rows: int = 30, seeds: int = 1) -> pd.DataFrame:
    """Runs saved at even steps; all checkpoints of a run share its noise."""
    rng = np.random.default_rng(0)
    parts = []
    for size in np.geomspace(1e7, 1e9, runs):
        for seed in range(seeds):
            tokens = 1e8 * np.arange(1, rows + 1)
            loss = TRUTH(N=size, D=tokens) + 0.02 * rng.standard_normal()
            parts.append(pd.DataFrame({"params": size, "tokens": tokens, "loss": loss, "seed": seed}))
    return pd.concat(parts, ignore_index=True)


def read(frame: pd.DataFrame, folder: Path, **options: object) -> Observations:
    frame.to_csv(folder / "runs.csv", index=False)
    return load(folder / "runs.csv", **options)


@pytest.mark.parametrize("order", ["by run", "by tokens", "shuffled"])
@pytest.mark.parametrize("seeds", [1, 2])
def test_rows_of_one_size_with_rising_tokens_are_one_run(tmp_path: Path, order: str, seeds: int) -> None:
    frame = checkpoints(seeds=seeds)
    if order == "by tokens":
        frame = frame.sort_values(["tokens", "params"])
    if order == "shuffled":
        frame = frame.sample(frac=1, random_state=0)
    found = read(frame, tmp_path, curves=True)
    assert len(set(found.clusters)) == 5 * seeds
    assert found.table.groupby("cluster")["params"].nunique().max() == 1
    assert any("taken as checkpoints of one run" in line for line in found.inferred)
    assert found.curves is not None


def test_seeds_that_no_column_names_are_parted_where_the_tokens_start_again(tmp_path: Path) -> None:
    found = read(checkpoints(seeds=3).drop(columns="seed"), tmp_path)
    assert len(set(found.clusters)) == 15


@pytest.mark.long
def test_intervals_are_as_wide_as_with_a_run_id(tmp_path: Path) -> None:
    frame = checkpoints(runs=8).drop(columns="seed")
    frame["loss"] = frame["loss"].round(5)
    widths = []
    for one in (frame, frame.assign(run_id=frame["params"].factorize()[0])):
        interval = analyse(read(one, tmp_path), bootstrap=60, holdout=None)["fits"][0]["intervals"]["E"]
        assert interval["low"] is not None
        assert interval["high"] is not None
        widths.append(interval["high"] - interval["low"])
    assert widths[0] == pytest.approx(widths[1], rel=1e-6)


def test_grids_of_single_runs_stay_single_and_doubtful_ones_are_asked_about(tmp_path: Path) -> None:
    isoflop = read(table(noise_nats=0.01), tmp_path)
    assert len(set(isoflop.clusters)) == len(isoflop.table)
    assert not any("checkpoints" in line for line in isoflop.inferred)
    grid = read(checkpoints(rows=4).assign(tokens=lambda one: one["tokens"] ** 1.5), tmp_path)
    assert len(set(grid.clusters)) == len(grid.table)
    assert any("--cluster params (or --run COLUMN)" in line for line in grid.inferred)
