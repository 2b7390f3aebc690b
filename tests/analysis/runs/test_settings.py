"""Settings, seeds and pools: runs that differ in a setting are no repeats, and a word that parts runs is refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scaling.analysis.health import seed_noise
from scaling.analysis.results.document import analyse
from scaling.analysis.results.parts import analyse_parts
from scaling.analysis.runs.observations import Observations, load
from scaling.analysis.runs.repeats import cells
from scaling.analysis.runs.settings import setting_columns, varying_settings
from tests.analysis.simulated import TRUTH, write_study

NOISE_NATS = 0.002


def sweep(seed: int = 0) -> pd.DataFrame:
    """Sizes x tokens x learning rates x batches x seeds, the best setting of each cell on the law."""
    rng = np.random.default_rng(seed)
    rows = []
    for size in (1e7, 3e7, 1e8, 3e8):
        for ratio in (10, 20, 40):
            for lr in (1e-3, 2e-3, 4e-3):
                for batch in (64, 256):
                    worse = 0.03 * np.log2(lr / 2e-3) ** 2 + 0.02 * (batch == 64)
                    for number in (1, 2, 3):
                        loss = float(TRUTH(N=size, D=ratio * size)) + worse + NOISE_NATS * rng.standard_normal()
                        rows.append((size, ratio * size, lr, batch, ratio * size / batch, number, loss, rng.random()))
    return pd.DataFrame(rows, columns=["N", "D", "lr", "gbsz", "iteration", "seed", "loss", "hellaswag"])


def read(table: pd.DataFrame, folder: Path, **options: object) -> Observations:
    table.to_csv(folder / "runs.csv", index=False)
    return load(folder / "runs.csv", **options)


def test_seeds_are_rows_equal_in_every_setting_but_the_seed(tmp_path: Path) -> None:
    found = read(sweep(), tmp_path)
    assert varying_settings(found.table) == ["lr", "gbsz"]  # the iterations follow from the batch
    assert len(np.unique(cells(found))) == 4 * 3 * 3 * 2
    noise = seed_noise.measure(found, 0.95)
    assert noise is not None
    assert noise.pooled_sd == pytest.approx(NOISE_NATS, rel=0.2)
    assert noise.freedom.sum() == 4 * 3 * 3 * 2 * 2


def test_a_sweep_without_a_seed_has_no_repeats(tmp_path: Path) -> None:
    table = sweep()
    found = read(table[table["seed"] == 1].drop(columns=["seed", "hellaswag"]), tmp_path)
    assert seed_noise.measure(found, 0.95) is None


def test_the_warning_names_the_settings_and_the_ways_to_part_them(tmp_path: Path) -> None:
    (first, *_) = analyse(read(sweep(), tmp_path), bootstrap=0, holdout=None)["warnings"]
    assert first.startswith("lr (3 values), gbsz (2 values) differ between runs of one size and token count: settings")
    assert "--best-of-cell keeps" in first
    assert "--by 'lr' fits each value apart" in first
    assert "--where keeps some" in first


def test_the_best_of_each_cell_lies_on_the_law(tmp_path: Path) -> None:
    found = read(sweep(), tmp_path, best_of_cell=True)
    assert len(found.table) == 12
    assert set(found.table["lr"]) == {2e-3}
    assert len(found.excluded) == 216 - 12
    assert {one.reason for one in found.excluded} == {"not the lowest loss of its size and tokens: --best-of-cell"}
    (fit,) = analyse(found, bootstrap=0, holdout=None)["fits"]
    assert fit["params"]["alpha"] == pytest.approx(TRUTH.alpha, abs=0.03)
    assert not any("settings" in line for line in analyse(found, bootstrap=0, holdout=None)["warnings"])


def test_cells_forgive_the_rounding_to_whole_batches(tmp_path: Path) -> None:
    table = sweep().drop(columns=["iteration", "hellaswag"])
    table["D"] = (table["D"] / (table["gbsz"] * 512)).round() * table["gbsz"] * 512
    assert table["D"].nunique() > 12
    assert len(read(table, tmp_path, best_of_cell=True).table) == 12


def test_by_fits_each_value_apart(tmp_path: Path) -> None:
    found = read(sweep(), tmp_path)
    analysed, lines = analyse_parts(found, by=["lr"], bootstrap=0, holdout=None)
    assert list(analysed) == ["lr=0.001", "lr=0.002", "lr=0.004"]
    assert "which differ in lr" in lines[0]
    assert analysed["lr=0.002"]["warnings"][0].startswith("gbsz (2 values) differs")
    with pytest.raises(ValueError, match=r"--by 'rate' is not a column of .*runs.csv; choose from .*lr"):
        analyse_parts(found, by=["rate"])


def test_values_with_slashes_name_parts_that_can_be_folders(tmp_path: Path) -> None:
    table = sweep().assign(series=lambda one: np.where(one["lr"] < 2e-3, "a/b", "../c"))
    assert list(analyse_parts(read(table, tmp_path), by=["series"], bootstrap=0, holdout=None)[0]) == ["c", "a-b"]


def test_names_states_and_measurements_are_no_settings() -> None:
    table = pd.DataFrame(
        {
            "run_id": list("abcdef"),
            "params": 1e7,
            "tokens": 1e9,
            "loss": np.linspace(3, 2, 6),
            "job_name": list("uvwxyz"),
            "State": "finished",
            "Runtime": range(6),
            "val/acc": range(6),
            "seed": [1, 2] * 3,
            "optim.lr": [1, 1, 2, 2, 3, 3],
            "train.seed": [1, 2] * 3,
        }
    )
    assert setting_columns(table) == ["optim.lr"]


def test_a_column_that_changes_within_a_run_is_no_setting() -> None:
    table = pd.DataFrame({"run_id": ["a", "a", "b", "b"], "lr": [1, 2, 1, 2], "wd": [0, 0, 1, 1]})
    assert setting_columns(table.assign(params=1e7, tokens=[1e8, 2e8] * 2, loss=3.0)) == ["wd"]


def test_this_projects_own_sweeps_warn_of_their_settings_and_keep_their_repeats(tmp_path: Path) -> None:
    found = load(write_study(tmp_path / "study", points=4, repeats=2))
    assert varying_settings(found.table) == []
    rates = np.where(found.table["seed"] > 0, 2e-3, 1e-3)
    swept = Observations(
        found.table.assign(**{"recipe.optimizer.learning_rate": rates}), (), (), found.conventions, found.source
    )
    assert varying_settings(swept.table) == ["recipe.optimizer.learning_rate"]
    assert seed_noise.measure(swept, 0.95).freedom.sum() == 4  # type: ignore[union-attr]


def test_the_texts_that_one_run_is_measured_on_are_a_setting(tmp_path: Path) -> None:
    table = sweep().query("lr == 0.002 and gbsz == 256 and seed == 1")[["N", "D", "loss"]]
    table["run_id"] = [f"r{k}" for k in range(len(table))]
    domains = pd.concat(
        [table.assign(domain=name, loss=table["loss"] * by) for name, by in (("web", 1), ("code", 0.6))]
    )
    found = read(domains, tmp_path)
    assert varying_settings(found.table) == ["domain"]
    assert len(np.unique(cells(found))) == len(domains)
    with pytest.raises(ValueError, match="column 'domain' explains"):
        analyse(found, bootstrap=0)
