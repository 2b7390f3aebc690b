"""The table of jobs: what it prints is what it was given."""

import pytest

from scaling.launch.jobs import Job
from scaling.launch.table import LiveTable
from scaling.records.attempt import FAILED
from scaling.terminal import flagged, terminal

WHY = "RuntimeError: [enforce fail at alloc.cpp:64] [/x] :smile:"


def ended() -> Job:
    job = Job("+sweep=s data.source.paths=[/abs/path] question=[/x]", None, status=FAILED, why=WHY)
    job.started, job.ended = 0.0, 1.0
    return job


def test_brackets_in_labels_and_errors_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    with LiveTable([ended()], []):
        pass
    printed = capsys.readouterr().err
    assert "data.source.paths=[/abs/path] question=[/x] failed" in printed
    assert WHY in printed


def test_a_terminal_shows_a_label_with_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    table = LiveTable([ended()], [])
    console = terminal(width=200)
    with console.capture() as shown:
        console.print(table._table())
        console.print(flagged("warning", "[/x]"))
    assert "data.source.paths=[/abs/path] question=[/x]" in shown.get()
    assert "warning [/x]" in shown.get()
