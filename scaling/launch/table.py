"""A live table of a launcher's jobs: redrawn on a terminal, one line per ended job in a log."""

import time
from collections.abc import Callable, Sequence
from functools import partial

from rich.live import Live
from rich.text import Text

from scaling.launch.jobs import RUNNING, Job
from scaling.machine.slots import Slot
from scaling.plan.columns import Column, fitting, lines_of, width_of
from scaling.quantities import short, with_unit
from scaling.records.record import DIVERGED, DONE
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
                parts = (job.label, outcome(job), _loss(job), f"in {_elapsed(job)}", job.why)
                text = " ".join(part for part in parts if part)
                self._console.print(f"[{printed}/{_runs(self._jobs)}] {text}", soft_wrap=True)

    def _table(self) -> Text:
        done = _runs([job for job in self._jobs if job.ended is not None])
        elapsed = time.monotonic() - self._start
        order = sorted(self._jobs, key=lambda job: (job.status != RUNNING, job.ended is None))[:ROWS]
        lines = lines_of(fitting(_columns(order), width_of(self._console)))
        return Text("\n".join([f"{done} of {_runs(self._jobs)} runs ended, {elapsed:.0f} s", *lines]))


def _columns(jobs: Sequence[Job]) -> list[Column]:
    def speed(job: Job, name: str, form: Callable[[float], str]) -> str:
        return form(job.latest[name]) if name in job.latest and job.ended is None else ""

    return [
        Column("run", [job.label for job in jobs], False),
        Column("slot", [job.slot for job in jobs], False, 3),
        Column("status", [outcome(job) for job in jobs], False),
        Column("step", [_step(job) for job in jobs], rank=2),
        Column("loss", [_loss(job) for job in jobs]),
        Column("tokens/s", [speed(job, "tokens_per_s", short) for job in jobs], rank=4),
        Column("FLOP/s", [speed(job, "flops_per_s", partial(with_unit, unit="")) for job in jobs], rank=5),
        Column("time", [_elapsed(job) for job in jobs], rank=1),
    ]


def _step(job: Job) -> str:
    return f"{job.latest.get('step', 0):,}/{job.latest['steps']:,}" if "steps" in job.latest else ""


def outcome(job: Job) -> str:
    """The end of the job's runs as their records state it, e.g. `diverged`; before it, the job's status."""
    return str(job.latest.get("outcome", job.status)) if job.status == DONE else job.status


def _runs(jobs: Sequence[Job]) -> int:
    return sum(job.runs for job in jobs)


def _loss(job: Job) -> str:
    if DIVERGED in outcome(job):
        return ""  # the last loss of a diverged run is no result
    if job.status == DONE and "val_loss" in job.latest:
        return f"val {job.latest['val_loss']:.4f}"
    return f"{job.latest['train_loss']:.3f}" if "train_loss" in job.latest else ""


def _elapsed(job: Job) -> str:
    if job.started is None:
        return ""
    return f"{(job.ended or time.monotonic()) - job.started:.1f} s"
