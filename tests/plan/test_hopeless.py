"""Hopeless runs are cancelled with the reason, where the setting asks for it, and never enter a fit unnamed."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scaling.analysis.runs.readers import read_study
from scaling.plan.hopeless import hopeless
from scaling.plan.run import Run
from scaling.records.attempt import run_state
from scaling.records.life import Reporter
from scaling.records.orders import let_retry
from scaling.records.record import publish_record
from scaling.spec.budget import Budget
from scaling.spec.run_spec import to_dict
from scaling.train.run import train_run
from tests.examples import RECORD, asked, runtime_in
from tests.train.test_loop import DATA, spec_for

SPEC = spec_for()


def run_of(path: Path, stop_early: float | None) -> Run:
    run = asked(SPEC, DATA, runtime_in(path), 1e6)
    return replace(run, budget=replace(run.budget, stop_early=stop_early))


def finished(path: Path, loss: float, **changes: Any) -> None:
    """A finished run of the study that cost a FLOP."""
    folder = path / "s" / "cheap"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text("{}")
    values = {"run_id": "cheap", "val_loss_nats": loss, "train_flops": 1, "spec": to_dict(SPEC)} | changes
    assert publish_record(folder, replace(RECORD, **values))


def test_a_run_is_judged_late_against_cheaper_runs_on_the_same_data(tmp_path: Path) -> None:
    row = {"step": 20, "flops": 100, "val_loss": 3.3}
    (tmp_path / "s").mkdir()
    run = run_of(tmp_path, 0.1)
    assert hopeless(run_of(tmp_path, 0.05), row) == ""  # nothing to compare with
    finished(tmp_path, 2.9)
    assert "14% above the 2.9000 of run cheap, which cost no more FLOPs (budget.stop_early=0.1)" in hopeless(run, row)
    assert hopeless(run_of(tmp_path, None), row) == ""
    assert hopeless(run_of(tmp_path, 0.2), row) == ""
    assert hopeless(run, row | {"step": 19}) == ""
    assert hopeless(run, row | {"step": 40}) == ""
    assert hopeless(run, {"step": 20, "flops": 100}) == ""
    finished(tmp_path, 2.9, train_flops=101)
    assert hopeless(run, row) == ""
    finished(tmp_path, 2.9, spec=to_dict(replace(SPEC, data=replace(SPEC.data, noise=0.5))))
    assert hopeless(run, row) == ""


def test_a_hopeless_run_is_cancelled_named_by_the_fit_and_goes_on_after_retry(tmp_path: Path) -> None:
    finished(tmp_path, 0.5)
    run = run_of(tmp_path, 0.1)
    with pytest.raises(KeyboardInterrupt):
        train_run(run, Reporter())
    state = run_state(run.directory)
    assert state.status == "cancelled"
    assert state.why.startswith("hopeless: validation loss ")
    assert 20 <= state.step < 40
    excluded = {one.run_id: one.reason for one in read_study(tmp_path / "s").excluded}
    assert excluded[SPEC.run_id] == f"cancelled: {state.why}"
    let_retry(run.directory, 1)
    assert train_run(run, Reporter()).status == "done"


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"budget\.stop_early=0\.0: must be above 0"):
        Budget(1e9, None, None, 0.1, 20, stop_early=0.0)
