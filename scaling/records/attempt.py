"""Attempts at a run: the claim, the heartbeat, and the run's state.

A process claims a run by renaming a prepared directory to attempts/NNNN, which exactly one process can do; the number
is the fencing token. Every file has one writer, so a process that was taken for dead and comes back writes only into
its own attempt. There are no locks and no database, because claims must hold on a network file system.
"""

import contextlib
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scaling.records.files import has_links, read_json, remove_scratch, scratch_folder, write_json
from scaling.records.liveness import HEARTBEAT, HEARTBEAT_EVERY_S, STALE_AFTER_S, is_live, whereabouts
from scaling.records.orders import cancelled_why
from scaling.records.record import DONE, RunRecord, attempt_names, read_record

# States of a run without a record; a record states DONE or DIVERGED. A preempted run was asked to stop and saved its
# progress, a lost one vanished with its process, and a cancelled one waits for nobody until `scaling retry`.
PLANNED, RUNNING, FAILED = "planned", "running", "failed"
PREEMPTED, LOST, CANCELLED = "preempted", "lost", "cancelled"
FORMER = {"interrupted": PREEMPTED}  # words for the same states in files of versions up to 0.2


class RunIsLiveError(RuntimeError):
    """Another process is training this run right now."""


class LostError(RuntimeError):
    """A process that a run needs vanished, or hangs: the run goes on from its checkpoint, and has not failed."""


@dataclass(frozen=True)
class RunState:
    """The state of a run, read from its directory."""

    status: str
    step: int
    attempts: int
    why: str = ""
    loss_nats: float | None = None
    tokens_per_s: float | None = None
    log: Path | None = None


@dataclass(frozen=True)
class Attempt:
    """An attempt at a run, claimed by this process."""

    run_dir: Path
    number: int

    @property
    def path(self) -> Path:
        return self.run_dir / "attempts" / f"{self.number:04d}"

    def is_current(self) -> bool:
        """Whether this attempt is the run's latest: no other has taken the run over."""
        return _latest(self.run_dir) == self.number

    def end(self, status: str, why: str, step: int) -> None:
        """Write end.json: how this attempt ended, and after which step."""
        write_json(self.path / "end.json", {"status": status, "why": why, "step": step, "ended_at": now()})


def now() -> str:
    """The current time, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def claim(run_dir: Path, resumed_from_step: int, meta: dict[str, Any]) -> Attempt:
    """Claim the run for this process; raise RunIsLiveError while another process holds it."""
    attempts = run_dir / "attempts"
    attempts.mkdir(parents=True, exist_ok=True)
    remove_scratch(attempts)
    latest = _latest(run_dir)
    if latest and is_live(attempts / f"{latest:04d}"):
        raise RunIsLiveError(_holder(attempts / f"{latest:04d}"))
    attempt = Attempt(run_dir, latest + 1)
    prepared = scratch_folder(attempts, "claim")
    about = {"attempt": attempt.number, "resumed_from_step": resumed_from_step, "started_at": now()}
    write_json(prepared / "meta.json", about | whereabouts() | {"hard_links": has_links(attempts)} | meta)
    (prepared / "metrics.jsonl").touch()
    try:
        os.rename(prepared, attempt.path)  # fails where another claim exists, whose directory is not empty
    except OSError:
        shutil.rmtree(prepared)
        raise RunIsLiveError(_holder(attempt.path)) from None
    return attempt


class Heartbeat:
    """The heartbeat of an attempt: a thread writes `report` and a counter to heartbeat.json every HEARTBEAT_EVERY_S."""

    def __init__(self, attempt: Attempt) -> None:
        self.report: dict[str, Any] = {"step": 0}
        self.taken = 0  # steps, as each is taken: rows and reports come more rarely
        self.activity = ""  # other than taking steps: "validating" or "saving"
        self.cancelled: str | None = None  # the reason, once a user has cancelled the run
        self._run_dir = attempt.run_dir
        self._beats = 0
        self._path = attempt.path / HEARTBEAT
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._write()

    @contextmanager
    def doing(self, activity: str) -> Iterator[None]:
        """Within, the heartbeat states this activity: a run that validates or saves takes no steps and yet works."""
        self.activity = activity
        self._write()
        try:
            yield
        finally:
            self.activity = ""

    def _beat(self) -> None:
        while True:
            self._write()
            self.cancelled = self.cancelled or cancelled_why(self._run_dir)
            if self._stop.wait(HEARTBEAT_EVERY_S):
                return

    def _write(self) -> None:
        self._beats += 1
        with contextlib.suppress(OSError):  # a full or absent disk stops the training where it writes, not here
            signs = {"beats": self._beats, "time": time.time(), "taken": self.taken, "activity": self.activity}
            write_json(self._path, signs | self.report, durable=False)


def run_state(run_dir: Path) -> RunState:
    """The run's state by its directory; a record comes first, a user's order to cancel second."""
    return state_and_record(run_dir)[0]


def state_and_record(run_dir: Path) -> tuple[RunState, RunRecord | None]:
    """The run's state, and its record where there is a readable one: a study of thousands reads each once."""
    try:
        record = read_record(run_dir)
    except ValueError as error:
        latest = _latest(run_dir)
        return RunState(FAILED, 0, latest, str(error), log=_log(run_dir, latest)), None
    if record is None:
        return _unfinished(run_dir), None
    log = None if record.status == DONE else _log(run_dir, _latest(run_dir))
    return RunState(record.status, record.steps, record.attempts, record.why, record.val_loss_nats, log=log), record


def _unfinished(run_dir: Path) -> RunState:
    latest, cancelled = _latest(run_dir), cancelled_why(run_dir)
    log = _log(run_dir, latest)
    if log is None:
        return RunState(PLANNED, 0, 0) if cancelled is None else RunState(CANCELLED, 0, 0, cancelled)
    path = log.parent
    beat = read_json(path / HEARTBEAT) or {}
    loss = beat.get("loss_nats")
    if is_live(path):
        return RunState(RUNNING, _count(beat.get("step"), 0), latest, "", loss, beat.get("tokens_per_s"), log)
    end = end_of(path)
    if cancelled is not None:
        return RunState(CANCELLED, end.step, latest, cancelled, loss, None, log)
    return RunState(end.status, end.step, latest, end.why, loss, None, log)


@dataclass(frozen=True)
class End:
    """The end of an attempt whose process is gone."""

    status: str
    why: str
    step: int
    ended_at: str | None = None  # None where the process left no word


def end_of(attempt_dir: Path) -> End:
    """The end of an attempt whose process is gone, by its own word, its worker's, or the lack of both."""
    beat = read_json(attempt_dir / HEARTBEAT) or {}
    step, path = _count(beat.get("step"), 0), attempt_dir / "end.json"
    if not path.exists():
        return End(LOST, "the process vanished without a word (killed, out of memory, or the machine went down)", step)
    end = read_json(path) or {}
    why = str(end.get("why", f"{path} is damaged and does not state how the attempt ended"))
    status = str(end.get("status", FAILED))
    return End(FORMER.get(status, status), why, _count(end.get("step"), step), end.get("ended_at"))


def _count(value: Any, otherwise: int) -> int:
    """A number of steps as a damaged file may hold it."""
    return value if isinstance(value, int) else otherwise


def is_trained_now(run_dir: Path) -> bool:
    """Whether a process trains the run right now, as far as can be known from here."""
    latest = _latest(run_dir)
    return bool(latest) and not (run_dir / "record.json").exists() and is_live(run_dir / "attempts" / f"{latest:04d}")


def tally(states: Iterable[RunState]) -> str:
    """Numbers of runs by state, e.g. `14 done, 1 failed`; empty for no runs."""
    counts = Counter(state.status for state in states)
    return ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))


def _log(run_dir: Path, latest: int) -> Path | None:
    """The log of the latest attempt, None without attempts."""
    return run_dir / "attempts" / f"{latest:04d}" / "log.txt" if latest else None


def _latest(run_dir: Path) -> int:
    """The highest attempt number, 0 without attempts."""
    return max(map(int, attempt_names(run_dir)), default=0)


def _holder(attempt_dir: Path) -> str:
    meta = read_json(attempt_dir / "meta.json")
    holder = (
        f"process {meta.get('pid')} on {meta.get('host')}; stop that process or wait for it"
        if meta
        else f"a process that its damaged {attempt_dir / 'meta.json'} does not name; without a heartbeat for "
        f"{STALE_AFTER_S:.0f} s it counts as dead"
    )
    return f"run {attempt_dir.parents[1].name} is being trained by {holder}"
