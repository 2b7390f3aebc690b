"""Machines that lack something: disk, links, rights, descriptors, memory, a common clock or view of processes."""

import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from scaling.records.attempt import run_state
from tests.faults.kills import resume
from tests.faults.runs import (
    ONE_SLOT,
    Tally,
    check,
    command,
    ended,
    expected_runs,
    expected_sweep,
    finish,
    forked,
    launched,
    seeds,
    train,
    training,
    wait_for,
)

GRID = (seeds(2), "budget.flops=2e9")
NOBODY = 65534


def namespaces(*kinds: str) -> str:
    """Why this system gives no such namespaces, e.g. in a container without the right; empty where it does."""
    if shutil.which("unshare") is None:
        return "there is no unshare(1)"
    tried = subprocess.run(["unshare", "--user", "--map-root-user", *kinds, "true"], capture_output=True, check=False)
    return tried.stderr.decode().strip() if tried.returncode else ""


def shell(script: str, cwd: Path, *kinds: str) -> "subprocess.CompletedProcess[str]":
    """A shell script in namespaces of its own, in which it may mount file systems."""
    inside = ["unshare", "--user", "--map-root-user", *kinds, "bash", "-c", script]
    return subprocess.run(inside, cwd=cwd, capture_output=True, text=True, check=False, timeout=300)


def full_disk(folder: Path, *, long: bool) -> Tally:
    """a disk that is full in the middle of a sweep, and has room again"""
    expected = expected_sweep(*GRID)
    train_it = shlex.join(command(*GRID))
    disk = folder / "disk"
    disk.mkdir()
    done = shell(
        f"mount -t tmpfs -o size=24m tmpfs {disk}; cd {disk}; {train_it.replace('seed=range(0,2)', 'seed=7')};"
        "dd if=/dev/zero of=filler bs=20k 2>/dev/null; truncate --size=-60k filler;"
        f"{train_it} 2>full.txt; echo code $?; rm filler; {train_it} 2>again.txt; echo code $?;"
        f"cp -r . {folder / 'kept'}",
        folder,
        "--mount",
    )
    printed = (folder / "kept" / "full.txt").read_text()
    assert done.stdout.split("code ")[1:] == ["1\n", "0\n"], printed + done.stdout + done.stderr
    assert "No space left on device" in printed
    assert "Traceback" not in printed
    study = folder / "kept" / "runs" / "default"
    for path in study.iterdir():
        if path.name not in expected and path.is_dir():
            shutil.rmtree(path)
    check(study, expected)
    return Tally(1, len(expected), printed)


def read_only(folder: Path, *, long: bool) -> Tally:
    """a file system that is read-only, and folders without permission to write"""
    expected, study = expected_sweep(*GRID), folder / "runs" / "default"
    study.mkdir(parents=True)
    refused = shell(
        f"mount --bind {folder} {folder}; mount -o remount,bind,ro {folder}; cd {folder}; {shlex.join(command(*GRID))}",
        folder,
        "--mount",
    )
    assert refused.returncode == 2, refused.stderr
    assert "Traceback" not in refused.stderr
    assert "Read-only file system" in refused.stderr
    printed = finish(folder, *GRID)
    check(study, expected)
    return Tally(1, len(expected), printed)


def no_permission(folder: Path, *, long: bool) -> Tally:
    """a run's folder that belongs to somebody else"""
    expected = expected_runs(1)
    (run_id,) = expected
    with TemporaryDirectory() as name:  # its parents, unlike those of `folder`, are open to everybody
        here, said = Path(name), Path(name) / "said.txt"
        here.chmod(0o755)
        assert ended(forked(train_until_claimed, here)) == -signal.SIGKILL
        attempts = here / "s" / run_id / "attempts"
        attempts.chmod(0o555)
        said.touch()
        said.chmod(0o666)
        assert ended(forked(train_as_nobody, here, said)) == 0
        printed = said.read_text()
        assert "PermissionError" in printed
        assert run_id in printed
        attempts.chmod(0o755)
        assert ended(forked(resume, here)) == 0
        check(here / "s", expected)
    return Tally(1, 1, printed)


def train_until_claimed(folder: Path) -> None:
    """Train a run until it has been claimed, and die."""

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "os.mkdir" and "checkpoint" in str(arguments[0]):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    train(folder)


def train_as_nobody(folder: Path, said: Path) -> None:
    """Train a run as a user without rights, and write the error."""
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
    try:
        train(folder)
    except OSError as error:
        said.write_text(f"{type(error).__name__}: {error}")


def no_links(folder: Path, *, long: bool) -> Tally:
    """a file system without hard links, with a kill before every rename"""
    expected, kills, place = expected_runs(1), 0, 0
    while True:
        place += 1
        here = folder / str(place)
        code = ended(forked(train_without_links, here, place))
        kills += code == -signal.SIGKILL
        assert ended(forked(resume_without_links, here)) == 0
        check(here / "s", expected)
        (record,) = (here / "s").glob("*/record.json")
        if code == 0 or (not long and place == 3):
            assert json.loads(record.read_text())["publication"] == "reservation"
            return Tally(kills, place)


def train_without_links(folder: Path, last: int) -> None:
    """Train a run where no file can be linked, and die right before a rename."""
    renames = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal renames
        if event == "os.link":
            raise PermissionError(1, "Operation not permitted")
        if event == "os.rename" and str(arguments[0]).startswith(str(folder)):
            renames += 1
            if renames == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    train(folder)


def resume_without_links(folder: Path) -> None:
    """Go on with a run where no file can be linked."""

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "os.link":
            raise PermissionError(1, "Operation not permitted")

    sys.addaudithook(hook)
    resume(folder)


LIMITS = {"few descriptors": (resource.RLIMIT_NOFILE, 40), "little memory": (resource.RLIMIT_AS, 900 << 20)}


def limits(folder: Path, *, long: bool) -> Tally:
    """few file descriptors (40), little memory (900 MiB of addresses)"""
    expected, tally = expected_sweep(*GRID), Tally()
    for name, (kind, most) in LIMITS.items():
        here = folder / name
        here.mkdir()

        def limit(kind: int = kind, most: int = most) -> None:
            resource.setrlimit(kind, (most, most))

        limited = launched(here, *GRID, preexec_fn=limit)
        limited.wait(120)
        printed = (here / "printed.txt").read_text()
        assert limited.returncode == 0 or "Traceback" not in printed, printed
        tally.printed += printed
        finish(here, *GRID)
        check(here / "runs" / "default", expected)
        tally.injuries, tally.runs = tally.injuries + 1, tally.runs + len(expected)
    return tally


def small_shm(folder: Path, *, long: bool) -> Tally:
    """/dev/shm of 64 KiB"""
    expected = expected_sweep(*GRID)
    done = shell(f"mount -t tmpfs -o size=64k tmpfs /dev/shm; {shlex.join(command(*GRID))}", folder, "--mount")
    assert done.returncode == 0, done.stderr
    check(folder / "runs" / "default", expected)
    return Tally(1, len(expected))


def clocks(folder: Path, *, long: bool) -> Tally:
    """heartbeats a year ahead and a year behind, of a process elsewhere that is gone"""
    expected, tally = expected_runs(1), Tally()
    for years in (1, -1):
        here = folder / str(years)
        assert ended(forked(train_until_claimed, here)) == -signal.SIGKILL
        (attempt,) = (here / "s").glob("*/attempts/0001")
        meta = json.loads((attempt / "meta.json").read_text())
        (attempt / "meta.json").write_text(json.dumps(meta | {"host": "elsewhere", "boot": "another"}))
        skewed = time.time() + years * 365 * 86400
        os.utime(attempt / "heartbeat.json", (skewed, skewed))
        state = run_state(attempt.parents[1]).status
        assert state == ("running" if years > 0 else "lost")
        assert ended(forked(resume, here)) == 0
        check(here / "s", expected)
        tally.injuries, tally.runs = tally.injuries + 1, tally.runs + 1
    return tally


def containers(folder: Path, *, long: bool) -> Tally:
    """two process namespaces with one host name, a launcher in each"""
    grid = (seeds(4), "budget.flops=2e9", *ONE_SLOT)
    expected, study = expected_sweep(*grid), folder / "runs" / "default"
    inside = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", *command(*grid)]
    contained = subprocess.Popen(inside, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: training(study))
    outside = launched(folder, *grid)
    assert contained.wait(120) == 0
    assert outside.wait(120) == 0, (folder / "printed.txt").read_text()
    check(study, expected)
    return Tally(2, len(expected))
