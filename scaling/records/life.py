"""The life of a run: one process claims it, reports its progress, and ends it with a record or a reason.

Training, fine-tuning and importing share this life.
"""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TextIO

from scaling.records.attempt import CANCELLED, FAILED, LOST, PREEMPTED, Attempt, Heartbeat, LostError, claim
from scaling.records.files import write_json
from scaling.records.mirror import run_summary, tracked_run
from scaling.records.record import RunRecord, publish_record, read_record
from scaling.spec.run_spec import RunSpec, to_dict
from scaling.spec.runtime import Runtime
from scaling.trackers import start_trackers
from scaling.trackers.tracker import Several


class Reporter:
    """A reporter receives a run's progress within its process; this base class discards rows and steps."""

    waits: ClassVar[bool] = True  # for a run that another process trains; under a launcher other jobs go first

    def claimed(self, attempt_dir: Path, run_id: str, steps: int, start_step: int) -> None:
        """Report a claimed run that starts from `start_step` of `steps`."""

    def row(self, row: dict[str, Any]) -> None:
        """Report a new metric row."""

    def mirrored(self, name: str, where: str) -> None:
        """Print where trackers show the run, for a person who reads this process's output or its log."""
        for line in where.splitlines():
            print(f"{name}: {line}", flush=True)

    def close(self) -> None:
        """Report the run's end."""


def claim_run(spec: RunSpec, runtime: Runtime, resumed_from_step: int, meta: Mapping[str, Any]) -> Attempt | RunRecord:
    """Claim the run for this process, or return its record where an earlier attempt finished it.

    Raises RunIsLiveError while another process holds the run.
    """
    run_dir = runtime.run_dir(spec.run_id)
    if (finished := read_record(run_dir)) is not None:
        return finished
    run_dir.mkdir(parents=True, exist_ok=True)
    write_json(run_dir / "spec.json", to_dict(spec))
    attempt = claim(run_dir, resumed_from_step, dict(meta))
    if (finished := read_record(run_dir)) is not None:
        attempt.end(finished.status, "finished by an earlier attempt", finished.steps)
        return finished
    return attempt


@dataclass(frozen=True)
class Life:
    """A live attempt at a run, and the receivers of its metric rows."""

    attempt: Attempt
    heartbeat: Heartbeat
    metrics: TextIO
    tracker: Several
    reporter: Reporter

    def log(self, row: Mapping[str, Any], steps: int, **mirrored: float) -> None:
        """Write a metric row of a run of `steps` steps, and pass it to heartbeat, tracker and reporter.

        Tracker and reporter also receive the `mirrored` numbers.
        """
        self._write(row)
        self.heartbeat.report = {"step": row["step"], "steps": steps, "loss_nats": row["train_loss"]}
        self.heartbeat.report["tokens_per_s"] = row["tokens_per_s"]
        self.tracker.log({**row, **mirrored})
        self.reporter.row({**row, **mirrored})

    def repeat(self, row: Mapping[str, Any]) -> None:
        """Write a metric row of trunk steps that another run took, and pass it to the tracker."""
        self._write(row)
        self.tracker.log(row)

    def publish(self, record: RunRecord) -> bool:
        """Publish the record and end the attempt; False where a later attempt took the run over: its record stands."""
        attempt = self.attempt
        current = attempt.is_current() and publish_record(attempt.run_dir, record)
        why = record.why if current else "overtaken by a later attempt; its record stands"
        attempt.end(record.status, why, record.steps)
        self.tracker.finish(record.status, run_summary(record) if current else {})
        return current

    def _write(self, row: Mapping[str, Any]) -> None:
        finite = {name: value if value is None or math.isfinite(value) else None for name, value in row.items()}
        self.metrics.write(json.dumps(finite) + "\n")


@contextmanager
def live(
    attempt: Attempt, spec: RunSpec, runtime: Runtime, budget_flops: float | None, reporter: Reporter
) -> Iterator[Life]:
    """Run an attempt's heartbeat and tracker; an error that ends the attempt is written to end.json and raised."""
    tracker = Several(())
    with Heartbeat(attempt) as heartbeat, (attempt.path / "metrics.jsonl").open("a", buffering=1) as metrics:
        try:
            tracked = tracked_run(spec, runtime.study, runtime.question, budget_flops, attempt.run_dir)
            tracker = start_trackers(runtime.trackers, tracked, runtime.tracker_settings)
            reporter.mirrored(tracked.name, tracker.where)
            yield Life(attempt, heartbeat, metrics, tracker, reporter)
        except BaseException as error:
            stopped = CANCELLED if heartbeat.cancelled else PREEMPTED
            status = LOST if isinstance(error, LostError) else FAILED
            if isinstance(error, KeyboardInterrupt | GeneratorExit):
                status = stopped
            attempt.end(status, f"{type(error).__name__}: {error}".rstrip(": "), heartbeat.report["step"])
            tracker.finish(status, {})
            raise
