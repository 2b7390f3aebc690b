"""Tiny runs to injure, processes to injure them in, and the promises that must hold afterwards."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from scaling.data.prepare import DataConfig, identify
from scaling.data.sources import Synthetic
from scaling.plan.run import Run
from scaling.records.attempt import run_state
from scaling.records.files import read_json
from scaling.records.leftovers import OPTIMIZER
from scaling.records.life import Reporter
from scaling.records.process import start_ticks
from scaling.records.record import DIVERGED, DONE, attempt_dirs, read_metrics, read_record
from tests.examples import SPEC, TINY, asked, runtime_in

SCALING = Path(sys.executable).parent / "scaling"
SWEEP = ("data=synthetic", "data.source.tokens=200000", "val_tokens=2048", "runtime.checkpoint_every_s=0.05")
ONE_SLOT = ("hydra.launcher.slots=1", "hydra.launcher.threads_per_slot=1")
VARYING = {
    "wall_s",
    "train_s",
    "attempts",
    "started_at",
    "ended_at",
    "publication",
    "hardware",
    "git_commit",
}  # of a record
STEPS = 6
DATA = DataConfig(Synthetic(tokens=20_000, order=1, zipf_exponent=1.0, concentration=4.0, seed=0), "none", 37, 0.1)

Rows = list[dict[str, Any]]
Outcomes = dict[str, tuple[dict[str, Any], Rows]]  # run id -> its record and metric rows, but for times


@dataclass
class Tally:
    """Injuries of a scenario, the runs that it injured, and what its last start printed."""

    injuries: int = 0
    runs: int = 0
    printed: str = ""


class Reported(Reporter):
    """A reporter that lets other processes have the runs they train."""

    waits = False


def run_of(folder: Path, seed: int, **runtime: Any) -> Run:
    """A run of STEPS steps, with a checkpoint after each."""
    recipe = replace(SPEC.recipe, steps=STEPS, schedule=replace(SPEC.recipe.schedule, cooldown_steps=2))
    spec = replace(SPEC, model=replace(TINY, n_layers=1), data=identify(DATA), recipe=recipe, val_tokens=256, seed=seed)
    return asked(
        spec,
        DATA,
        runtime_in(folder, **{"log_points": STEPS, "checkpoint_every_s": 0.0, "keep_weights": False} | runtime),
    )


def train(folder: Path, seed: int = 0) -> None:
    """Train a run in this process."""
    from scaling.train.run import train_run

    train_run(run_of(folder, seed), Reported())


@cache
def _forks() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["scaling.launch.preload", "tests.faults.runs", "scaling.cli.commands"])
    return context


def forked(target: Callable[..., None], *arguments: Any) -> Any:
    """A started process of its own that calls `target`."""
    process = _forks().Process(target=_quietly, args=(target, *arguments))
    process.start()
    return process


def _quietly(target: Callable[..., None], *arguments: Any) -> None:
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    target(*arguments)


def ended(process: Any, within_s: float = 120.0) -> int:
    """The exit code of a process, which must end in time."""
    process.join(within_s)
    assert process.exitcode is not None, f"a process did not end within {within_s:.0f} s"
    return int(process.exitcode)


def outcomes(study: Path) -> Outcomes:
    """The records and metric rows of a study's finished runs, without the numbers that differ from time to time."""
    found: Outcomes = {}
    for path in sorted(study.iterdir()):
        record = read_record(path) if path.is_dir() else None
        if record is not None:
            kept = {name: value for name, value in asdict(record).items() if name not in VARYING}
            rows = [{k: v for k, v in row.items() if not k.endswith("_s")} for row in read_metrics(path)]
            found[path.name] = (json.loads(json.dumps(kept)), rows)
    return found


def check(study: Path, expected: Outcomes, *, rows: bool = True) -> None:
    """No run is lost, none was trained twice to its end, no record or metric row differs, and nothing is left over.

    Without `rows` the metric rows may differ.
    """
    found = outcomes(study)
    assert sorted(found) == sorted(expected), f"lost: {sorted(set(expected) - set(found))}"
    compared = slice(None) if rows else slice(1)
    differ = [run_id for run_id in found if found[run_id][compared] != expected[run_id][compared]]
    assert not differ, f"records differ: {differ}"
    for run_id in found:
        completed = [path for path in attempt_dirs(study / run_id) if trained_to_the_end(path)]
        assert len(completed) <= 1, f"trained twice: {run_id}"
    left = [path for path in study.rglob("*") if path.name.startswith(".") or path.name == OPTIMIZER]
    assert not left, f"left over: {left}"


def trained_to_the_end(attempt: Path) -> bool:
    """Whether an attempt took the run's last step; one that found the record right after its claim took none."""
    end = read_json(attempt / "end.json") or {}
    return end.get("status") in (DONE, DIVERGED) and (attempt / "metrics.jsonl").read_bytes() != b""


@cache
def expected_runs(count: int) -> Outcomes:
    """The outcomes of runs 0 to `count` - 1, trained by nobody else and undisturbed."""
    with TemporaryDirectory() as folder:
        for seed in range(count):
            assert ended(forked(train, Path(folder), seed)) == 0
        return outcomes(Path(folder) / "s")


def command(*settings: str) -> list[str]:
    """The command line of a sweep of tiny runs."""
    return [str(SCALING), "train", "-m", *SWEEP, *settings]


def launched(cwd: Path, *settings: str, **options: Any) -> "subprocess.Popen[str]":
    """A started sweep in a process group of its own, whose standard error is read at its end."""
    with (cwd / "printed.txt").open("a") as log:
        return subprocess.Popen(
            command(*settings), cwd=cwd, stdout=log, stderr=log, text=True, start_new_session=True, **options
        )


def finish(cwd: Path, *settings: str, within_s: float = 120.0) -> str:
    """Start a sweep again and again until all is done, undisturbed; what the last start printed, without traceback."""
    deadline = time.monotonic() + within_s
    while True:
        done = subprocess.run(
            command(*settings), cwd=cwd, capture_output=True, text=True, check=False, timeout=within_s
        )
        assert "Traceback" not in done.stderr, done.stderr
        if done.returncode == 0:
            return done.stderr
        assert time.monotonic() < deadline, done.stderr


@cache
def expected_sweep(*settings: str) -> Outcomes:
    """The outcomes of a sweep that nobody disturbs."""
    with TemporaryDirectory() as folder:
        finish(Path(folder), *settings)
        return outcomes(Path(folder) / "runs" / "default")


def wait_for(condition: Callable[[], object], launcher: "subprocess.Popen[str] | None" = None, s: float = 60.0) -> None:
    """Wait until a condition holds; an error where it does not in time, or the launcher ends before."""
    deadline = time.monotonic() + s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        assert launcher is None or launcher.poll() is None, "the sweep ended before it could be disturbed"
        time.sleep(0.01)


def training(study: Path) -> list[int]:
    """The processes that train a run of the study right now."""
    found = []
    for path in study.iterdir() if study.is_dir() else ():
        if path.is_dir() and run_state(path).status == "running":
            attempts = attempt_dirs(path)
            found += [json.loads((attempts[-1] / "meta.json").read_text())["pid"]] if attempts else []
    return found


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and those that these started."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in task.read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
        found += [*children, *(grandchild for child in children for grandchild in descendants(child))]
    return found


def kill(pid: int, number: int = signal.SIGKILL) -> bool:
    """Send a signal; whether there was a living process to receive it."""
    if start_ticks(pid) is None:
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def seeds(count: int) -> str:
    """The setting of a sweep over so many seeds."""
    return f"seed=range(0,{count})"


def shuffled(values: Sequence[Any], rng: random.Random) -> list[Any]:
    """The values in a random order."""
    return rng.sample(list(values), len(values))
