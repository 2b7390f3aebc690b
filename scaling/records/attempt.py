"""Attempts at a run: the claim, the heartbeat, and the run's state.

A process claims a run by renaming a prepared directory to attempts/NNNN, which exactly one process can do; the number
is the fencing token. Every file has one writer, so a process that was taken for dead and comes back writes only into
its own attempt. There are no locks and no database, because claims must hold on a network file system.
"""

import os
import shutil
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scaling.records.files import read_json, write_json
from scaling.records.record import read_record

HEARTBEAT_EVERY_S = 2.0
# A process on another host cannot be probed; it counts as dead once its heartbeat is this old.
STALE_AFTER_S = 120.0

# States of a run without a record; a record states DONE or DIVERGED.
RUNNING, FAILED = "running", "failed"
INTERRUPTED, KILLED, PENDING = "interrupted", "killed", "pending"


class RunIsLiveError(RuntimeError):
    """Another process is training this run right now."""


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
    latest = _latest(run_dir)
    if latest and _is_live(attempts / f"{latest:04d}"):
        raise RunIsLiveError(_holder(attempts / f"{latest:04d}"))
    attempt = Attempt(run_dir, latest + 1)
    prepared = Path(tempfile.mkdtemp(dir=attempts, prefix=".claim-"))
    os.chmod(prepared, 0o755)
    whereabouts = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "process_started": _start_ticks(os.getpid()),
    }
    write_json(
        prepared / "meta.json",
        {
            "attempt": attempt.number,
            "resumed_from_step": resumed_from_step,
            **whereabouts,
            "started_at": now(),
            **meta,
        },
    )
    (prepared / "metrics.jsonl").touch()
    try:
        os.rename(prepared, attempt.path)  # fails where another claim exists, whose directory is not empty
    except OSError:
        shutil.rmtree(prepared)
        raise RunIsLiveError(_holder(attempt.path)) from None
    return attempt


class Heartbeat:
    """The heartbeat of an attempt: a thread writes `report` to heartbeat.json every HEARTBEAT_EVERY_S."""

    def __init__(self, attempt: Attempt) -> None:
        self.report: dict[str, Any] = {"step": 0}
        self._path = attempt.path / "heartbeat.json"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._write()

    def _beat(self) -> None:
        while True:
            self._write()
            if self._stop.wait(HEARTBEAT_EVERY_S):
                return

    def _write(self) -> None:
        write_json(self._path, {"time": time.time(), **self.report})


def run_state(run_dir: Path) -> RunState:
    """The run's state by its directory: done, diverged, running, failed, interrupted, killed or pending."""
    latest = _latest(run_dir)
    path = run_dir / "attempts" / f"{latest:04d}"
    log = path / "log.txt" if latest else None
    record = read_record(run_dir)
    if record is not None:
        return RunState(record.status, record.steps, latest, record.why, record.val_loss_nats, None, log)
    if not latest:
        return RunState(PENDING, 0, 0)
    beat = read_json(path / "heartbeat.json") or {}
    end = read_json(path / "end.json")
    if end is not None:
        return RunState(end["status"], end["step"], latest, end["why"], beat.get("loss_nats"), None, log)
    step = beat.get("step", 0)
    if _is_live(path):
        return RunState(RUNNING, step, latest, "", beat.get("loss_nats"), beat.get("tokens_per_s"), log)
    why = "the process vanished without a word (killed, out of memory, or the machine went down)"
    return RunState(KILLED, step, latest, why, beat.get("loss_nats"), None, log)


def tally(states: Iterable[RunState]) -> str:
    """Numbers of runs by state, e.g. `14 done, 1 failed`; empty for no runs."""
    counts = Counter(state.status for state in states)
    return ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))


def _latest(run_dir: Path) -> int:
    """The highest attempt number, 0 without attempts."""
    return max((int(path.name) for path in (run_dir / "attempts").glob("[0-9]*")), default=0)


def _is_live(attempt_dir: Path) -> bool:
    if (attempt_dir / "end.json").exists():
        return False
    meta = read_json(attempt_dir / "meta.json")
    if meta is None:
        return False
    if meta["host"] == socket.gethostname():
        started = _start_ticks(meta["pid"])
        return started is not None and started == meta["process_started"]
    try:
        beat = (attempt_dir / "heartbeat.json").stat().st_mtime
    except FileNotFoundError:
        beat = (attempt_dir / "meta.json").stat().st_mtime
    return time.time() - beat < STALE_AFTER_S


def _holder(attempt_dir: Path) -> str:
    meta = read_json(attempt_dir / "meta.json") or {}
    return (
        f"run {attempt_dir.parents[1].name} is being trained by process {meta.get('pid')} on {meta.get('host')}; "
        f"stop that process or wait for it"
    )


def _start_ticks(pid: int) -> int | None:
    """The start time of a local process in clock ticks, which exposes a recycled pid; None for a dead process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return _alive_without_proc(pid)
    return None if fields[0] in "ZX" else int(fields[19])


def _alive_without_proc(pid: int) -> int | None:
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return 0  # macOS has no /proc, so the pid alone decides
