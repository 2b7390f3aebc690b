"""Prices of profiled runs: the front is what nothing beats, and only what compares is compared."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scaling.analysis import figures
from scaling.analysis.figures.chart import Absent, Chart
from scaling.analysis.judgement.prices import front, prices_section
from scaling.analysis.runs.observations import load
from tests.analysis import simulated


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulated.write_study(tmp_path_factory.mktemp("runs") / "study", points=3)


def test_the_front_is_what_no_other_run_beats() -> None:
    rng = np.random.default_rng(0)
    price, loss = rng.integers(1, 12, 60).astype(float), rng.integers(1, 12, 60).astype(float)
    price[3] = loss[4] = np.nan
    kept = front(price, loss)

    def beaten(k: int) -> bool:
        no_dearer, better = price <= price[k], loss < loss[k]
        cheaper = (price < price[k]) & (loss <= loss[k])
        return bool((no_dearer & better).any() or cheaper.any())

    wanted = {(price[k], loss[k]) for k in range(60) if price[k] == price[k] and loss[k] == loss[k] and not beaten(k)}
    assert {(price[k], loss[k]) for k in kept} == wanted
    assert len(kept) == len(wanted)
    assert (np.diff(price[kept]) > 0).all()
    assert (np.diff(loss[kept]) < 0).all()


def test_a_study_with_profiles_has_its_prices(study: Path) -> None:
    observations = load(study)
    section = prices_section(observations)
    assert section is not None
    assert set(section["measures"]) == {"bytes", "train_flops", "prefill", "token", "memory"}
    stored = section["measures"]["bytes"]["series"]
    assert set(stored) == {"fp32", "bf16", "int8"}
    np.testing.assert_allclose(stored["fp32"]["price"], 4 * np.array(stored["int8"]["price"]))
    np.testing.assert_allclose(np.subtract(stored["int8"]["loss"], stored["fp32"]["loss"]), 0.01)
    np.testing.assert_allclose(stored["fp32"]["loss"], observations.column("loss"))


def test_seconds_of_other_machines_and_stale_profiles_are_left_out(study: Path, tmp_path: Path) -> None:
    root = simulated.write_study(tmp_path / "study", points=3)

    def change(run: str, **changes: Any) -> None:
        path = root / run / "profile.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    change("run00", hardware={"name": "another", "device": "cpu", "threads": 1})
    change("run01", weights_sha256="retrained")
    section = prices_section(load(root))
    assert section is not None
    assert section["elsewhere"] == 1
    assert "run01" not in section["run_id"]
    token = section["measures"]["token"]["series"][""]["price"]
    assert token[section["run_id"].index("run00")] is None
    assert None not in section["measures"]["bytes"]["series"]["int8"]["price"]


def test_without_profiles_there_is_no_section_and_the_figure_says_how_to_get_one(tmp_path: Path) -> None:
    observations = simulated.observe(simulated.table(), tmp_path)
    assert prices_section(observations) is None
    found = figures.CHARTS["prices"]({"prices": None})
    assert isinstance(found, Absent)
    assert "scaling profile" in found.why


def test_the_figure_has_a_panel_a_price(study: Path) -> None:
    observations = load(study)
    results = {"prices": prices_section(observations), "conventions": dict(observations.conventions)}
    chart = figures.CHARTS["prices"](results)
    assert isinstance(chart, Chart)
    assert sum(panel is not None for panel in chart.panels) == 5
