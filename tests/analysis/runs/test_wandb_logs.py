"""Runs that W&B logged."""

from pathlib import Path

import pytest

from scaling.analysis.runs import wandb_logs
from scaling.analysis.runs.wandb_logs import LoggedRun


def test_the_mirror_of_a_report_is_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last = {"train/tokens": 64, "val/loss": 2.5}
    logged = {
        "run-a.wandb": LoggedRun("a", config={"n_params": {"total": 7}}, history=[last], state="finished"),
        "run-b.wandb": LoggedRun("b", job_type="analysis", history=[{"law/E": 1.7}], state="finished"),
    }
    for name in logged:
        (tmp_path / name).touch()
    monkeypatch.setattr(wandb_logs, "_inspect", lambda path: logged[path.name])
    reading = wandb_logs.read_folder(tmp_path, curves=False)
    assert list(reading.table["run_id"]) == ["a"]
    assert reading.excluded == ()
