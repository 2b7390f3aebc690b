"""The planned runs of a study as jobs of a worker: the longest first, chosen anew from the store each time."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from scaling.launch.jobs import RUNNING, Job
from scaling.plan.admission import pace_of
from scaling.plan.branches import furthest_step, is_begun
from scaling.plan.dropping import dropped
from scaling.plan.labels import labels
from scaling.plan.plan_file import devices_on_node, nodes_of, slot_seconds
from scaling.plan.work import Work
from scaling.records.attempt import FAILED, LOST, Attempt, is_trained_now
from scaling.records.files import read_json
from scaling.records.liveness import HEARTBEAT
from scaling.records.orders import cancelled_why
from scaling.records.record import DONE, attempt_dirs, readable_record
from scaling.records.spending import Spent, study_spending
from scaling.records.trials import trials

START_S = 5.0  # seconds of a run before its first step and after its last; assumed
LOSSES = 3  # processes of a run that may die before they have claimed it

Line = Mapping[str, Any]  # of plan.jsonl


@dataclass
class PlannedJob(Job):
    """A job that trains a planned run."""

    run_id: str = ""
    settled: bool = False  # whether its end was taken in

    def attempt(self) -> Attempt | None:
        """The attempt that the job's process has claimed; None before."""
        path = self.log and Path(self.log).parent
        return None if not path or path.parent.name != "attempts" else Attempt(path.parents[1], int(path.name))


def startable(work: Work) -> int:
    """Number of unfinished runs of a study that nobody trains and that may be tried."""
    paths = [work.study_dir / line["run_id"] for line in work.lines]
    idle = [path for path in paths if not (path / "record.json").exists() and not is_trained_now(path)]
    return sum(cancelled_why(path) is None and not trials(path).given_up(work.retries) for path in idle)


class PlannedQueue:
    """A source of jobs for a pool: planned runs that nobody trains, and that may be tried, by the files of the study.

    Another worker that trains a run is believed once its heartbeat was seen to beat: a worker that was killed and
    started again at once would otherwise leave its own last run to itself.
    """

    def __init__(
        self,
        work: Work,
        ends: float | None = None,
        max_runs: int | None = None,
        widest: int | None = None,
        nodes: int = 1,
    ) -> None:
        """Runs are to end before `ends`, a moment of time.time(), and are `max_runs` at most.

        Runs on more devices of a node than `widest`, or on more than `nodes`, are left to other workers.
        """
        self._widest = widest
        self._work, self._ends, self._max_runs = work, ends, max_runs
        self._lines: list[Line] = [  # unfinished runs, the longest first
            line
            for line in work.lines
            if (widest is None or devices_on_node(line) <= widest) and nodes_of(line) <= nodes
        ]
        self.too_wide = len(work.lines) - len(self._lines)  # runs that no slots here suffice for
        self._labels = labels(work.lines)
        self._beats: dict[Path, Any] = {}  # counter of another process's heartbeat at the first look
        self._unclaimed: dict[str, Counter[str]] = {}  # ends of jobs before their claim, by run
        self._broken: dict[str, str] = {}  # runs given up before their claim, with the reasons
        self._measured: list[str] = []  # runs that ended here, for the pace
        self._is_held = False  # whether runs in training hold a part of the caps
        self._taken = 0
        self._over = False
        self.jobs: list[PlannedJob] = []
        self.unaffordable: dict[str, str] = {}  # runs that the study's caps have no room for, with the reasons
        self.short = False  # whether the time left is too short for the runs that are left

    def __bool__(self) -> bool:
        return not self._over

    @property
    def is_full(self) -> bool:
        """Whether as many runs were taken as were asked for."""
        return self._max_runs is not None and self._taken >= self._max_runs

    def next(self) -> Job | None:
        """The longest run that can start and that the time left is enough for; None where there is none now."""
        self.settle()
        waits, too_long = False, []
        self._leave_out_unaffordable()
        for line in [] if self.is_full else list(self._lines):
            run_dir = self._work.study_dir / line["run_id"]
            if (run_dir / "record.json").exists():
                self._lines.remove(line)
            elif self._is_mine(line["run_id"]):
                continue
            elif is_trained_now(run_dir):
                waits |= not self._was_seen_to_beat(run_dir)
            elif self._why_given_up(line["run_id"]):
                continue
            elif line["run_id"] in self.unaffordable:
                waits |= self._is_held
            elif (first := self._first_of_trunk(line)) is not line:
                waits |= is_trained_now(self._work.study_dir / first["run_id"])
            elif trials(run_dir).back_off_s():
                waits = True
            elif self._ends is None or time.time() + self._left_s(line) <= self._ends:
                return self._job(line)
            else:
                too_long.append(line)
        runs_here = any(job.ended is None for job in self.jobs)
        if too_long and not self._taken and self._has_time_to_begin():  # or no worker would ever begin it
            return self._job(too_long[0])
        self.short = bool(too_long)
        self._over = not waits and not runs_here
        return None

    def put_back(self, job: Job) -> None:
        """Leave a job to the store: another process trains its run, or it hung, which counts as a failure."""
        assert isinstance(job, PlannedJob)
        if job.status == RUNNING:
            self._end_for(job, FAILED)
        else:
            self._taken -= 1
        self.jobs.remove(job)

    def give_up(self) -> None:
        """Take in the last ends; the runs themselves wait in the store."""
        self.settle()

    def given_up(self) -> dict[str, str]:
        """Unfinished runs that no worker tries again until a user asks, with the reasons."""
        reasons = {run_id: self._why_given_up(run_id) for run_id in self._unfinished()}
        return {run_id: why for run_id, why in reasons.items() if why}

    def left(self) -> int:
        """Number of unfinished runs that may be tried and paid for, those that others train included."""
        return len({*self._unfinished()} - {*self.given_up()} - {*self.unaffordable})

    def settle(self) -> None:
        """Take in the jobs that ended since: their pace, and the word that a dead process did not leave."""
        for job in self.jobs:
            if job.ended is None or job.settled:
                continue
            job.settled = True
            if job.attempt() is None and job.status in (FAILED, LOST):
                ends = self._unclaimed.setdefault(job.run_id, Counter())
                ends[job.status] += 1
                if ends[FAILED] or ends[LOST] > LOSSES:
                    self._broken[job.run_id] = job.why
            elif job.status == LOST:
                self._end_for(job, LOST)
            elif job.status == DONE:
                self._measured.append(job.run_id)

    def pace(self) -> float:
        """Seconds in training for each planned second: of runs that ended here, else of the study's, else 1."""
        return self._pace_of(self._measured) or self._pace_at_start

    @cached_property
    def _pace_at_start(self) -> float:
        return self._pace_of([line["run_id"] for line in self._work.lines]) or 1.0

    def _pace_of(self, run_ids: Sequence[str]) -> float:
        planned = {line["run_id"]: line.get("estimated_s", 0.0) for line in self._work.lines}
        records = [readable_record(self._work.study_dir / run_id) for run_id in run_ids]
        done = [record for record in records if record is not None and record.status == DONE]
        planned_s = sum(planned[record.run_id] for record in done)
        return sum(record.wall_s for record in done) / planned_s if planned_s else 0.0

    def _leave_out_unaffordable(self) -> None:
        """Find the runs that the caps have no room for: as in a plan, those first that the optima need least."""
        caps, folder = self._work.caps, self._work.study_dir
        self.unaffordable, self._is_held = {}, False
        if not caps.capped():
            return
        study = study_spending(folder, self._work.content["runs"])
        gone = study.spent + study.to_come
        to_do = [line for line in self._lines if not (folder / line["run_id"] / "record.json").exists()]
        idle = [line for line in to_do if not is_trained_now(folder / line["run_id"])]
        pace = pace_of(study, self._work.lines)
        rest = {
            line["run_id"]: Spent(line["paid_flops"] * share, slot_seconds(line) * share * pace)
            for line, share in ((line, self._share(line)) for line in idle)
        }
        gone = sum((rest.pop(line["run_id"]) for line in idle if self._is_mine(line["run_id"])), gone)
        for line in idle:
            if self._why_given_up(line["run_id"]):
                rest.pop(line["run_id"], None)
        waiting = [line for line in idle if line["run_id"] in rest]
        waiting.sort(key=lambda line: int(line.get("drop_rank", 0)))

        def beyond(out: Sequence[Line]) -> str:
            ids = {line["run_id"] for line in out}
            total = sum((one for run_id, one in rest.items() if run_id not in ids), gone)
            return caps.beyond(total.flops, total.device_s)

        out = dropped([[line] for line in waiting], lambda out: not beyond(out))
        used = caps.in_words(gone.flops, gone.device_s)
        why = f"with {used} spent or held by runs in training, all that is left would make {beyond(())}"
        self.unaffordable = {line["run_id"]: why for line in out}
        self._is_held = study.to_come != Spent()

    def _job(self, line: Line) -> Job:
        run_id = str(line["run_id"])
        # A run over several nodes has all slots here: two such runs would not know each other's on the other nodes.
        slots = (self._widest if nodes_of(line) > 1 else None) or devices_on_node(line)
        job = PlannedJob(self._labels.get(run_id, run_id), self._work.run(run_id), slots=slots, run_id=run_id)
        self._taken += 1
        self.jobs.append(job)
        return job

    def _end_for(self, job: PlannedJob, status: str) -> None:
        """Write the end of an attempt whose process, a child of this one, died without a word."""
        attempt = job.attempt()
        if attempt is not None and not (attempt.path / "end.json").exists():
            attempt.end(status, job.why, (read_json(attempt.path / HEARTBEAT) or {}).get("taken", 0))

    def _unfinished(self) -> list[str]:
        ids = [line["run_id"] for line in self._lines]
        return [run_id for run_id in ids if not (self._work.study_dir / run_id / "record.json").exists()]

    def _is_mine(self, run_id: str) -> bool:
        return any(job.ended is None and job.run_id == run_id for job in self.jobs)

    def _was_seen_to_beat(self, run_dir: Path) -> bool:
        path = attempt_dirs(run_dir)[-1] / HEARTBEAT
        beats = (read_json(path) or {}).get("beats")
        return bool(beats != self._beats.setdefault(path, beats))

    def _why_given_up(self, run_id: str) -> str:
        run_dir = self._work.study_dir / run_id
        if is_trained_now(run_dir):
            return ""
        if (why := cancelled_why(run_dir)) is not None:
            return f"cancelled: {why}"
        return self._broken.get(run_id) or trials(run_dir).given_up(self._work.retries)

    def _first_of_trunk(self, line: Line) -> Line:
        """The run that has to start before this one, by the order of `next_wave`; the run itself where none has."""

        def begun(other: Line) -> bool:
            return is_begun(self._work.study_dir / other["run_id"], other["trunk_steps"])

        if line.get("trunk") is None or begun(line):
            return line
        of_trunk = [other for other in self._lines if other.get("trunk") == line["trunk"] and not begun(other)]
        tried = [other for other in of_trunk if not self._why_given_up(other["run_id"])]
        return max(tried, key=lambda other: int(other["trunk_steps"]), default=line)

    def _left_s(self, line: Line) -> float:
        planned_s: float = line.get("estimated_s", 0.0) * self._share(line)
        return START_S + planned_s * self.pace()

    def _share(self, line: Line) -> float:
        """The share of a run's steps that lie beyond its furthest checkpoint."""
        return float(1 - furthest_step(self._work.study_dir / line["run_id"]) / line["steps"])

    def _has_time_to_begin(self) -> bool:
        return self._ends is None or time.time() + 2 * START_S <= self._ends
