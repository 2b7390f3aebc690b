"""Damaged files: every file that a killed run, or a finished study, leaves is damaged in every way."""

import contextlib
import io
import shutil
import signal
import traceback
from pathlib import Path

from scaling.cli import main
from tests.analysis.simulated import write_study
from tests.damage import DAMAGE
from tests.faults.kills import count_changes, resume
from tests.faults.runs import Tally, check, ended, expected_runs, forked

EVERY = 11  # of the cases, in a short run
ROWS = ("metrics.jsonl", "meta.json")  # hold an attempt's metric rows, which nothing else holds


def damaged_runs(folder: Path, *, long: bool) -> Tally:
    """each file of a run half done and of its cached data: a bit flipped, cut in half, zeros, `null`, gone"""
    half, told, tally = folder / "half", folder / "changes", Tally()
    assert ended(forked(count_changes, half, 0, told)) == 0
    shutil.rmtree(half)
    assert ended(forked(count_changes, half, int(told.read_text()) * 2 // 3, told)) == -signal.SIGKILL
    expected = expected_runs(1)
    paths = sorted(path.relative_to(half) for path in half.rglob("*") if path.is_file())
    cases = [(path, kind) for path in paths for kind in DAMAGE]
    for number, (path, kind) in enumerate(cases if long else cases[::EVERY]):
        here, said = folder / str(number), folder / f"{number}.txt"
        shutil.copytree(half, here)
        DAMAGE[kind](here / path)
        assert ended(forked(resume_or_refuse, here, said)) == 0
        if words := said.read_text():  # refused by the name of the file or its folder, which the user may delete
            assert "Traceback" not in words, f"{path}, {kind}: {words}"
            named = path if str(path) in words else path.parent
            assert str(named) in words, f"{path}, {kind}: {words}"
            shutil.rmtree(here / named) if (here / named).is_dir() else (here / named).unlink()
            assert ended(forked(resume_or_refuse, here, said)) == 0
            assert not said.read_text(), f"{path}, {kind}: {said.read_text()}"
        check(here / "s", expected, rows=path.name not in ROWS)
        tally.injuries, tally.runs = tally.injuries + 1, tally.runs + 1
    return tally


def resume_or_refuse(folder: Path, said: Path) -> None:
    """Train a run; write the message of an error that the command prints as one line, or an unexpected traceback."""
    said.write_text("")
    try:
        resume(folder)
    except ValueError as error:
        said.write_text(str(error))
    except Exception:
        said.write_text(traceback.format_exc())


def damaged_studies(folder: Path, *, long: bool) -> Tally:
    """each file of a finished study, damaged in the same ways, under `status`, `fit` and `report`"""
    whole, tally = write_study(folder / "whole", points=6), Tally()
    assert main_quietly("fit", whole, "--out", str(whole))[0] == 0
    paths = ["run02/record.json", "run02/spec.json", "run02/attempts/0001/metrics.jsonl", "results.json"]
    paths += ["run02/attempts/0001/meta.json", "run02/profile.json"]
    cases = [(path, kind) for path in paths for kind in DAMAGE]
    for number, (path, kind) in enumerate(cases if long else cases[::EVERY]):
        here = folder / str(number)
        shutil.copytree(whole, here)
        DAMAGE[kind](here / path)
        given = [here, here / "results.json"] if path == "results.json" else [here]
        for name, study in [("status", here), ("fit", here), *(("report", one) for one in given)]:
            code, said = main_quietly(name, study)
            assert "Traceback" not in said
            assert code == 0 or path in said, f"{name}, {path}, {kind}: {said}"
        tally.injuries += 1
    return tally


def main_quietly(name: str, data: Path, *options: str) -> tuple[int, str]:
    """The exit code of a command in this process, and what it printed."""
    printed = io.StringIO()
    few = [] if name == "status" else ["--bootstrap", "0", "--holdout", "none"]
    few += ["--out", str(data.parent / f"{data.stem}-out")] if name == "report" else []
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        return main([name, str(data), *few, *options]), printed.getvalue()
