"""The end of a sweep: every planned run is accounted for."""

from pathlib import Path
from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobStatus

from scaling.config.config import compose, to_run
from scaling.launch.jobs import Job, JobEndedError
from scaling.launch.sweep import launch_plan
from scaling.plan.plan import make_plan
from scaling.records.attempt import FAILED, INTERRUPTED
from scaling.terminal import terminal

TINY = ["data=synthetic", "data.source.tokens=10000", "budget.flops=1e7", "model.d_model=16", "model.n_layers=1"]


def concluded(status: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The last lines of a sweep of one run whose job ends so before it has claimed its run."""
    run = to_run(compose([*TINY, f"runs_dir={tmp_path}"]))
    log = tmp_path / "log.txt"
    log.touch()

    def launch(jobs: list[list[str]], **_: Any) -> list[JobReturn]:
        outcome = JobReturn(status=JobStatus.FAILED)
        outcome.return_value = JobEndedError(Job("a", None, status=status, why=why, log=log))
        return [outcome]

    with pytest.raises(SystemExit):
        launch_plan(make_plan([run], None), [], launch, terminal(stderr=True))
    return capsys.readouterr().err


def test_a_run_that_failed_before_its_claim_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = concluded(FAILED, "ValueError: [no] such file", tmp_path, capsys)
    assert "1 runs: 1 failed" in printed
    assert f"failed at step 0: ValueError: [no] such file; look at {tmp_path / 'log.txt'}" in printed


def test_a_run_that_was_stopped_before_its_claim_is_not_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "1 runs: 1 interrupted" in concluded(INTERRUPTED, "not started", tmp_path, capsys)
