"""Fleets on one study: workers and launchers, killed and preempted at random while others go on."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from scaling.launch.exit_codes import FAILURES_LEFT, NOTHING_LEFT, START_AGAIN
from scaling.records.process import start_ticks
from scaling.records.record import run_dirs
from tests.faults.runs import (
    ONE_SLOT,
    SCALING,
    SWEEP,
    Tally,
    check,
    descendants,
    expected_sweep,
    kill,
    launched,
    seeds,
    training,
    wait_for,
)

STUDY = Path("runs") / "default"
GRACE_S = 10.0  # from SIGTERM to SIGKILL, as a batch system or a cloud gives
START_S = 180.0  # for a fleet's first run to start
Started = subprocess.Popen[str]


def grid(runs: int) -> tuple[str, ...]:
    """Settings of a sweep of so many runs; every worker trains them with as many threads."""
    return (seeds(runs), "budget.flops=1e9", "runtime.threads=1")


def planned(cwd: Path, *settings: str) -> Path:
    """A planned study of a new folder."""
    cwd.mkdir()
    subprocess.run([SCALING, "plan", *SWEEP, *settings, "--write"], cwd=cwd, check=True, stdout=subprocess.DEVNULL)
    return cwd / STUDY


def worker(cwd: Path) -> Started:
    """A started worker of the folder's study."""
    with (cwd / "workers.txt").open("a") as log:
        return subprocess.Popen([SCALING, "worker", str(STUDY)], cwd=cwd, stdout=log, stderr=log, text=True)


def missing(study: Path, runs: int) -> int:
    """Number of runs without a record."""
    return runs - sum((path / "record.json").exists() for path in run_dirs(study)) if study.is_dir() else runs


def serve(cwd: Path, within_s: float = 120.0) -> None:
    """Start a worker again and again until nothing is left; four equal losses in a row ask for `scaling retry`."""
    code, deadline = START_AGAIN, time.monotonic() + within_s
    while code != NOTHING_LEFT:
        assert time.monotonic() < deadline, (cwd / "workers.txt").read_text()
        code = worker(cwd).wait(within_s)
        assert code in (NOTHING_LEFT, START_AGAIN, FAILURES_LEFT), (cwd / "workers.txt").read_text()
        if code == FAILURES_LEFT:
            subprocess.run([SCALING, "retry", str(STUDY)], cwd=cwd, check=True, stdout=subprocess.DEVNULL)
    assert "Traceback" not in (cwd / "workers.txt").read_text()


def storm(
    study: Path,
    starts: Sequence[Callable[[], Started]],
    injure: Callable[[Sequence[Started]], int],
    most: int,
    runs: int,
) -> int:
    """Injure a fleet, each process started again when it ends, until the study or the injuries are; their number."""
    injuries, fleet = 0, [start() for start in starts]
    wait_for(lambda: training(study), s=START_S)
    while injuries < most and missing(study, runs):
        injuries += injure(fleet)
        fleet = [
            start() if process.poll() is not None else process for start, process in zip(starts, fleet, strict=True)
        ]
    for process in fleet:
        process.wait(120)
    return injuries


def killing(study: Path, rng: random.Random) -> Callable[[Sequence[Started]], int]:
    """An injury: SIGKILL or SIGTERM to a process of a fleet, or to one that trains for the fleet."""

    def injure(fleet: Sequence[Started]) -> int:
        time.sleep(rng.expovariate(1 / 0.5))
        live = [process.pid for process in fleet if process.poll() is None]
        (victims,) = rng.choices([training(study), live], weights=[8, 1])
        number = rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
        return int(bool(victims) and kill(rng.choice(victims), number))

    return injure


def workers(folder: Path, *, long: bool) -> Tally:
    """kill -9 and TERM of three workers on one study, and of the processes that train for them"""
    return _stormed(folder, lambda here: [lambda: worker(here)] * 3, long=long, seed=2)


def two_kinds(folder: Path, *, long: bool) -> Tally:
    """the same to a launcher and two workers on one study"""

    def starts(here: Path, runs: int = 20 if long else 4) -> list[Callable[[], Started]]:
        return [lambda: launched(here, *grid(runs), *ONE_SLOT), *[lambda: worker(here)] * 2]

    return _stormed(folder, starts, long=long, seed=3)


def _stormed(
    folder: Path, starts: Callable[[Path], Sequence[Callable[[], Started]]], *, long: bool, seed: int
) -> Tally:
    rng, tally, target, runs = random.Random(seed), Tally(), 70 if long else 3, 20 if long else 4
    expected = expected_sweep(*grid(runs))
    while tally.injuries < target:
        here = folder / str(tally.runs)
        study = planned(here, *grid(runs))
        tally.injuries += storm(study, starts(here), killing(study, rng), target - tally.injuries, runs)
        serve(here)
        check(study, expected)
        tally.runs += runs
    return tally


def preemption(folder: Path, *, long: bool) -> Tally:
    """TERM to a worker and all its processes, and KILL after 10 s of grace to those that are left"""
    rng, tally, target, runs = random.Random(4), Tally(), 30 if long else 2, 12 if long else 3
    expected = expected_sweep(*grid(runs))
    while tally.injuries < target:
        here = folder / str(tally.runs)
        study = planned(here, *grid(runs))

        def preempt(fleet: Sequence[Started], study: Path = study) -> int:
            time.sleep(rng.expovariate(1 / 0.5))
            victim = rng.choice([process for process in fleet if process.poll() is None] or [None])
            if victim is None:
                return 0
            pids = [victim.pid, *descendants(victim.pid)]
            frozen = [pid for pid in training(study) if pid in pids and rng.random() < 0.3]
            for pid in frozen:  # as in a step that is longer than the grace
                kill(pid, signal.SIGSTOP)
            return preempted(pids)

        tally.injuries += storm(study, [lambda: worker(here)] * 2, preempt, target - tally.injuries, runs)  # noqa: B023
        serve(here)
        check(study, expected)
        tally.runs += runs
    return tally


def preempted(pids: Sequence[int]) -> bool:
    """Send SIGTERM to processes, and SIGKILL to those that still live after the grace; whether any lived."""
    born = {pid: start_ticks(pid) for pid in pids}
    lived = [kill(pid, signal.SIGTERM) for pid in pids]
    until = time.monotonic() + GRACE_S
    while time.monotonic() < until and any(_lives(pid, born[pid]) for pid in pids):
        time.sleep(0.05)
    for pid in pids:
        if _lives(pid, born[pid]):
            os.kill(pid, signal.SIGKILL)
    return any(lived)


def _lives(pid: int, born: int | None) -> bool:
    return born is not None and start_ticks(pid) == born
