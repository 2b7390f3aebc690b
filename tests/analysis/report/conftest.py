"""Results that reports are written from."""

from typing import Any

import pytest

from scaling.analysis.runs.observations import load
from tests.analysis import simulated
from tests.analysis.conformance import analyse

Results = dict[str, Any]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    root = tmp_path_factory.mktemp("runs") / "study"
    simulated.write_study(root, points=150, repeats=2)
    found = analyse(load(root, curves=True), laws=("chinchilla", "gamma", "power:C"), bootstrap=60)
    return simulated.with_forecast(found, root)


@pytest.fixture(scope="module")
def averaged(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Results that the log mean of forecasters answers."""
    folder = tmp_path_factory.mktemp("averaged")
    return analyse(simulated.observe(simulated.table(noise_nats=0.01, seeds=2), folder), bootstrap=5)
