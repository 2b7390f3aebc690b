"""The status of a study: size, budget and time left of its runs, and what happens without an argument."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from scaling.cli import main
from scaling.plan.status import study_status
from scaling.records.attempt import Heartbeat, claim
from scaling.records.record import DIVERGED, publish_record
from scaling.spec.run_spec import to_dict
from tests.examples import RECORD, SPEC

LINE = {
    "n_params": {"non_embedding": 154_080},
    "requested_flops": 1e12,
    "train_tokens": 904_320,
    "steps": 1000,
    "batch_tokens": 192,
    "seed": 0,
    "estimated_s": 30.0,
}


def study(path: Path, *ids: str) -> Path:
    path.mkdir(parents=True)
    (path / "plan.jsonl").write_text("".join(json.dumps({"run_id": run_id, **LINE}) + "\n" for run_id in ids))
    return path


def train(run_dir: Path, **report: Any) -> None:
    """Leave the files of a run that this process trains."""
    run_dir.mkdir(parents=True)
    (run_dir / "spec.json").write_text(json.dumps(to_dict(SPEC)))
    with Heartbeat(claim(run_dir, 0, {})) as heartbeat:
        heartbeat.report = report


def test_time_left_follows_the_speed_of_the_runs_that_train(tmp_path: Path) -> None:
    folder = study(tmp_path / "s", "a", "b", "c")
    train(folder / "a", step=400, tokens_per_s=1920.0, loss_nats=3.0)
    status = study_status(folder)
    assert [run.left_s for run in status.runs] == [pytest.approx(600 * 192 / 1920), None, None]
    # 60 s where the plan has 18 s: the two runs that wait take 100 s each
    assert status.left_s == pytest.approx(60 + 2 * 100)


def test_a_table_of_80_columns_shows_size_budget_and_time_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    folder = study(tmp_path / "s", "a" * 12, "b" * 12)
    train(folder / ("a" * 12), step=400, tokens_per_s=1920.0, loss_nats=3.0)
    assert main(["status", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[1:])) <= 80
    assert {"run", "status", "N", "C", "step", "loss", "left"} <= set(lines[1].split())
    assert {"154k", "1e+12", "400/1,000", "3.0000", "60.0", "s"} <= set(lines[3].split())
    assert lines[-1] == "1 planned, 1 running; about 2.7 min left with 1 at once"


def test_a_diverged_run_shows_no_loss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = tmp_path / "s" / RECORD.run_id
    run_dir.mkdir(parents=True)
    (run_dir / "spec.json").write_text("{}")
    assert publish_record(run_dir, type(RECORD)(**vars(RECORD) | {"status": DIVERGED, "val_loss_nats": 30390947840.0}))
    assert main(["status", str(tmp_path / "s")]) == 0
    printed = capsys.readouterr().out
    assert "diverged" in printed
    assert "30390947840" not in printed


def test_a_run_without_a_plan_has_the_counts_of_its_spec(tmp_path: Path) -> None:
    train(tmp_path / "s" / SPEC.run_id, step=1)
    (run,) = study_status(tmp_path / "s").runs
    assert (run.train_tokens, run.steps, run.seed) == (SPEC.train_tokens, SPEC.recipe.steps, SPEC.seed)
    assert run.n_params


def test_json_holds_what_the_table_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = study(tmp_path / "s", "a")
    assert main(["status", str(folder), "--json"]) == 0
    (printed,) = json.loads(capsys.readouterr().out)["studies"]
    (run,) = printed["runs"]
    assert (run["run_id"], run["n_params"], run["budget_flops"], run["status"]) == ("a", 154_080, 1e12, "planned")
    assert set(asdict(study_status(folder).runs[0].state)) < set(run)
    assert printed["eta_s"] is None


def test_the_only_study_needs_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["status"]) == 2
    assert "scaling status: runs/ holds no study; name a study's folder" in capsys.readouterr().err
    study(tmp_path / "runs" / "one", "a")
    (tmp_path / "runs" / "cache").mkdir()
    assert main(["status"]) == 0
    assert capsys.readouterr().out.startswith("runs/one\n")
    study(tmp_path / "runs" / "two", "a")
    assert main(["status"]) == 2
    assert "holds 2 studies: choose from runs/one, runs/two" in capsys.readouterr().err
