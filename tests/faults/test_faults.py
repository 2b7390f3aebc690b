"""A short run of every scenario, of the slow ones by `make long`; `make faults` runs them at length."""

from pathlib import Path

import pytest

from tests.faults.scenarios import SCENARIOS

SLOW = (
    "signals",
    "launchers",
    "damaged-studies",
    "full-disk",
    "read-only",
    "limits",
    "containers",
    "workers",
    "two-kinds",
    "preemption",
    "slurm",
    "ray",
)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] if name in SLOW else []) for name in SCENARIOS]
)
def test_no_injury_loses_a_run_or_changes_its_record(name: str, tmp_path: Path) -> None:
    scenario = SCENARIOS[name]
    if why := scenario.missing():
        pytest.skip(f"{name}: {why}")
    assert scenario.run(tmp_path, long=False).injuries > 0
