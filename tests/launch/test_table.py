"""The table of jobs: what it prints is what it was given."""

import pytest

from scaling.launch.jobs import Job
from scaling.launch.table import LiveTable
from scaling.records.attempt import FAILED
from scaling.records.record import DONE
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


@pytest.mark.parametrize("outcome", ["diverged", "1 diverged, 1 done"])
def test_a_diverged_run_is_not_done_and_its_last_loss_is_no_result(
    outcome: str, capsys: pytest.CaptureFixture[str]
) -> None:
    job = Job("seed=0", None, status=DONE, latest={"outcome": outcome, "train_loss": 30390947840.0, "val_loss": 3e10})
    job.started, job.ended = 0.0, 1.0
    with LiveTable([job], []):
        pass
    assert capsys.readouterr().err.splitlines()[-1].split("] ")[1] == f"seed=0 {outcome} in 1.0 s"


@pytest.mark.parametrize(("width", "speeds"), [(60, False), (80, True)])
def test_a_narrow_terminal_keeps_every_run_on_its_line(
    width: int, speeds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    latest = {"step": 1234, "steps": 4710, "train_loss": 3.21, "tokens_per_s": 43e3, "flops_per_s": 12e9}
    jobs = [Job(f"N=154k C=1e+12 D=904k seed={k}", None, status="running", latest=latest) for k in range(3)]
    for job in jobs:
        job.started = 0.0
    title, head, *rows = LiveTable(jobs, [])._table().plain.splitlines()
    assert title.startswith("0 of 3 runs ended")
    assert max(map(len, (head, *rows))) <= width
    assert [row.split()[3] for row in rows] == ["seed=0", "seed=1", "seed=2"]
    assert ("tokens/s" in head) == speeds


def test_a_terminal_shows_a_label_with_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    table = LiveTable([ended()], [])
    console = terminal(width=200)
    with console.capture() as shown:
        console.print(table._table())
        console.print(flagged("warning", "[/x]"))
    assert "data.source.paths=[/abs/path] question=[/x]" in shown.get()
    assert "warning [/x]" in shown.get()
