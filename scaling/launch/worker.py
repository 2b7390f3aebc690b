"""A worker: it claims a planned run of a study, trains it, publishes it and takes the next, until nothing is left."""

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from scaling.launch.exit_codes import FAILURES_LEFT, NOTHING_LEFT, START_AGAIN
from scaling.launch.jobs import Channel, Job
from scaling.launch.local import pool_here, widest_job
from scaling.launch.planned_queue import PlannedQueue
from scaling.launch.reporting import ChannelReporter, reporting_to
from scaling.launch.table import outcome
from scaling.machine.code import code_digest
from scaling.machine.nodes import nodes_here
from scaling.machine.slots import gpu_ids, slots
from scaling.plan.plan_file import WORK
from scaling.plan.run import Run
from scaling.plan.work import read_work
from scaling.quantities import duration
from scaling.records.record import DONE
from scaling.train.stop_request import StopRequest

RESERVE_S, RESERVE = 60.0, 0.1  # time before the end that is kept for a last checkpoint: at most, and as a share


def work(study_dir: Path, until: str | None, max_runs: int | None, slot_count: int | None, other_code: bool) -> int:
    """Train planned runs of a study; return an exit code of `exit_codes`. ValueError for a plan that cannot be served.

    SIGUSR2, SIGTERM and the time `until` stop every run between two steps with a checkpoint. `slot_count` runs train at
    once, by default one a visible GPU, or one.
    """
    started = time.time()
    with StopRequest(patient=True) as stop:
        ends = None if until is None else moment(until, started)
        study = read_work(study_dir.resolve())
        _check_code(study.code, study_dir, allowed=other_code)
        if study.directory.is_dir():
            os.chdir(study.directory)  # paths of data and of caches are relative to the folder of the plan
        last = None if ends is None else ends - min(RESERVE_S, RESERVE * max(0.0, ends - started))
        use_gpus = not study.asks_for_cpu and bool(gpu_ids())
        here = slots(slot_count or (len(gpu_ids()) if use_gpus else study.widest), None, use_gpus)
        nodes = nodes_here()
        queue = PlannedQueue(study, last, max_runs, widest_job(here), nodes)
        if queue.too_wide:
            print(
                f"{queue.too_wide} runs take more than {widest_job(here)} slots of a node (runtime.devices_per_run) or "
                f"{nodes} nodes (runtime.nodes_per_run) and are left to workers with --slots {study.widest} on "
                f"{study.most_nodes} nodes (hydra/launcher=slurm hydra.launcher.nodes={study.most_nodes})",
                flush=True,
            )
        if not stop.requested:
            pool_here(here, _train, study.study_dir, queue, _show(queue, last))
        stopped = stop.requested or (last is not None and time.time() > last)
        return _conclude(queue, study_dir, stopped=stopped)


def stop_at_eof() -> None:
    """Stop this process, as by a signal, once standard input ends: whoever started it is gone, or asks it to stop."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def moment(until: str, now: float) -> float:
    """The moment, as of time.time(), that seconds since 1970, `+90` (minutes) or a local time of ISO 8601 name."""
    try:
        if until.startswith("+"):
            return now + 60 * float(until)
        return float(until) if until.replace(".", "", 1).isdigit() else datetime.fromisoformat(until).timestamp()
    except ValueError:
        raise ValueError(
            f"--until {until}: give a time as 2026-01-31T18:00, minutes from now as +90, or seconds since 1970"
        ) from None


def _check_code(planned: str, study_dir: Path, *, allowed: bool) -> None:
    if (here := code_digest()) == planned:
        return
    found = f"{study_dir / WORK} was planned by code {planned}, and the code here is {here}"
    if not allowed:
        raise ValueError(
            f"{found}: plan anew, use that code, or accept the other with --allow-other-code; attempts record theirs"
        )
    print(f"other code: {found}; every attempt's meta.json records it", flush=True)


def _train(run: Run, channel: Channel) -> str:
    """Train a run in its job's process; return the run's id."""
    from scaling.train.run import train_run  # imports torch

    with reporting_to(channel):
        run = replace(run, runtime=run.runtime.with_threads(channel.threads))
        record = train_run(run, ChannelReporter(channel))
    channel.report(outcome=record.status, val_loss=record.val_loss_nats)
    return record.run_id


def _show(queue: PlannedQueue, last: float | None) -> Callable[[], None]:
    """A display that prints one line for each job that ended, and that stops the pool once at the moment `last`."""
    printed: set[int] = set()
    stopped = False

    def show() -> None:
        nonlocal stopped
        for job in queue.jobs:
            if job.ended is not None and id(job) not in printed:
                printed.add(id(job))
                print(_line(job), flush=True)
        if last is not None and not stopped and time.time() > last:
            stopped = True
            raise KeyboardInterrupt

    return show


def _line(job: Job) -> str:
    loss = job.latest.get("val_loss") if job.status == DONE else None
    seconds = (job.ended or 0.0) - (job.started or 0.0)
    words = [job.label, outcome(job), "" if loss is None else f"val {loss:.4f}", f"in {duration(seconds)}", job.why]
    return f"{job.latest.get('run_id', '')}  {' '.join(word for word in words if word)}".strip()


def _conclude(queue: PlannedQueue, study_dir: Path, *, stopped: bool) -> int:
    """Print why the worker ends, and return its exit code."""
    given_up, left = queue.given_up(), queue.left()
    for run_id, why in given_up.items():
        print(f"{run_id} is not tried again: {why}; `scaling retry {study_dir} {run_id}` orders another try")
    for run_id, why in queue.unaffordable.items():
        print(f"{run_id} is not started: {why}; raise the cap of the sweep and plan anew", flush=True)
    if left and (stopped or queue.short or queue.is_full):
        short = "too little time for another run" if queue.short else "as many runs as asked for"
        runs = "1 run" if left == 1 else f"{left} runs"
        words = f"{'stopped' if stopped else short}, {runs} left: start the worker again (exit code {START_AGAIN})"
        print(f"{study_dir}: {words}", flush=True)
        return START_AGAIN
    others = f"; other workers train {left}" if left else ""
    print(f"{study_dir}: nothing left for this worker{others}", flush=True)
    failed = any(not why.startswith("cancelled") for why in given_up.values())
    return FAILURES_LEFT if failed or queue.unaffordable else NOTHING_LEFT
