"""Launcher `slurm`: it submits workers of a planned study, once whatever dies meanwhile, and waits for the runs."""

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scaling.launch.exit_codes import MISTAKE, START_AGAIN
from scaling.launch.planned_queue import startable
from scaling.launch.slurm_script import TIME, SlurmSettings, comment_of, render, seconds
from scaling.machine.slurm import QueuedJob, call, max_array_size, patiently, queue, untimely_ends
from scaling.plan.work import read_work
from scaling.records.attempt import now
from scaling.records.files import read_json, write_json, write_text

FOLDER, INTENT, SCRIPT, ENDS = "slurm", "submission.json", "workers.sh", "ends"
LOOK_S = 5.0  # between two looks at the study's files
QUEUE_EVERY_S = 60.0  # between two questions to the controller
GLANCE_S = 5.0  # for the queue, where a person waits for a status
REPLACED = 5  # times in a row that lost workers are replaced, each time after a pause in which others were lost
PAUSE_S = 60.0  # after the first replacement; each further one makes it twice as long
TOO_MANY = ("MaxSubmit", "GrpSubmit", "MaxJobs", "QOS policy", "limit")  # words of limits on the number of jobs


def start_slurm(study_dir: Path, plan_id: str, unfinished: Callable[[], int], values: Mapping[str, Any]) -> bool:
    """Submit workers of a study, and wait for its runs unless wait=false; whether it has waited.

    ValueError for settings that Slurm refuses, in its words.
    """
    folder = study_dir.resolve()
    fleet = Fleet(folder, comment_of(folder, plan_id), SlurmSettings(**values), unfinished())
    arrays = ", ".join(fleet.submit())
    print(f"slurm: the workers are array {arrays}, their logs in {study_dir / FOLDER}", file=sys.stderr)
    print(f"slurm: `scaling status {study_dir}` shows runs and queue", file=sys.stderr)
    if not fleet.settings.wait:
        fleet.replace(patiently(lambda: queue(fleet.comment)))
        print("slurm: the same command with hydra.launcher.wait=true waits for the runs", file=sys.stderr)
        return False
    print("slurm: waiting; Ctrl-C leaves the workers, the same command waits again", file=sys.stderr)
    _wait(fleet, unfinished)
    return True


@dataclass
class Fleet:
    """Workers of a study in Slurm's queue: as many as asked for, lost ones replaced."""

    study_dir: Path
    comment: str
    settings: SlurmSettings
    runs: int  # unfinished when the fleet was asked for
    arrays: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.workers = min(self.runs, self.settings.array_parallel or self.runs)
        self._folder = self.study_dir / FOLDER
        self._ended_before = frozenset(noted_ends(self._folder))
        self._replaced, self._after = 0, 0.0

    def submit(self) -> list[str]:
        """Submit an array of workers, or several beyond MaxArraySize; return the arrays' ids.

        The intent is written first, and arrays that the queue holds under the comment are not submitted again, so that
        a submitter that dies, or an answer that is lost, costs no second submission.
        """
        self._note()
        self.arrays = self._queued()
        largest = max_array_size()
        left = max(0, self.workers - largest * len(self.arrays)) if self.arrays else self.workers
        while left > 0:
            count, known = min(left, largest), len(self.arrays)
            try:
                self.arrays.append(self._sbatch(count))
            except TimeoutError:  # it may have been accepted all the same
                self.arrays = self._queued()
                left -= count * (len(self.arrays) - known)
                continue
            except ValueError as error:
                if count > 1 and any(word in str(error) for word in TOO_MANY):
                    print(f"slurm: {count} workers are refused ({error}); asking for {count // 2}", file=sys.stderr)
                    self.workers -= left - count // 2
                    left = largest = count // 2
                    continue
                raise
            left -= count
        self._note()
        return self.arrays

    def replace(self, jobs: Sequence[QueuedJob]) -> None:
        """Submit workers in place of those that are lost for good: neither queued nor ended by their own decision.

        A run that nobody trains has to wait for them. They are not replaced once a worker refused to start, as the next
        would, nor more than REPLACED times in a row: a fleet that is whole after a pause begins to count anew.
        """
        self.arrays = list(dict.fromkeys([*self.arrays, *(job.array for job in jobs)]))
        noted = {worker: code for worker, code in noted_ends(self._folder).items() if worker not in self._ended_before}
        ends = {worker: code for worker, code in noted.items() if worker.partition("_")[0] in self.arrays}
        gone = self.workers - len(jobs) - len(ends)
        if time.monotonic() < self._after:
            return
        if gone <= 0:
            self._replaced = 0
            return
        if MISTAKE in ends.values() or self._replaced > REPLACED:
            return
        count = min(gone, startable(read_work(self.study_dir)))
        if count <= 0:
            return
        self._after = time.monotonic() + PAUSE_S * 2**self._replaced
        self._replaced += 1
        if self._replaced > REPLACED:
            words = f"slurm: {_workers(count)} lost again and again, and not replaced; look at {self._folder}"
            print(words, file=sys.stderr, flush=True)
            return
        self._note(replacing=count)
        try:
            self.arrays.append(self._sbatch(count))
            words = f"{count} lost, replaced by array {self.arrays[-1]}"
        except (TimeoutError, ValueError) as error:  # the next look at the queue shows whether it was accepted
            words = f"{count} lost, and not replaced now ({error})"
        self._note()
        print(f"slurm: of {self.workers} workers {words}", file=sys.stderr, flush=True)

    def _sbatch(self, count: int) -> str:
        """Submit an array; return its id."""
        text = render(
            self.settings,
            study_dir=str(self.study_dir),
            study=self.study_dir.name,
            comment=self.comment,
            directory=os.getcwd(),
            workers=count,
            python=sys.executable,
        )
        write_text(self._folder / SCRIPT, text)
        return call("sbatch", "--parsable", str(self._folder / SCRIPT)).strip().partition(";")[0]

    def _queued(self) -> list[str]:
        """The arrays that the queue holds under the comment."""
        return list(dict.fromkeys(job.array for job in patiently(lambda: queue(self.comment))))

    def _note(self, replacing: int = 0) -> None:
        """Write the intent: what is asked for, under which comment, and the arrays known so far."""
        self._folder.mkdir(exist_ok=True)
        before = read_json(self._folder / INTENT) or {}
        known = before.get("arrays", []) if before.get("comment") == self.comment else []
        intent = {"comment": self.comment, "workers": self.workers, "replacing": replacing}
        arrays = list(dict.fromkeys([*known, *self.arrays]))
        write_json(self._folder / INTENT, intent | {"arrays": arrays, "at": now()})


def queue_in_words(study_dir: Path) -> str:
    """The workers of a study in the queue, in a line; empty where none was submitted, or Slurm is not here."""
    intent = read_json(study_dir / FOLDER / INTENT)
    if intent is None:
        return ""
    try:
        jobs = queue(str(intent["comment"]), GLANCE_S)
    except (ValueError, TimeoutError, KeyError) as error:
        return f"slurm: the queue is not known here ({error})"
    counts = Counter(
        f"{job.state.lower()} ({job.reason})" if job.reason != "None" else job.state.lower() for job in jobs
    )
    here = ", ".join(f"{_workers(count)} {state}" for state, count in counts.items()) or "no workers queued"
    ends = Counter(untimely_ends(intent.get("arrays", []), GLANCE_S))
    return f"slurm: {here}" + "".join(f"; {count} ended: {why}" for why, count in ends.items())


def requeue(study_dir: Path, code: int) -> int:
    """Let Slurm start this job again where the worker's exit code asks for it; return the code to end with.

    Another code is noted in the study, so that the launcher tells a worker that ended from one that is lost.
    """
    job, array, task = (os.environ.get(f"SLURM_{name}") for name in ("JOB_ID", "ARRAY_JOB_ID", "ARRAY_TASK_ID"))
    if job is None:
        return code
    name = f"{array}_{task}" if array else job
    if code != START_AGAIN:
        note_end(study_dir / FOLDER, name, code)
        return code
    try:
        if _is_cancelled(patiently(lambda: call("scontrol", "show", "job", "--oneliner", name))):
            print(f"slurm: job {name} was cancelled; the sweep's command submits another", flush=True)
            return code
        patiently(lambda: call("scontrol", "requeue", name))
    except (ValueError, TimeoutError) as error:
        print(f"slurm: job {name} cannot be requeued ({error}); the sweep's command submits it again", flush=True)
        return code
    print(f"slurm: job {name} is requeued", flush=True)
    return 0


def note_end(folder: Path, worker: str, code: int) -> None:
    """Note that a worker ended by its own decision, in a file's name, so that one look at the folder reads all."""
    with suppress(OSError):  # a worker that leaves no note counts as lost, and another takes its place
        (folder / ENDS).mkdir(parents=True, exist_ok=True)
        (folder / ENDS / f"{worker}.{code}").touch()


def noted_ends(folder: Path) -> dict[str, int]:
    """Exit codes of the workers that ended by their own decision, by worker."""
    names = [path.name.rpartition(".") for path in (folder / ENDS).glob("*.*")]
    return {worker: int(code) for worker, _, code in names if code.isdigit()}


def _is_cancelled(shown: str) -> bool:
    """Whether somebody has cancelled a job that still runs, by what `scontrol show job` prints.

    Slurm would requeue it all the same. A job that Slurm preempts, or that is past its limit, ends in the same state.
    """
    facts = {name: value for name, _, value in (word.partition("=") for word in shown.split())}
    is_ending = {"COMPLETING", "CANCELLED"} & {*facts.get("JobState", "").split(",")}
    if not is_ending or facts.get("PreemptTime", "None") not in ("None", "Unknown"):
        return False
    ran, limit = facts.get("RunTime", "0"), facts.get("TimeLimit", "UNLIMITED")
    return TIME.fullmatch(limit) is None or seconds(ran) < seconds(limit)


def _wait(fleet: Fleet, unfinished: Callable[[], int]) -> None:
    """Wait until every run is finished, or no worker is queued any more; dismiss workers that nothing is left for."""
    asked = time.monotonic()
    while unfinished():
        time.sleep(LOOK_S)
        if time.monotonic() - asked < QUEUE_EVERY_S:
            continue
        asked = time.monotonic()
        try:
            if not (jobs := queue(fleet.comment)):
                return
        except TimeoutError as error:
            print(f"slurm: {error}; asking again", file=sys.stderr, flush=True)
        else:
            fleet.replace(jobs)
    _dismiss(fleet)


def _dismiss(fleet: Fleet) -> None:
    """Cancel the workers that wait in the queue, since no run is left for them."""
    try:
        waiting = sum(job.state == "PENDING" for job in queue(fleet.comment))
        if waiting:
            call("scancel", "--state=PENDING", *fleet.arrays)
            print(
                f"slurm: {_workers(waiting)} still queued, now cancelled: no run is left", file=sys.stderr, flush=True
            )
    except (TimeoutError, ValueError):  # they find nothing to do, and end
        return


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"
