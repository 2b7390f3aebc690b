"""Launcher `slurm`: it submits workers of a planned study, once whatever dies meanwhile, and waits for the runs."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.launch.exit_codes import START_AGAIN
from scaling.launch.slurm_script import SlurmSettings, render
from scaling.records.attempt import now
from scaling.records.files import read_json, write_json, write_text

FOLDER, INTENT, SCRIPT = "slurm", "submission.json", "workers.sh"
LOOK_S = 5.0  # between two looks at the study's files
QUEUE_EVERY_S = 60.0  # between two questions to the controller
PATIENCE_S = 300.0  # for a controller that does not answer
COMMAND_S = 60.0  # for one command of Slurm
GLANCE_S = 5.0  # for the queue, where a person waits for a status
MAX_ARRAY = 1001  # Slurm's own default
UNREACHABLE = ("contact slurm controller", "timed out", "Zero Bytes", "Connection refused", "Socket", "communication")
TOO_MANY = ("MaxSubmit", "GrpSubmit", "MaxJobs", "QOS policy", "limit")  # words of limits on the number of jobs


@dataclass(frozen=True)
class QueuedJob:
    """A worker in Slurm's queue."""

    array: str
    state: str
    reason: str


def start_slurm(study_dir: Path, plan_id: str, unfinished: Callable[[], int], values: Mapping[str, Any]) -> bool:
    """Submit workers of a study, and wait for its runs unless wait=false; whether it has waited.

    ValueError for settings that Slurm refuses, in its words.
    """
    settings = SlurmSettings(**values)
    comment = f"{study_dir.name}:{plan_id}"
    arrays = submit(study_dir.resolve(), comment, settings, unfinished())
    print(f"slurm: {comment} is array {', '.join(arrays)}; logs in {study_dir / FOLDER}", file=sys.stderr, flush=True)
    if not settings.wait:
        print(f"`scaling status {study_dir}` shows runs and queue; the same command waits", file=sys.stderr)
        return False
    _wait(comment, unfinished)
    return True


def submit(study_dir: Path, comment: str, settings: SlurmSettings, runs: int) -> list[str]:
    """Submit an array of workers, or several beyond MaxArraySize; return the arrays' ids.

    The intent is written first, and arrays that the queue holds under the comment are not submitted again, so that a
    submitter that dies, or an answer that is lost, costs no second submission.
    """
    workers = min(runs, settings.array_parallel or runs)
    folder = study_dir / FOLDER
    folder.mkdir(exist_ok=True)
    write_json(folder / INTENT, {"comment": comment, "workers": workers, "at": now()})
    arrays = list(dict.fromkeys(job.array for job in _patiently(lambda: queue(comment))))
    largest = _max_array_size()
    left = max(0, workers - largest * len(arrays)) if arrays else workers
    while left > 0:
        count, known = min(left, largest), len(arrays)
        text = render(
            settings,
            study_dir=str(study_dir),
            study=study_dir.name,
            comment=comment,
            directory=os.getcwd(),
            workers=count,
            python=sys.executable,
        )
        write_text(folder / SCRIPT, text)
        try:
            arrays.append(_call("sbatch", "--parsable", str(folder / SCRIPT)).strip().partition(";")[0])
        except TimeoutError:  # it may have been accepted all the same
            arrays = list(dict.fromkeys(job.array for job in _patiently(lambda: queue(comment))))
            left -= count * (len(arrays) - known)
            continue
        except ValueError as error:
            if count > 1 and any(word in str(error) for word in TOO_MANY):
                print(f"slurm: {count} workers are refused ({error}); asking for {count // 2}", file=sys.stderr)
                left = largest = count // 2
                continue
            raise
        left -= count
    return arrays


def queue(comment: str, within_s: float = COMMAND_S) -> list[QueuedJob]:
    """Workers of this user in the queue under the comment; TimeoutError where the controller does not answer."""
    asked = ("squeue", "--noheader", "--array", "--me", "--format=%F|%T|%r|%k")
    lines = _call(*asked, within_s=within_s).splitlines()
    parts = [line.strip().split("|", 3) for line in lines if line.count("|") >= 3]
    return [QueuedJob(array, state, reason) for array, state, reason, of in parts if of == comment]


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
    return "slurm: " + (", ".join(f"{count} workers {state}" for state, count in counts.items()) or "no workers queued")


def requeue(code: int) -> int:
    """Let Slurm start this job again where the worker's exit code asks for it; return the code to end with."""
    job, array, task = (os.environ.get(f"SLURM_{name}") for name in ("JOB_ID", "ARRAY_JOB_ID", "ARRAY_TASK_ID"))
    if code != START_AGAIN or job is None:
        return code
    name = f"{array}_{task}" if array else job
    try:
        _patiently(lambda: _call("scontrol", "requeue", name))
    except (ValueError, TimeoutError) as error:
        print(f"slurm: job {name} cannot be requeued ({error}); the sweep's command submits it again", flush=True)
        return code
    print(f"slurm: job {name} is requeued", flush=True)
    return 0


def _wait(comment: str, unfinished: Callable[[], int]) -> None:
    """Wait until every run is finished, or no worker is queued any more."""
    asked = time.monotonic()
    while unfinished():
        time.sleep(LOOK_S)
        if time.monotonic() - asked < QUEUE_EVERY_S:
            continue
        asked = time.monotonic()
        try:
            if not queue(comment):
                return
        except TimeoutError as error:
            print(f"slurm: {error}; asking again", file=sys.stderr, flush=True)


def _patiently(ask: Callable[[], Any]) -> Any:
    """Ask until the controller answers, for PATIENCE_S at most."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return ask()
        except TimeoutError:
            if time.monotonic() > until:
                raise
            time.sleep(LOOK_S)


def _max_array_size() -> int:
    lines = _patiently(lambda: _call("scontrol", "show", "config")).splitlines()
    found = [line.partition("=")[2].strip() for line in lines if line.startswith("MaxArraySize")]
    return int(found[0]) if found and found[0].isdigit() and int(found[0]) else MAX_ARRAY


def _call(*command: str, within_s: float = COMMAND_S) -> str:
    """The output of a command of Slurm; TimeoutError where the controller does not answer, ValueError for a refusal."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=within_s, check=False)
    except FileNotFoundError:
        raise ValueError(
            f"hydra/launcher=slurm: {command[0]} is not here; start on a login node of the cluster"
        ) from None
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"the controller does not answer: {command[0]} waited {within_s:.0f} s") from None
    if done.returncode == 0:
        return done.stdout
    words = " ".join(done.stderr.split())
    if any(word in words for word in UNREACHABLE):
        raise TimeoutError(words)
    raise ValueError(words or f"{' '.join(command)} ended with {done.returncode}")
