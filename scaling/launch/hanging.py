"""Hanging processes: a process that lives but whose run takes no step, or whose heart has stopped."""

import time
from pathlib import Path
from typing import Any

from scaling.launch.jobs import Job
from scaling.quantities import duration
from scaling.records.files import read_json
from scaling.records.liveness import HEARTBEAT, STALE_AFTER_S

LOOK_EVERY_S = 5.0
LEAST_S = 600.0  # no run is called hanging sooner: compiling, validating and a slow disk take minutes
OTHER = 6.0  # times that, where the run validates or saves
STEPS = 50.0  # times the longest pause between two steps seen so far


class Watch:
    """Watches one process by the heartbeat of its run, on this process's own clock."""

    def __init__(self) -> None:
        self._next_look = 0.0
        self._beats: tuple[Any, float] | None = None  # counter, and when it was seen first
        self._steps: tuple[Any, float] | None = None
        self._longest_pause_s = 0.0

    def why_hanging(self, job: Job) -> str:
        """Why the job's process counts as hanging; empty while it does not, and until its run is claimed."""
        now = time.monotonic()
        if now < self._next_look or job.log is None:
            return ""
        self._next_look = now + LOOK_EVERY_S
        beat = _heartbeat(job)
        if beat is None:
            return ""
        beats, steps, other = beat.get("beats"), beat.get("taken"), beat.get("activity")
        if self._beats is None or self._beats[0] != beats:
            self._beats = (beats, now)
        elif now - self._beats[1] > STALE_AFTER_S:
            return f"hung: no heartbeat for {duration(now - self._beats[1])}"
        if self._steps is None:
            self._steps = ((steps, other), now)
        elif self._steps[0] != (steps, other):
            self._longest_pause_s = max(self._longest_pause_s, now - self._steps[1])
            self._steps = ((steps, other), now)
        elif now - self._steps[1] > max(LEAST_S * (OTHER if other else 1.0), STEPS * self._longest_pause_s):
            return f"hung: no step for {duration(now - self._steps[1])}, at step {steps}"
        return ""


def activity(job: Job) -> str:
    """What the job's run does beside taking steps: "validating" or "saving"; empty for neither."""
    return str((_heartbeat(job) or {}).get("activity", ""))


def _heartbeat(job: Job) -> dict[str, Any] | None:
    return None if job.log is None else read_json(Path(job.log).parent / HEARTBEAT)
