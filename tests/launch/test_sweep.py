"""The end of a sweep: every planned run is accounted for."""

import math
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobStatus

from scaling.config.config import compose, to_run
from scaling.launch.jobs import Job, JobEndedError
from scaling.launch.sweep import launch_plan
from scaling.plan.plan import make_plan
from scaling.records.attempt import FAILED, PREEMPTED
from scaling.records.record import DIVERGED, DONE, read_records
from scaling.terminal import terminal
from tests.examples import SHORT
from tests.test_pipeline import SCALING

TINY = [
    "data=synthetic",
    "data.source.tokens=10000",
    *SHORT,
    "budget.flops=1e7",
    "model.d_model=16",
    "model.n_layers=1",
]


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
    assert "1 runs: 1 preempted" in concluded(PREEMPTED, "not started", tmp_path, capsys)


SWEEPER = """
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper

class Toy(Sweeper):
    def setup(self, *, hydra_context, task_function, config):
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments):
        jobs = [[*arguments, f"recipe.learning_rate.value={rate}"] for rate in (1e-3, 1e12)]
        losses = [outcome.return_value for outcome in self._launcher.launch(jobs, initial_job_idx=0)]
        print("losses", *losses)
"""


@pytest.mark.parametrize("launcher", ["in_process", "basic"])
def test_an_optimising_sweeper_gets_the_loss_and_infinity_for_a_run_that_diverged(
    launcher: str, tmp_path: Path
) -> None:
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins" / "toy.py").write_text(SWEEPER)
    (tmp_path / "conf" / "hydra" / "sweeper").mkdir(parents=True)
    (tmp_path / "conf" / "hydra" / "sweeper" / "toy.yaml").write_text("_target_: hydra_plugins.toy.Toy\n")
    asked = ["hydra/sweeper=toy", f"hydra/launcher={launcher}", "recipe.clip_norm=null", "budget.flops=1e9", *TINY[:2]]
    swept = subprocess.run(
        [SCALING, "train", "-m", *asked, "val_tokens=1024"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert swept.returncode == 0, swept.stderr
    (line,) = (line for line in swept.stdout.splitlines() if line.startswith("losses "))
    lost = {record.status: record.val_loss_nats for record in read_records(tmp_path / "runs" / "default")}
    assert [float(word) for word in line.split()[1:]] == [lost[DONE], math.inf]
    assert set(lost) == {DONE, DIVERGED}
