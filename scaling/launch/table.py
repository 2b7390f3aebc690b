"""One live table of all runs of a sweep; on a terminal it moves, in a log it is one line a finished run."""

import time
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from scaling.launch.jobs import Job
from scaling.machine.slots import Slot
from scaling.quantities import short
from scaling.records.record import DONE

REFRESH_S = 0.5
ROWS = 40  # at most so many jobs are shown; the running ones first


class LiveTable:
    """Shows the jobs of a pool."""

    def __init__(self, jobs: Sequence[Job], slots: Sequence[Slot]) -> None:
        self._jobs = jobs
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._told: set[int] = set()
        self._next = 0.0
        self._start = time.monotonic()
        places = f"{len(slots)} slots" if len(slots) > 1 else "1 slot"
        number = "1 stack" if len(jobs) == 1 else f"{len(jobs)} stacks"
        stacks = f", in {number}," if len(jobs) < _runs(jobs) else ""
        names = ", ".join(slot.name for slot in slots)
        self._console.print(f"{_runs(jobs)} runs{stacks} over {places} ({names})")

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
        """Draw again, when it is time to."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + REFRESH_S
        if self._live:
            self._live.update(self._table(), refresh=True)
            return
        for index, job in enumerate(self._jobs):
            if job.ended is not None and index not in self._told:
                self._told.add(index)
                told = _runs([self._jobs[k] for k in self._told])
                self._console.print(
                    f"[{told}/{_runs(self._jobs)}] {_name(job)} {job.status} {_loss(job)} "
                    f"in {_elapsed(job)} {job.why}".rstrip(),
                    soft_wrap=True,
                    highlight=False,
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
            said = job.latest
            table.add_row(
                _name(job),
                job.slot,
                job.status,
                f"{said.get('step', 0):,}/{said['steps']:,}" if "steps" in said else "",
                _loss(job),
                short(said["tokens_per_s"]) if "tokens_per_s" in said and job.ended is None else "",
                short(said["flops_per_s"]) if "flops_per_s" in said and job.ended is None else "",
                _elapsed(job),
            )
        return table


def _runs(jobs: Sequence[Job]) -> int:
    return sum(job.runs for job in jobs)


def _name(job: Job) -> str:
    """The cell's own settings: what the sweep holds fixed says nothing here."""
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
