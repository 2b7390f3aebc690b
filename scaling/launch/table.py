"""A live table of a launcher's jobs: redrawn on a terminal, one line per ended job in a log."""

import time
from collections.abc import Sequence

from rich import box
from rich.live import Live
from rich.table import Table

from scaling.launch.jobs import Job
from scaling.machine.slots import Slot
from scaling.quantities import short, with_unit
from scaling.records.record import DONE
from scaling.terminal import terminal

REFRESH_S = 0.5
ROWS = 40  # jobs shown at most, running jobs first


class LiveTable:
    """A live table of jobs on their slots."""

    def __init__(self, jobs: Sequence[Job], slots: Sequence[Slot]) -> None:
        self._jobs = jobs
        self._console = terminal(stderr=True)
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._printed: set[int] = set()
        self._next = 0.0
        self._start = time.monotonic()
        slot_count = f"{len(slots)} slots" if len(slots) > 1 else "1 slot"
        stack_count = "1 stack" if len(jobs) == 1 else f"{len(jobs)} stacks"
        stacks = f", in {stack_count}," if len(jobs) < _runs(jobs) else ""
        names = ", ".join(slot.name for slot in slots)
        self._console.print(f"{_runs(jobs)} runs{stacks} over {slot_count} ({names})")

    def __enter__(self) -> "LiveTable":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._next = 0.0
        self.refresh()
        if self._live:
            self._live.stop()

    def refresh(self) -> None:
        """Draw the table again where REFRESH_S have passed; in a log, print the jobs that ended since."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + REFRESH_S
        if self._live:
            self._live.update(self._table(), refresh=True)
            return
        for index, job in enumerate(self._jobs):
            if job.ended is not None and index not in self._printed:
                self._printed.add(index)
                printed = _runs([self._jobs[k] for k in self._printed])
                self._console.print(
                    f"[{printed}/{_runs(self._jobs)}] {_name(job)} {job.status} {_loss(job)} "
                    f"in {_elapsed(job)} {job.why}".rstrip(),
                    soft_wrap=True,
                )

    def _table(self) -> Table:
        done = _runs([job for job in self._jobs if job.ended is not None])
        elapsed = time.monotonic() - self._start
        table = Table(
            title=f"{done} of {_runs(self._jobs)} runs ended, {elapsed:.0f} s",
            title_justify="left",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
        )
        for column in ("run", "slot", "status", "step", "loss", "tokens/s", "FLOP/s", "time"):
            table.add_column(column, justify="left" if column in ("run", "slot", "status") else "right")
        order = sorted(self._jobs, key=lambda job: (job.status != "running", job.ended is None))
        for job in order[:ROWS]:
            latest = job.latest
            table.add_row(
                _name(job),
                job.slot,
                job.status,
                f"{latest.get('step', 0):,}/{latest['steps']:,}" if "steps" in latest else "",
                _loss(job),
                short(latest["tokens_per_s"]) if "tokens_per_s" in latest and job.ended is None else "",
                with_unit(latest["flops_per_s"], "") if "flops_per_s" in latest and job.ended is None else "",
                _elapsed(job),
            )
        return table


def _runs(jobs: Sequence[Job]) -> int:
    return sum(job.runs for job in jobs)


def _name(job: Job) -> str:
    """The last four overrides that are a cell's own settings; overrides common to the sweep are left out."""
    own = [part for part in job.label.split(" ") if "=" in part and not part.startswith(("+", "hydra", "planned"))]
    return " ".join(part.removeprefix("model.").removeprefix("budget.") for part in own[-4:])


def _loss(job: Job) -> str:
    if job.status == DONE and "val_loss" in job.latest:
        return f"val {job.latest['val_loss']:.4f}"
    return f"{job.latest['train_loss']:.3f}" if "train_loss" in job.latest else ""


def _elapsed(job: Job) -> str:
    if job.started is None:
        return ""
    return f"{(job.ended or time.monotonic()) - job.started:.1f} s"
