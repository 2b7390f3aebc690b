"""Spending of a study: FLOPs and seconds of devices by its attempts' files, whatever became of the attempts.

An attempt spends the steps that it took, and the devices that it held from its claim to its end. Steps that a later
attempt takes again, from an older checkpoint, are spent twice.
"""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from scaling.records.files import read_json
from scaling.records.liveness import HEARTBEAT, is_live
from scaling.records.record import RunRecord, attempt_dirs, readable_record, run_dirs
from scaling.shapes.flops import train_flops_per_step
from scaling.spec.run_spec import ImportedSpec, RunSpec, from_dict

START_STEP, RESERVED_S, DEVICES = "start_step", "reserved_device_s", "devices"  # keys of an attempt's meta.json

_finished: dict[Path, "RunSpending"] = {}  # spending of finished runs, which stays


@dataclass(frozen=True)
class Spent:
    """Training FLOPs, and seconds of devices."""

    flops: float = 0.0
    device_s: float = 0.0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.flops + other.flops, self.device_s + other.device_s)


@dataclass(frozen=True)
class RunSpending:
    """The spending of one run."""

    spent: Spent  # by all attempts
    repeated: Spent  # part of it whose steps a later attempt took again
    to_come: Spent  # until the end of the attempt that is live; nothing where none is
    finished: bool  # whether the run has a record


@dataclass(frozen=True)
class StudySpending:
    """The spending of a study, by run."""

    runs: Mapping[str, RunSpending]

    @property
    def spent(self) -> Spent:
        """What all attempts of all runs have spent."""
        return sum((run.spent for run in self.runs.values()), Spent())

    @property
    def repeated(self) -> Spent:
        """The part whose steps were taken again."""
        return sum((run.repeated for run in self.runs.values()), Spent())

    @property
    def to_come(self) -> Spent:
        """What the live attempts are about to spend."""
        return sum((run.to_come for run in self.runs.values()), Spent())


def study_spending(
    study_dir: Path, only: Container[str] | None = None, counts: Callable[[Path], bool] = lambda _: True
) -> StudySpending:
    """The spending of a study, or `only` of runs with these ids.

    What is to come is left out of live attempts that `counts` denies.
    """
    if not study_dir.is_dir():
        return StudySpending({})
    study_dir = study_dir.absolute()
    found = [path for path in run_dirs(study_dir) if only is None or path.name in only]
    return StudySpending({path.name: _finished.get(path) or _read_spending(path, counts) for path in found})


def _read_spending(run_dir: Path, counts: Callable[[Path], bool]) -> RunSpending:
    found = run_spending(run_dir, readable_record(run_dir), counts)
    if found.finished:
        _finished[run_dir] = found
    return found


def run_spending(
    run_dir: Path, record: RunRecord | None, counts: Callable[[Path], bool] = lambda _: True
) -> RunSpending:
    """The spending of a run with this record, if any; nothing where its spec cannot be read or was trained elsewhere.

    What is to come is left out where `counts` denies its live attempt.
    """
    if record is not None and record.attempts == 1:  # most runs of a large study: nothing was repeated or failed
        devices = record.hardware.get("devices_per_run", 1) * record.hardware.get("gpu_share", 1.0)
        return RunSpending(Spent(record.paid_flops, record.wall_s * devices), Spent(), Spent(), finished=True)
    attempts = [_Stretch.of(path) for path in attempt_dirs(run_dir)]
    steps, step_flops = _price(str(run_dir))
    spent, repeated = Spent(), Spent()
    for number, attempt in enumerate(attempts):
        later = attempts[number + 1].start if number + 1 < len(attempts) else attempt.taken
        again = max(0, attempt.taken - max(later, attempt.start))
        own = Spent(attempt.steps * step_flops, attempt.device_s)
        spent += own
        repeated += Spent(again * step_flops, own.device_s * again / attempt.steps if attempt.steps else 0.0)
    if record is not None:  # the record counts its own steps exactly, whatever a damaged file lacks
        spent = Spent(record.paid_flops + repeated.flops, max(spent.device_s, record.wall_s if not attempts else 0.0))
    to_come = Spent()
    if record is None and attempts and is_live(attempts[-1].path) and counts(attempts[-1].path):
        to_come = attempts[-1].to_come(steps, step_flops)
    return RunSpending(spent, repeated, to_come, finished=record is not None)


@dataclass(frozen=True)
class _Stretch:
    """The steps and seconds of an attempt."""

    path: Path
    start: int  # step that the attempt went on from, a trunk's included
    taken: int  # step that the attempt got to
    device_s: float
    reserved_s: float | None  # seconds of devices that the attempt reserved for all its steps

    @property
    def steps(self) -> int:
        """Steps that the attempt took."""
        return max(0, self.taken - self.start)

    def to_come(self, steps: int, step_flops: float) -> Spent:
        """What the attempt spends from now to its last step: by its pace, and before its first step as reserved."""
        left = max(0, steps - max(self.taken, self.start))
        by_pace = self.device_s / self.steps * left if self.steps else 0.0
        reserved = 0.0 if self.reserved_s is None else self.reserved_s - self.device_s
        return Spent(left * step_flops, max(0.0, by_pace if self.reserved_s is None else max(reserved, by_pace)))

    @staticmethod
    def of(path: Path) -> "_Stretch":
        """The stretch of an attempt by its files; one that left none took no step."""
        meta, beat = read_json(path / "meta.json") or {}, read_json(path / HEARTBEAT) or {}
        end = read_json(path / "end.json") or {}
        start = _number(meta.get(START_STEP, meta.get("resumed_from_step")))
        taken = max(_number(beat.get("taken")), _number(beat.get("step")), start)
        begun, now = _moment(meta.get("started_at")), _number(beat.get("time"))
        ended = _moment(end.get("ended_at")) or now
        seconds = max(0.0, ended - begun) if begun and ended else 0.0
        return _Stretch(path, int(start), int(taken), seconds * (_number(meta.get(DEVICES)) or 1), meta.get(RESERVED_S))


def _number(value: Any) -> float:
    """A number as a damaged file may hold it."""
    return value if isinstance(value, int | float) else 0


def _moment(text: Any) -> float:
    """Seconds since 1970 of a time of ISO 8601; 0 for anything else."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, TypeError):
        return 0.0


@lru_cache(maxsize=4096)
def _price(run_dir: str) -> tuple[int, float]:
    """The steps of a run and the FLOPs of each, by its spec, which never changes."""
    try:
        spec: RunSpec = from_dict(read_json(Path(run_dir) / "spec.json") or {})
        if isinstance(spec, ImportedSpec):
            return 0, 0.0
        kind = spec.recipe.optimizer.kind
        return spec.recipe.steps, train_flops_per_step(spec.model, spec.recipe.batch_sequences, kind)
    except (ValueError, TypeError, KeyError, AttributeError):
        return 0, 0.0
