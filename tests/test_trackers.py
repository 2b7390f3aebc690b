"""Mirrors of a run: W&B offline, read back with its own tool."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scaling.records.life import Reporter
from scaling.records.record import read_metrics
from scaling.trackers import DASHBOARD_NAMES, start_tracker
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
    settings = {"mode": "offline", "project": "p", "dir": str(tmp_path)}
    record = run(spec, tmp_path, tracker="wandb", tracker_settings=settings)
    said = read_back(tmp_path)
    started = next(entry["run"] for entry in said if entry["type"] == "run")
    assert (started["run_id"], started["run_group"]) == (spec.run_id, "s")
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
    assert {name for row in mirrored for name in row} >= {"val/loss", *DASHBOARD_NAMES.values()} - {
        "val/bpb",
        "train/next_sentence_loss",
        "val/next_sentence_loss",
    }


def test_every_run_of_a_stack_is_mirrored_as_its_own(tmp_path: Path) -> None:
    settings: dict[str, str | None] = {"mode": "offline", "project": "p", "dir": str(tmp_path)}
    runtime = runtime_in(tmp_path, tracker="wandb", tracker_settings=settings)
    specs = [replace(spec_for(), seed=seed) for seed in (0, 1)]
    train_stack([asked(spec, DATA, runtime, 1e6) for spec in specs], [Reporter() for spec in specs])
    for spec in specs:
        mirrored = [
            entry["history"]["item"] for entry in read_back(tmp_path, spec.run_id) if entry["type"] == "history"
        ]
        losses = [row["train_loss"] for row in read_metrics(tmp_path / "s" / spec.run_id)]
        assert [row["train/loss"] for row in mirrored] == pytest.approx(losses)


def test_unknown_trackers_list_the_choices() -> None:
    with pytest.raises(ValueError, match="unknown tracker 'wandbb': did you mean 'wandb'"):
        start_tracker("wandbb", "0", "s", {}, {})
