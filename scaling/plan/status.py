"""The status of a study: every run with its size, budget, progress and time left, as a table and as JSON."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from scaling.plan.columns import Column, print_columns, print_prose
from scaling.plan.plan_file import FILE, Sweep, read_plan, read_sweep
from scaling.quantities import duration, short
from scaling.records.attempt import (
    CANCELLED,
    FAILED,
    LOST,
    PLANNED,
    PREEMPTED,
    RUNNING,
    RunState,
    state_and_record,
    tally,
)
from scaling.records.files import read_json
from scaling.records.record import DIVERGED, DONE, RunRecord, read_warnings, run_dirs
from scaling.records.spending import Spent, StudySpending, run_spending
from scaling.records.trials import trials
from scaling.shapes.matmuls import parameter_counts
from scaling.spec.budget import CAPS
from scaling.spec.run_spec import RunSpec, from_dict
from scaling.terminal import flagged

STOPPED = (FAILED, PREEMPTED, LOST, CANCELLED)  # states that the ends of several attempts may lead to
QUIET = (DONE, PLANNED, RUNNING)  # states that need no reason


@dataclass(frozen=True)
class RunStatus:
    """A run of a study: what it trains, and how far it is; None where no file states a number."""

    run_id: str
    state: RunState
    n_params: int | None  # non-embedding
    budget_flops: float | None
    train_tokens: int | None
    seed: int | None
    steps: int | None
    planned_s: float | None  # seconds of the whole run by the plan
    left_s: float | None  # seconds to its end at the speed that it trains with; None for a run that does not train
    ends: str = ""  # ends of an unfinished run's attempts, e.g. "1 failed, 2 preempted"

    @property
    def attempts(self) -> str:
        """The number of attempts, and how they ended."""
        return f"{self.state.attempts} ({self.ends})" if self.ends else str(self.state.attempts)


@dataclass(frozen=True)
class StudyStatus:
    """A study's runs, the longest first, and doubts about its files."""

    study_dir: Path
    runs: tuple[RunStatus, ...]
    warnings: tuple[str, ...]
    spending: StudySpending
    sweep: Sweep

    @property
    def left_s(self) -> float | None:
        """Seconds to the end of all runs at the present speed and number of runs at once; None where none trains."""
        training = [run for run in self.runs if run.left_s is not None]
        if not training:
            return None
        paces = [run.left_s / planned for run in training if run.left_s and (planned := _planned_left(run))]
        pace = sum(paces) / len(paces) if paces else 1.0
        waiting = [run for run in self.runs if run.state.status not in (DONE, DIVERGED, RUNNING)]
        work = sum(run.left_s or 0.0 for run in training) + pace * sum(_planned_left(run) for run in waiting)
        return max(work / len(training), *(run.left_s or 0.0 for run in training), 0.0)


def _planned_left(run: RunStatus) -> float:
    """Seconds that the plan gives the rest of a run."""
    return (run.planned_s or 0.0) * (1 - run.state.step / run.steps if run.steps else 1.0)


def study_status(study_dir: Path) -> StudyStatus:
    """The status of a study by its plan and its runs' files; ValueError where the study has no directory."""
    paths = {path.name: path for path in run_dirs(study_dir)}
    warnings: list[str] = []
    lines = {line["run_id"]: line for line in read_plan(study_dir, warnings)}
    ids = dict.fromkeys([*lines, *paths])
    runs, spending = [], {}
    for run_id in ids:
        path = paths.get(run_id) or study_dir / run_id
        state, record = state_and_record(path)
        runs.append(_run_status(path, state, record, lines.get(run_id)))
        if run_id in paths:
            spending[run_id] = run_spending(path, record)
    # A run that was done at its first attempt passed over no checkpoint; its files need no second look.
    looked_at = [run.run_id for run in runs if run.state.status != DONE or run.state.attempts > 1]
    warnings += [warning for run_id in looked_at for warning in read_warnings(study_dir / run_id)]
    return StudyStatus(study_dir, tuple(runs), tuple(warnings), StudySpending(spending), read_sweep(study_dir))


def _run_status(run_dir: Path, state: RunState, record: RunRecord | None, line: Mapping[str, Any] | None) -> RunStatus:
    facts = dict(line or {})
    if "n_params" not in facts:  # no plan of this version states the run
        facts = _facts(run_dir, record) | facts
    steps, batch, speed = facts.get("steps"), facts.get("batch_tokens"), state.tokens_per_s
    left_s = None
    if state.status == RUNNING and steps and batch and speed:
        left_s = max(0, steps - state.step) * batch / speed
    return RunStatus(
        run_dir.name,
        state,
        facts.get("n_params", {}).get("non_embedding"),
        facts.get("requested_flops"),
        facts.get("train_tokens"),
        facts.get("seed"),
        steps,
        facts.get("estimated_s"),
        left_s,
        trials(run_dir).in_words() if state.attempts > 1 and state.status in STOPPED else "",
    )


def _facts(run_dir: Path, record: RunRecord | None) -> dict[str, Any]:
    """Facts about a run without a plan, by its record or its spec; none where both are damaged."""
    if record is not None:
        return {
            "n_params": record.n_params,
            "requested_flops": record.budget_flops,
            "train_tokens": record.train_tokens,
            "steps": record.steps,
        }
    with suppress(ValueError, TypeError, KeyError, AttributeError):
        spec: RunSpec = from_dict(read_json(run_dir / "spec.json") or {})
        return {
            "n_params": parameter_counts(spec.model),
            "train_tokens": spec.train_tokens,
            "steps": spec.recipe.steps,
            "batch_tokens": spec.batch_tokens,
            "seed": spec.seed,
        }
    return {}


def print_status(status: StudyStatus, console: Console) -> None:
    """Print every run of a study, the reasons of runs that stopped, and the time to the study's end."""
    for text in status.warnings:
        print_prose(console, flagged("warning", text))
    console.print(Text(str(status.study_dir), style="italic"), soft_wrap=True)
    runs = status.runs
    if runs:
        print_columns(_columns(runs), console)
    for run in runs:
        if run.state.status not in QUIET:
            print_prose(console, explain(run.run_id, run.state))
    for line in spent_in_words(status):
        print_prose(console, line)
    print_prose(console, summary(status))


def _columns(runs: Sequence[RunStatus]) -> list[Column]:
    seeds = len({run.seed for run in runs}) > 1
    return [
        Column("run", [run.run_id for run in runs], False),
        Column("status", [run.state.status for run in runs], False),
        Column("N", [_cell(run.n_params, short) for run in runs], rank=1),
        Column("C", [_cell(run.budget_flops, "{:.3g}".format) for run in runs], rank=1),
        Column("tokens", [_cell(run.train_tokens, short) for run in runs], rank=5),
        Column("seed", ["" if run.seed is None or not seeds else str(run.seed) for run in runs], rank=3),
        Column("step", [f"{run.state.step:,}" + (f"/{run.steps:,}" if run.steps else "") for run in runs], rank=2),
        Column("loss", [_cell(_loss(run.state), "{:.4f}".format) for run in runs]),
        Column("tokens/s", [_cell(run.state.tokens_per_s, short) for run in runs], rank=6),
        Column("left", [_cell(run.left_s, duration) for run in runs]),
        Column("attempts", [run.attempts for run in runs], rank=7),
    ]


def _loss(state: RunState) -> float | None:
    return None if state.status == DIVERGED else state.loss_nats  # the last loss of a diverged run is no result


def _cell(value: Any, form: Any) -> str:
    return "" if value is None or not math.isfinite(value) else form(value)


def summary(status: StudyStatus) -> str:
    """The numbers of runs by state, and the time to the study's end while runs train."""
    text = tally(run.state for run in status.runs) or "no runs yet"
    training = sum(run.left_s is not None for run in status.runs)
    if (left := status.left_s) is not None:
        text += f"; about {duration(left)} left with {training} at once"
    return text


def spent_in_words(status: StudyStatus) -> list[str]:
    """Lines about the spending against the caps, and about spending that failed or was repeated; none without these."""
    spending, caps, failed = status.spending, status.sweep.caps, failed_spending(status)
    lines = []
    if caps is not None and caps.capped():
        limits = ", ".join(f"budget.{name}={value:g}" for name in CAPS if (value := getattr(caps, name)) is not None)
        own = StudySpending({run_id: run for run_id, run in spending.runs.items() if run_id in status.sweep.ids})
        lines.append(f"spent {caps.in_words(own.spent.flops, own.spent.device_s)} of {limits}")
        if own.to_come != Spent():
            lines.append(f"held by runs in training: {caps.in_words(own.to_come.flops, own.to_come.device_s)}")
    if lost := [
        f"{amount.flops:.4g} FLOPs ({duration(amount.device_s)} of devices) {of}"
        for amount, of in ((spending.repeated, "repeated"), (failed, "by runs that failed"))
        if amount.flops
    ]:
        lines.append(f"of {spending.spent.flops:.4g} FLOPs spent: {', '.join(lost)}")
    return lines


def failed_spending(status: StudyStatus) -> Spent:
    """What runs have spent that failed or were cancelled, without their repeated steps."""
    ids = [run.run_id for run in status.runs if run.state.status in (FAILED, CANCELLED)]
    found = [status.spending.runs[run_id] for run_id in ids if run_id in status.spending.runs]
    return Spent(
        sum(run.spent.flops - run.repeated.flops for run in found),
        sum(run.spent.device_s - run.repeated.device_s for run in found),
    )


def explain(run_id: str, state: RunState, waits: str = "never started") -> str:
    """One line about a run that is not done: its state, the reason, and its log."""
    look = f"; look at {state.log}" if state.log and state.log.exists() else ""
    return f"  {run_id} {state.status} at step {state.step}: {state.why or waits}{look}"


def as_json(status: StudyStatus) -> dict[str, Any]:
    """The status of a study as a plain document; `eta_s` is the seconds to its end, null where nothing trains."""
    rows = []
    for run in status.runs:
        row = asdict(run)
        state = row.pop("state")
        rows.append({**row, **state, "log": str(state["log"]) if state["log"] else None})
    spending, caps = status.spending, status.sweep.caps
    spent = {
        "spent": asdict(spending.spent),
        "repeated": asdict(spending.repeated),
        "failed": asdict(failed_spending(status)),
        "to_come": asdict(spending.to_come),
        "caps": None if caps is None else {name: getattr(caps, name) for name in CAPS},
    }
    return {
        "study_dir": str(status.study_dir),
        "eta_s": status.left_s,
        "warnings": status.warnings,
        "spending": spent,
        "runs": rows,
    }


def only_study(runs_dir: Path) -> Path:
    """The one study of a folder of studies; ValueError names the studies where there are several, or none."""
    found = [path for path in sorted(runs_dir.glob("*")) if (path / FILE).is_file() or _holds_runs(path)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise ValueError(f"{runs_dir}/ holds no study; name a study's folder, as `scaling status elsewhere/STUDY`")
    raise ValueError(f"{runs_dir}/ holds {len(found)} studies: choose from {', '.join(map(str, found))}")


def _holds_runs(path: Path) -> bool:
    return path.is_dir() and bool(run_dirs(path))
