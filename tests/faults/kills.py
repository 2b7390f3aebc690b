"""Kills and other signals, placed and random, to training processes, fork servers and launchers."""

import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scaling.records import liveness
from scaling.records.attempt import RunIsLiveError
from scaling.records.leftovers import tidy
from tests.faults.runs import (
    ONE_SLOT,
    Tally,
    check,
    descendants,
    ended,
    expected_runs,
    expected_sweep,
    finish,
    forked,
    kill,
    launched,
    seeds,
    shuffled,
    train,
    training,
    wait_for,
)

CHANGES = {"open", "os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "os.chmod"}  # audit events
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def count_changes(folder: Path, last: int, told: Path) -> None:
    """Train a run, and die right before change number `last` of a file in the folder; 0: live, and count them."""
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event not in CHANGES or not str(arguments[0]).startswith(str(folder)):
            return
        if event == "open" and not (arguments[2] or 0) & WRITES:
            return
        seen += 1
        if seen == last:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    train(folder)
    told.write_text(str(seen))


def placed_kills(folder: Path, *, long: bool) -> Tally:
    """kill -9 right before each change of a file, and once more at random after the restart"""
    told, rng, kills = folder / "changes", random.Random(0), 0
    assert ended(forked(count_changes, folder / "whole", 0, told)) == 0
    total = int(told.read_text())
    expected = expected_runs(1)
    check(folder / "whole" / "s", expected)
    for place in range(1, total + 1) if long else shuffled(range(1, total + 1), rng)[:8]:
        here = folder / f"at{place}"
        kills += ended(forked(count_changes, here, place, told)) == -signal.SIGKILL
        kills += ended(forked(count_changes, here, rng.randint(1, total), told)) == -signal.SIGKILL
        assert ended(forked(resume, here)) == 0
        check(here / "s", expected)
    return Tally(kills, total if long else 8)


def resume(folder: Path, stale_after_s: float = 1.0) -> None:
    """Train a run as a sweep does: a process without heartbeat counts as dead, and what it left is removed."""
    liveness.STALE_AFTER_S = stale_after_s
    while True:
        try:
            train(folder)
            break
        except RunIsLiveError:
            time.sleep(0.1)
    for run_dir in (folder / "s").iterdir():
        tidy(run_dir, keep_weights=False)


def random_kills(folder: Path, *, long: bool) -> Tally:
    """kill -9 of training processes, fork servers and launchers at random moments of a sweep"""
    rng, tally, target = random.Random(1), Tally(), 220 if long else 4
    grid = (seeds(24 if long else 4), "budget.flops=2e9")
    expected = expected_sweep(*grid)
    while tally.injuries < target:
        here = folder / str(tally.runs)
        here.mkdir()
        tally.injuries += storm(here, grid, rng, target - tally.injuries)
        tally.printed = finish(here, *grid)
        check(here / "runs" / "default", expected)
        tally.runs += len(expected)
    return tally


def storm(cwd: Path, grid: Sequence[str], rng: random.Random, most: int) -> int:
    """Kill processes of a sweep, started again whenever it ends, until all its runs are done; the number of kills."""
    kills = 0
    while kills < most:
        launcher = launched(cwd, *grid)
        while launcher.poll() is None and kills < most:
            time.sleep(rng.expovariate(1 / 0.5))
            below = descendants(launcher.pid)
            runs = training(cwd / "runs" / "default")
            victims = rng.choices([runs, below, [launcher.pid]], weights=[7, 2, 1])[0]
            if victims:
                kills += kill(rng.choice(victims))
        if launcher.wait() == 0:
            break
    return kills


SIGNALS: dict[str, tuple[int, ...]] = {
    "INT": (signal.SIGINT,),
    "INT twice": (signal.SIGINT,) * 2,
    "INT five times": (signal.SIGINT,) * 5,
    "HUP": (signal.SIGHUP,),
    "TERM": (signal.SIGTERM,),
    "STOP and CONT": (signal.SIGSTOP, signal.SIGCONT),
}
ENDS_IN_S = 40.0  # a launcher after its last signal


def signals(folder: Path, *, long: bool) -> Tally:
    """INT once, twice, five times, HUP, TERM, STOP and CONT, to the launcher or to a training process"""
    grid, tally = (seeds(3), "budget.flops=2e10"), Tally()
    expected = expected_sweep(*grid)
    chosen = SIGNALS if long else {name: SIGNALS[name] for name in ("INT five times", "HUP")}
    for name, numbers in chosen.items():
        for to_run in (False, True) if long else (False,):
            here = folder / f"{name} {to_run}"
            here.mkdir()
            study, launcher = here / "runs" / "default", launched(here, *grid)
            wait_for(lambda study=study: len(training(study)) == 2, launcher)  # type: ignore[misc]
            for number in numbers:
                tally.injuries += kill(training(study)[0] if to_run else launcher.pid, number)
                time.sleep(0.3)
            launcher.wait(ENDS_IN_S)
            assert "Traceback" not in (here / "printed.txt").read_text()
            tally.printed = finish(here, *grid)
            check(study, expected)
            tally.runs += len(expected)
    return tally


def race(folder: Path, *, long: bool) -> Tally:
    """processes that race for the same runs, each in an order of its own"""
    processes, runs = (32, 60) if long else (6, 8)
    started = [forked(take_all, folder, runs, number) for number in range(processes)]
    assert [ended(process, 600) for process in started] == [0] * processes
    check(folder / "s", expected_runs(runs))
    return Tally(processes, runs)


def take_all(folder: Path, runs: int, number: int) -> None:
    """Train every run that nobody else trains or has trained, and wait for none."""
    for seed in shuffled(range(runs), random.Random(number)):
        try:
            train(folder, seed)
        except RunIsLiveError:
            continue


def launchers(folder: Path, *, long: bool) -> Tally:
    """launchers at once on one study"""
    tally = Tally()
    for count in (2, 4) if long else (2,):
        here = folder / str(count)
        here.mkdir()
        grid = (seeds(8 * count if long else 4), "budget.flops=2e9", *ONE_SLOT)
        started = [launched(here, *grid) for _ in range(count)]
        owners: dict[int, int] = {}  # training process -> launcher
        while any(launcher.poll() is None for launcher in started):
            owners |= {pid: launcher.pid for launcher in started for pid in descendants(launcher.pid)}
            time.sleep(0.02)
        assert [launcher.wait() for launcher in started] == [0] * count
        check(here / "runs" / "default", expected := expected_sweep(*grid))
        metas = (here / "runs" / "default").glob("*/attempts/*/meta.json")
        trained = [owners.get(pid) for pid in map(pid_of, metas)]
        shares = sorted(trained.count(launcher.pid) for launcher in started)
        assert not long or shares[0] >= 3, f"{count} launchers trained {shares} runs"
        tally.injuries += count
        tally.runs += len(expected)
        tally.printed += f"{count} launchers trained {', '.join(map(str, shares))} runs. "
    return tally


def pid_of(meta: Path) -> int:
    """The process of an attempt."""
    import json

    return int(json.loads(meta.read_text())["pid"])
