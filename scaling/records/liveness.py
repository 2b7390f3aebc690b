"""Whether the process behind an attempt lives: asked of the system where that can be, else of the heartbeat.

The process can be asked about on the same machine in the same process namespace, known by boot id and namespace: the
same host name in another container proves nothing. Elsewhere the heartbeat's counter decides, watched on the observer's
own clock, so that clocks need not agree.
"""

import os
import time
from pathlib import Path
from typing import Any

from scaling.records.files import read_json, scratch_name
from scaling.records.process import place, start_ticks

HEARTBEAT = "heartbeat.json"
HEARTBEAT_EVERY_S = 2.0
STALE_AFTER_S = 120.0  # without a heartbeat for so long a process counts as dead

_watched: dict[Path, tuple[Any, float]] = {}  # heartbeat file -> its latest counter, and when this process saw it first


def whereabouts() -> dict[str, Any]:
    """This process, for the meta.json of its attempt."""
    return {**place(), "pid": os.getpid(), "process_started": start_ticks(os.getpid())}


def is_live(attempt_dir: Path) -> bool:
    """Whether the attempt's process lives, as far as can be known from here.

    A process that can be asked about but whose heart has stopped counts as dead: it hangs.
    """
    if (attempt_dir / "end.json").exists():
        return False
    meta = read_json(attempt_dir / "meta.json")
    here = meta is not None and {name: meta.get(name) for name in place()} == place()
    if meta is not None and here and start_ticks(meta.get("pid")) != meta.get("process_started"):
        return False
    return _beats(attempt_dir)


def _beats(attempt_dir: Path) -> bool:
    """Whether the heartbeat is young by the file system's clock, and its counter has not stood still while watched."""
    path = attempt_dir / HEARTBEAT
    beat = read_json(path) or {}
    counter = beat.get("beats", beat.get("time"))
    before = _watched.get(path)
    if before is None or before[0] != counter:
        _watched[path] = before = (counter, time.monotonic())
    watched_s = time.monotonic() - before[1]
    if watched_s >= STALE_AFTER_S:
        return False
    age_s = _age(path if path.exists() else attempt_dir / "meta.json")
    return age_s < STALE_AFTER_S  # negative for a clock that is ahead: then only watching shows


def _age(path: Path) -> float:
    """Seconds since a file was written, both moments by the clock of its file system."""
    try:
        written = path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")
    probe = scratch_name(path.parent, "clock")
    try:
        probe.touch()
        return probe.stat().st_mtime - written
    except OSError:  # a folder that cannot be written to
        return time.time() - written
    finally:
        probe.unlink(missing_ok=True)
