"""An analysis as a run of its own in the trackers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from scaling import trackers
from scaling.analysis.results.document import analyse
from scaling.analysis.runs.observations import load
from scaling.cli import main
from scaling.cli.mirrored_analysis import AnalysisTrackers
from scaling.trackers.tracker import Attachments, TrackedRun
from tests.examples import SilentTracker


def test_an_analysis_is_a_run_with_its_laws_runs_and_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    heard: dict[str, Any] = {}

    class Recording(SilentTracker):
        settings = ("dir", "mode", "project", "entity")
        where = "https://tracker/analysis"

        def __init__(self, run: TrackedRun, settings: Mapping[str, Any]) -> None:
            heard["run"], heard["settings"] = run, settings

        def attach(self, attachments: Attachments) -> None:
            heard["attached"] = attachments

        def finish(self, status: str, summary: Mapping[str, Any]) -> None:
            heard["end"] = status, summary

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(trackers.TRACKERS, "wandb", Recording)
    rows = [(n, d, 1.8 + 480 * n**-0.35 + 2e3 * d**-0.37) for n in (1e7, 4e7, 2e8) for d in (2e9, 1e10, 8e10)]
    Path("runs.csv").write_text(
        "params,tokens,loss\n" + "".join(f"{n:.0f},{d:.0f},{loss:.9f}\n" for n, d, loss in rows)
    )
    results = analyse(load(["runs.csv"]), laws=["chinchilla"], bootstrap=0, holdout=None)
    Path("results.json").write_text(json.dumps(results))
    figure, page = tmp_path / "figures" / "isoflop.png", tmp_path / "report.html"
    figure.parent.mkdir()
    figure.touch()
    asked = AnalysisTrackers(["wandb"], ["tracker.settings.mode=offline"], tmp_path / "it's runs")
    asked.mirror("", results, Path("results.json"), page)
    assert (heard["settings"]["mode"], heard["settings"]["dir"]) == ("offline", str(tmp_path / "it's runs"))
    assert (heard["run"].kind, heard["run"].name, heard["run"].tags) == ("analysis", "analysis of runs", ("analysis",))
    attached = heard["attached"]
    assert attached.figures == {"isoflop": figure}
    assert attached.files == (Path("results.json"), page)
    laws, runs = attached.tables
    assert ["chinchilla", "converged", "alpha", pytest.approx(0.35, abs=1e-3), None, None] in laws.rows
    assert len(runs.rows) == 9
    status, summary = heard["end"]
    assert (status, summary["runs"]) == ("done", 9)
    assert summary["law"]["chinchilla"]["E"] == pytest.approx(1.8, abs=1e-3)
    assert "analysis of runs: https://tracker/analysis" in capsys.readouterr().out


@pytest.mark.parametrize("where", [1, 2, 4])
def test_settings_without_a_tracker_are_refused(where: int, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["runs.csv", "--bootstrap", "0"]
    arguments.insert(where - 1, "tracker.settings.mode=offline")
    assert main(["report", *arguments]) == 2
    assert "tracker.settings.mode=offline sets no tracker: add --tracker NAME" in capsys.readouterr().err
    assert main(["report", *arguments, "seed=1", "--tracker", "wandb"]) == 2
    assert "seed=1: a report takes no setting but those of its trackers" in capsys.readouterr().err


def test_an_unknown_tracker_is_refused_before_the_analysis(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "runs.csv", "--tracker", "wandbb"]) == 2
    assert "unknown tracker 'wandbb': did you mean 'wandb'?" in capsys.readouterr().err
