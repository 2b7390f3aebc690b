"""Admission of a run before it starts: its study's caps hold, whatever workers and launchers start runs at once.

A run is admitted where the study's spending, the rest of the runs that are being trained, and its own estimate stay
within every cap. Two processes that claim runs at once are put in order by tickets, which are files that exactly one
process can create: a ticket's run counts against those with later tickets, so that the last money is spent once.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.plan.plan_file import read_plan, read_sweep, slot_seconds
from scaling.plan.run import Run
from scaling.plan.seconds import expected_speed, wants_gpu
from scaling.records.attempt import PREEMPTED, Attempt, RunIsLiveError, is_trained_now, now
from scaling.records.files import create_text, has_links, read_json
from scaling.records.spending import DEVICES, RESERVED_S, START_STEP, Spent, StudySpending, study_spending
from scaling.shapes.flops import train_flops_per_step
from scaling.spec.budget import Budget

FOLDER = "admissions"  # of a study: one ticket a file, numbered in the order of the tickets
HELD_S = 2.0  # pause before a run is said to wait, since launchers start such a run again at once
TICKETED = "ticketed"  # key of meta.json: the attempt counts from its ticket on


class NoBudgetLeftError(ValueError):
    """A cap of the study leaves too little for the run."""


class BudgetIsHeldError(RunIsLiveError):
    """Runs that are being trained may yet leave enough of a cap for the run."""


@dataclass(frozen=True)
class Admission:
    """The admission of a run that goes on from `start_step`; `estimate` is what is left of it to spend.

    The run trains on `devices` devices, or on a share of one.
    """

    run: Run
    start_step: int
    estimate: Spent
    devices: float

    @property
    def meta(self) -> dict[str, Any]:
        """Facts about the attempt for its meta.json, by which others reckon its spending."""
        capped = {TICKETED: True} if self.run.budget.capped() else {}
        return {START_STEP: self.start_step, RESERVED_S: self.estimate.device_s, DEVICES: self.devices, **capped}

    def check(self) -> None:
        """Raise NoBudgetLeftError, or BudgetIsHeldError, where the run would be denied now; this costs no attempt."""
        if self.run.budget.capped() and not is_trained_now(self.run.directory):
            self._check(lambda path: _ticket_of(path) is not None)

    def confirm(self, attempt: Attempt) -> None:
        """Take a ticket for a claimed attempt; where the caps leave too little, end the attempt and raise as `check`.

        A ticket that is denied counts until its attempt has ended, so that another may be denied for its sake, and
        none is admitted too many.
        """
        if not self.run.budget.capped():
            return
        mine = _take_ticket(attempt)

        def is_earlier(path: Path) -> bool:
            number = _ticket_of(path)
            return path != attempt.path and number is not None and number < mine

        try:
            self._check(is_earlier)
        except (NoBudgetLeftError, BudgetIsHeldError) as error:
            attempt.end(PREEMPTED, str(error), self.start_step)
            raise

    def _check(self, counts: Callable[[Path], bool]) -> None:
        folder = self.run.runtime.study_dir
        ids = read_sweep(folder).ids  # a study may hold other sweeps' runs too, which have caps of their own
        study = study_spending(folder, ids if self.run.spec.run_id in ids else None, counts)
        words = short_of(self.run.budget, study, self.estimate)
        if not words:
            return
        if study.to_come == Spent() or self.run.budget.beyond(*_sums(study.spent + self.estimate)):
            raise NoBudgetLeftError(f"run {self.run.spec.run_id} does not start: {words}; raise the cap")
        time.sleep(HELD_S)
        raise BudgetIsHeldError(f"run {self.run.spec.run_id} waits: {words}")


def admission(run: Run, start_step: int, devices: float = 1.0) -> Admission:
    """The admission of a run that goes on from the checkpoint of `start_step` on this many devices."""
    spec = run.spec
    step_flops = train_flops_per_step(spec.model, spec.recipe.batch_sequences, spec.recipe.optimizer.kind)
    flops = (spec.recipe.steps - start_step) * step_flops
    seconds = expected_speed(run, "cuda" if wants_gpu(run) else "cpu")[0].run(spec, flops)
    if run.budget.capped():
        lines = read_plan(run.runtime.study_dir)
        line: Mapping[str, Any] = next((line for line in lines if line["run_id"] == spec.run_id), {})
        if line.get("estimated_s") and line.get("paid_flops"):
            seconds = line["estimated_s"] * flops / line["paid_flops"]
        seconds *= pace_of(study_spending(run.runtime.study_dir), lines)
    return Admission(run, start_step, Spent(flops, seconds * devices), devices)


def short_of(budget: Budget, study: StudySpending, estimate: Spent) -> str:
    """The cap that a study would exceed with a further run, and the sum, in words; empty where every cap holds."""
    words = budget.beyond(*_sums(study.spent + study.to_come + estimate))
    if not words:
        return ""
    spent, held, own = (budget.in_words(*_sums(amount)) for amount in (study.spent, study.to_come, estimate))
    return f"{spent} spent, {held} held by runs in training and {own} for itself make {words}"


def pace_of(study: StudySpending, lines: Sequence[Mapping[str, Any]]) -> float:
    """Seconds of devices for each planned second, by the study's finished runs; 1 where none is finished."""
    planned = {line["run_id"]: slot_seconds(line) for line in lines}
    done = {run_id: run for run_id, run in study.runs.items() if run.finished and planned.get(run_id)}
    spent_s = sum(run.spent.device_s - run.repeated.device_s for run in done.values())
    return (spent_s / sum(planned[run_id] for run_id in done) or 1.0) if done else 1.0


def _sums(amount: Spent) -> tuple[float, float]:
    return amount.flops, amount.device_s


def _take_ticket(attempt: Attempt) -> int:
    """Create the study's next ticket for an attempt; return its number, which the attempt holds too."""
    folder = attempt.run_dir.parent / FOLDER
    folder.mkdir(exist_ok=True)
    links = has_links(folder)
    while True:
        number = max((int(path.name) for path in folder.glob("[0-9]*")), default=0) + 1
        try:
            create_text(folder / f"{number:06d}", f"{attempt.run_dir.name} {attempt.number} {now()}\n", links=links)
        except FileExistsError:
            continue
        return number


def _ticket_of(attempt_dir: Path) -> int | None:
    """The number of a live attempt's ticket; 0 for one that needs none, None for one that has none yet."""
    if not (read_json(attempt_dir / "meta.json") or {}).get(TICKETED):
        return 0
    folder = attempt_dir.parents[2] / FOLDER
    owner = f"{attempt_dir.parents[1].name} {int(attempt_dir.name)} "
    for path in sorted(folder.glob("[0-9]*"), reverse=True):  # a live attempt's ticket is among the last
        if path.read_text().startswith(owner):
            return int(path.name)
    return None
