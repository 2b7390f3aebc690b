"""From sweep to report, on the CPU, as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scaling.plan.plan_file import read_plan
from scaling.records.record import read_records
from tests.examples import SHORT

SCALING = Path(sys.executable).parent / "scaling"
TINY = ["data=synthetic", "data.source.tokens=200000", "val_tokens=2048", *SHORT]


def scaling(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCALING, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def test_sweep_to_report(tmp_path: Path) -> None:
    trained = scaling("train", "+sweep=smoke", "-m", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert "15 runs: 15 done" in trained.stderr
    study = tmp_path / "runs" / "smoke"
    records = read_records(study)
    assert len(records) == 15
    for record in records:
        assert record.budget_flops is not None
        assert record.train_flops == pytest.approx(record.budget_flops, rel=0.01)
    assert {line["run_id"] for line in read_plan(study)} == {record.run_id for record in records}
    again = scaling("train", "+sweep=smoke", "-m", "tracker=none", cwd=tmp_path)  # on both sides of a flag
    assert "0 to train" in again.stderr
    status = scaling("status", "runs/smoke", cwd=tmp_path)
    assert status.stdout.strip().endswith("15 done")
    reported = scaling("report", "runs/smoke", "--bootstrap", "100", cwd=tmp_path)
    assert reported.returncode == 0, reported.stderr
    page = (study / "report" / "report.html").read_text()
    assert "isoFLOP" in page
    results = json.loads((study / "results.json").read_text())
    assert len(results["isoflop"]["budgets"]) == 3
    predicted = scaling("predict", "runs/smoke/results.json", "--flops", "1e10", cwd=tmp_path)
    assert predicted.returncode == 0, predicted.stderr
    assert "N*" in predicted.stdout


def test_hydras_own_basic_launcher_and_sweeper_work_too(tmp_path: Path) -> None:
    command = [
        "train",
        "-m",
        *TINY,
        "budget.flops=1e9,2e9",
        "hydra/launcher=basic",
        "hydra/sweeper=basic",
        "study=b",
    ]
    done = scaling(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(read_records(tmp_path / "runs" / "b")) == 2


def test_python_m_scaling_train_is_the_same_command(tmp_path: Path) -> None:
    module = [sys.executable, "-m", "scaling.train", *TINY, "budget.flops=1e7", "runtime.progress=false"]
    done = subprocess.run(module, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (record,) = read_records(tmp_path / "runs" / "default")
    assert record.run_id in done.stdout
    assert scaling("train", *TINY, "budget.flops=1e7", cwd=tmp_path).returncode == 0
    assert len(read_records(tmp_path / "runs" / "default")) == 1


def test_one_bad_run_fails_the_sweep_honestly_and_loses_no_other(tmp_path: Path) -> None:
    command = ["train", "-m", *TINY, "budget.flops=1e9", "study=d"]
    # A rate this high diverges, which is an answer; a checkpoint folder that cannot be made is a failure.
    diverged = scaling(*command, "recipe.learning_rate.value=1e-3,1e9", "recipe.clip_norm=null", cwd=tmp_path)
    assert diverged.returncode == 0, diverged.stderr
    assert "1 diverged, 1 done" in diverged.stderr
    assert "training loss" in diverged.stderr
    seeds = [*command, "seed=1,2,3"]
    study = tmp_path / "runs" / "d"
    planned = json.loads(scaling("plan", *seeds[2:], "--json", cwd=tmp_path).stdout)["runs"]
    broken = study / next(run["run_id"] for run in planned if run["status"] == "planned")
    broken.mkdir()
    (broken / "checkpoint").touch()
    failed = scaling(*seeds, cwd=tmp_path)
    assert failed.returncode == 1
    assert "1 failed" in failed.stderr
    assert len(read_records(study)) == 4
    log = failed.stderr.split("look at ")[1].split()[0]
    assert "FileExistsError" in (tmp_path / log).read_text()
    (broken / "checkpoint").unlink()
    mended = scaling(*seeds, cwd=tmp_path)
    assert mended.returncode == 0
    assert "1 to train" in mended.stderr
