"""Runs on W&B, offline, read back with its own tool."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from scaling.records.life import Reporter
from scaling.records.record import read_metrics
from scaling.trackers import check_trackers, start_trackers
from scaling.trackers.tracker import DASHBOARD_NAMES, Attachments, TrackedRun, TrackedTable
from scaling.train import gradient_noise
from scaling.train.lockstep import train_stack
from tests.examples import asked, runtime_in
from tests.train.test_loop import DATA, run, spec_for


def read_back(folder: Path, run_id: str = "*") -> list[dict[str, Any]]:
    """The rows of the one offline run under a folder, as `wandb leet inspect` shows them."""
    (file,) = folder.glob(f"wandb/offline-run-*-{run_id}/*.wandb")
    wandb = Path(sys.executable).parent / "wandb"
    shown = subprocess.run([wandb, "leet", "inspect", "--json", file], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in shown.stdout.splitlines() if line.startswith("{")]


def test_wandb_offline_mirrors_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradient_noise, "EVERY", 8)
    spec = spec_for()
    settings = {"mode": "offline", "project": "p", "dir": str(tmp_path), "tags": ["mine", 7]}
    record = run(spec, tmp_path, trackers=("wandb",), tracker_settings=settings)
    said = read_back(tmp_path)
    started = next(entry["run"] for entry in said if entry["type"] == "run")
    assert (started["run_id"], started["run_group"], started["job_type"]) == (spec.run_id, "s", "pretrain")
    assert started["tags"] == ["decoder", "causal", "synthetic", "adamw", "mine", "7"]
    assert started["display_name"].endswith("params, 1e6 FLOPs, 5.12k tokens, seed 0")
    assert started["config"]["update"]["n_params"] == record.n_params
    assert started["config"]["update"]["recipe"]["optimizer"]["learning_rate"] == 1e-3
    metric = next(entry["metric"] for entry in said if entry["type"] == "metric")
    assert (metric["glob_name"], metric["step_metric"]) == ("*", "train/tokens")
    mirrored = [entry["history"]["item"] for entry in said if entry["type"] == "history"]
    on_disk = read_metrics(tmp_path / "s" / spec.run_id)
    assert len(mirrored) == len(on_disk) == 10
    for ours, theirs in zip(on_disk, mirrored, strict=True):
        for key, name in DASHBOARD_NAMES.items():
            if ours.get(key) is not None:
                assert theirs[name] == pytest.approx(ours[key])
        assert theirs["perf/mfu"] > 0
    assert {name for row in mirrored for name in row} >= {"val/loss", "noise/steps", "train/grad_norm", "perf/mfu"}
    summary = summarised(said)
    assert summary["status"] == "done"
    for name in ("val_loss_nats", "val_loss_se_nats", "wall_s", "git_commit", "train_flops"):
        assert summary[name] == getattr(record, name)
    assert summary["hardware.device"] == "cpu"


def summarised(said: list[dict[str, Any]]) -> dict[str, Any]:
    """The last values of a run's summary."""
    updates = (entry["summary"].get("update", {}) for entry in said if entry["type"] == "summary")
    return {name: value for update in updates for name, value in update.items()}


def test_an_analysis_is_a_run_with_figures_tables_and_an_artifact(tmp_path: Path) -> None:
    results, figure = tmp_path / "results.json", tmp_path / "loss.png"
    results.write_text("{}")
    plt.imsave(figure, np.zeros((4, 4)))
    run = TrackedRun("analysis-1", "s", "analysis", "analysis of s", {"runs": 3})
    settings = {"mode": "offline", "project": "p", "dir": str(tmp_path)}
    tracker = start_trackers(["wandb"], run, settings)
    table = TrackedTable("laws", ["parameter", "value"], [["E", 1.7], ["alpha", 0.3]])
    tracker.attach(Attachments({"loss": figure}, [results], [table]))
    tracker.finish("done", {"chinchilla": {"E": 1.7}})
    said = read_back(tmp_path)
    logged = {key for entry in said if entry["type"] == "history" for key in entry["history"]["item"]}
    assert {"figures/loss", "tables/laws"} <= {key.partition(".")[0] for key in logged}
    assert summarised(said)["chinchilla.E"] == 1.7
    requested = json.dumps([entry for entry in said if "artifact" in entry["type"]] or said)
    assert "s-analysis" in requested
    assert "results.json" in requested


def test_a_missing_key_is_found_before_a_run_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wandb.login", lambda **_: False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    check_trackers(["wandb"], {"mode": "offline"})
    with pytest.raises(ValueError, match=r"no API key .* tracker\.settings\.mode=offline needs none"):
        check_trackers(["wandb"], {"mode": None})


def test_every_run_of_a_stack_is_mirrored_as_its_own(tmp_path: Path) -> None:
    settings: dict[str, str | None] = {"mode": "offline", "project": "p", "dir": str(tmp_path)}
    runtime = runtime_in(tmp_path, trackers=("wandb",), tracker_settings=settings)
    specs = [replace(spec_for(), seed=seed) for seed in (0, 1)]
    train_stack([asked(spec, DATA, runtime, 1e6) for spec in specs], [Reporter() for spec in specs])
    for spec in specs:
        mirrored = [
            entry["history"]["item"] for entry in read_back(tmp_path, spec.run_id) if entry["type"] == "history"
        ]
        losses = [row["train_loss"] for row in read_metrics(tmp_path / "s" / spec.run_id)]
        assert [row["train/loss"] for row in mirrored] == pytest.approx(losses)
