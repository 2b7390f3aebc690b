"""Reporters: the line of a run that trains alone, and the outcome that a launcher receives."""

import io
from dataclasses import replace
from pathlib import Path

import pytest

from scaling.launch.jobs import Channel, Message
from scaling.launch.reporting import ProgressReporter, report_outcome, reporting_to
from scaling.records.record import DIVERGED
from scaling.terminal import Terminal
from tests.examples import RECORD


@pytest.mark.parametrize("width", [80, 100, 140])
def test_a_progress_line_fits_its_terminal(width: int) -> None:
    console = Terminal(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    reporter = ProgressReporter(console)
    reporter.claimed(Path(), "0123456789ab", 100_000, 0)
    reporter.row(
        {"step": 99_999, "train_loss": 9.999, "val_loss": 9.999, "tokens_per_s": 999_000, "flops_per_s": 99.9e9}
    )
    line, *more = ["".join(part.text for part in row) for row in console.render_lines(reporter._progress)]
    reporter.close()
    assert not more
    assert "step 99,999/100,000 loss 9.999 (val 9.999) 999k tokens/s" in line
    assert ("0123456789ab" in line and "99.9 GFLOP/s" in line) == (width >= 100)


@pytest.mark.parametrize(
    ("statuses", "outcome"),
    [(["diverged"], "diverged"), (["diverged"] * 2, "diverged"), (["done", "diverged", "done"], "1 diverged, 2 done")],
)
def test_a_launcher_learns_how_runs_ended(statuses: list[str], outcome: str) -> None:
    assert DIVERGED in statuses
    sent: list[Message] = []
    with reporting_to(Channel(sent.append, None, 1)):
        report_outcome([replace(RECORD, status=status) for status in statuses])
    assert sent == [("news", {"outcome": outcome})]
