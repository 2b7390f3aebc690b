"""A study with its results, for forecasts about it."""

from pathlib import Path
from typing import Any

import pytest

from scaling.analysis.results.document import analyse, write
from scaling.analysis.runs.observations import load
from tests.analysis import simulated


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A study with its results."""
    study = simulated.write_study(tmp_path_factory.mktemp("runs") / "study", points=3)
    results = analyse(load(study), bootstrap=20, holdout=None)
    write(results, study / "results.json")
    return study, results


@pytest.fixture
def study(fitted: tuple[Path, Any], tmp_path: Path) -> Path:
    """A folder of the same name for forecasts, with the study's own runs."""
    folder = tmp_path / "study"
    folder.mkdir()
    for path in fitted[0].iterdir():
        (folder / path.name).symlink_to(path)
    return folder
