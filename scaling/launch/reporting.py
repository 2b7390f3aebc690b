"""Reporters of a run: to the launcher of this process, or to a progress line on this terminal."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from scaling.launch.jobs import Channel
from scaling.quantities import short, with_unit
from scaling.records.life import Reporter
from scaling.records.record import RunRecord
from scaling.terminal import terminal

# Columns that a progress line takes beside its bar, and more where it shows the run's id and FLOP/s.
LEAST_ROOM = len(" step 100,000/100,000 loss 10.000 (val 10.000) 99.9k tokens/s 00:00 ")
RUN, FLOPS = "0123456789ab ", "  99.9 GFLOP/s"

_channel: Channel | None = None


@contextmanager
def reporting_to(channel: Channel) -> Iterator[None]:
    """A context in which this process reports to the launcher at the other end of `channel`."""
    global _channel
    before, _channel = _channel, channel
    try:
        yield
    finally:
        _channel = before


def is_launched() -> bool:
    """Whether a launcher runs this process's job."""
    return _channel is not None


def report_outcome(records: Sequence[RunRecord]) -> None:
    """Report to the launcher, if any, how the job's runs ended: `diverged`, or `1 diverged, 1 done` of a stack."""
    if _channel is not None and records:
        counts = Counter(record.status for record in records)
        words = [status if len(counts) == 1 else f"{count} {status}" for status, count in sorted(counts.items())]
        _channel.report(outcome=", ".join(words))


def reporter(progress: bool) -> Reporter:
    """The reporter of a run that trains alone in this process."""
    if _channel is not None:
        return ChannelReporter(_channel)
    return ProgressReporter() if progress else Reporter()


def stacked_reporters(run_ids: Sequence[str]) -> list[Reporter]:
    """Reporters of a stack's runs, which are one job of the launcher."""
    if _channel is None:
        return [Reporter() for _ in run_ids]
    latest: dict[str, dict[str, Any]] = {run_id: {} for run_id in run_ids}
    return [StackedReporter(_channel, run_id, latest) for run_id in run_ids]


class ChannelReporter(Reporter):
    """A reporter to the launcher."""

    waits = False

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def claimed(self, attempt_dir: Path, run_id: str, steps: int, start_step: int) -> None:
        self._channel.move_log(attempt_dir / "log.txt")
        self._channel.report(run_id=run_id, steps=steps, step=start_step)

    def row(self, row: dict[str, Any]) -> None:
        self._channel.report(**row)
        print(in_words(row), flush=True)


def in_words(row: dict[str, Any]) -> str:
    """A metric row as one line of a log."""
    return "  ".join(f"{key} {value:.6g}" for key, value in row.items() if value is not None)


class StackedReporter(ChannelReporter):
    """A reporter of one run of a stack; the launcher receives the mean of all runs' latest rows."""

    def __init__(self, channel: Channel, run_id: str, latest: dict[str, dict[str, Any]]) -> None:
        super().__init__(channel)
        self._run_id, self._latest = run_id, latest

    def row(self, row: dict[str, Any]) -> None:
        self._latest[self._run_id].update(row)
        rows = self._latest.values()
        reported = {key: [other[key] for other in rows if other.get(key) is not None] for key in row}
        self._channel.report(**{key: sum(values) / len(values) for key, values in reported.items() if values})
        print(f"{self._run_id}  {in_words(row)}", flush=True)


class ProgressReporter(Reporter):
    """A reporter to a progress line: steps, loss, tokens/s, FLOP/s, time left, as the terminal has room."""

    def __init__(self, console: Console | None = None) -> None:
        console = console or terminal(stderr=True)
        room = console.width - LEAST_ROOM
        self._wide = wide = room >= len(RUN) + len(FLOPS)
        texts = ["step {task.completed:,.0f}/{task.total:,.0f}", "loss {task.fields[loss]}", "{task.fields[speed]}"]
        self._progress = Progress(
            *([TextColumn("{task.description}", markup=False)] if wide else []),
            BarColumn(max(1, min(40, room - (len(RUN) + len(FLOPS) if wide else 0)))),
            *(TextColumn(text, markup=False) for text in texts),
            TimeRemainingColumn(compact=True),
            console=console,
        )
        self._task: TaskID | None = None

    def claimed(self, attempt_dir: Path, run_id: str, steps: int, start_step: int) -> None:
        self._task = self._progress.add_task(run_id, total=steps, completed=start_step, loss="-", speed="")
        self._progress.start()

    def row(self, row: dict[str, Any]) -> None:
        assert self._task is not None
        loss = f"{row['train_loss']:.3f}" + (f" (val {row['val_loss']:.3f})" if "val_loss" in row else "")
        speed = f"{short(row['tokens_per_s'])} tokens/s"
        if self._wide:
            speed += f"  {with_unit(row['flops_per_s'], 'FLOP/s')}"
        self._progress.update(self._task, completed=row["step"], loss=loss, speed=speed)

    def close(self) -> None:
        self._progress.stop()
