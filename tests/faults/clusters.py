"""Batch systems and clusters: Slurm's daemons and jobs, Ray's nodes, actors and drivers, killed while they train."""

import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from scaling.launch import slurm
from scaling.records.files import read_json
from tests.faults.fleet import STUDY, grid, missing
from tests.faults.runs import Tally, check, descendants, expected_sweep, kill, launched, training, wait_for

SMALL_JOBS = tuple(
    f"hydra.launcher.{setting}" for setting in ("gpus=0", "cpus=1", "memory=1G", "time=5", "array_parallel=2")
)
BY_SLURM = ("hydra/launcher=slurm", *SMALL_JOBS, "hydra.launcher.wait=false")


@cache
def unanswered() -> str:
    """Why no Slurm can be asked here; empty where one answers."""
    if shutil.which("sbatch") is None:
        return "sbatch is not here: no Slurm to ask"
    try:
        answered = (
            subprocess.run(["squeue", "--noheader"], capture_output=True, check=False, timeout=20).returncode == 0
        )
    except subprocess.TimeoutExpired:
        answered = False
    return "" if answered else "the controller of Slurm does not answer"


def without_slurm() -> str:
    """Why no Slurm can be injured here; empty where one answers whose daemons this user may kill."""
    killable = processes("slurmd") and not os.geteuid()
    return unanswered() or ("" if killable else "Slurm's daemons are not this user's to kill")


def without_ray() -> str:
    """Why no Ray can be started here; empty where the extra is installed."""
    return "" if find_spec("ray") else "ray is not installed (extra ray)"


def processes(name: str) -> list[int]:
    """The processes of this machine with a name."""
    found = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        with suppress(OSError):
            found += [int(path.parent.name)] if path.read_text().strip() == name else []
    return found


def slurm_jobs(folder: Path, *, long: bool) -> Tally:
    """kill -9 of Slurm's workers, node daemons and controller; TERM, scancel and requeue of jobs"""
    rng, tally, target, runs = random.Random(5), Tally(), 30 if long else 5, 12 if long else 4
    expected = expected_sweep(*grid(runs))
    while tally.injuries < target:
        here = folder / str(tally.runs)
        here.mkdir()
        injuries = list(SLURM_INJURIES.values())
        deadline = time.monotonic() + 300
        submitted(here, runs)
        while missing(here / STUDY, runs):
            assert time.monotonic() < deadline, "the jobs did not end"
            if tally.injuries < target and training(here / STUDY):
                tally.injuries += injuries[tally.injuries % len(injuries)](here / STUDY, rng)
            time.sleep(rng.expovariate(1 / 1.5))
            if not jobs(here / STUDY):
                submitted(here, runs)
        for job in jobs(here / STUDY):
            subprocess.run(["scancel", job.array], check=False)
        wait_for(lambda here=here: not training(here / STUDY))  # type: ignore[misc]
        check(here / STUDY, expected)
        tally.runs += runs
    return tally


def submitted(cwd: Path, runs: int) -> None:
    """Submit what the queue does not hold, as the sweep's command does."""
    command = launched(cwd, *grid(runs), *BY_SLURM)
    assert command.wait(120) == 0, (cwd / "printed.txt").read_text()


def jobs(study: Path) -> list[slurm.QueuedJob]:
    """The study's workers in the queue, however often a restarting controller has to be asked."""
    comment = str((read_json(study / slurm.FOLDER / slurm.INTENT) or {})["comment"])
    for _ in range(60):
        with suppress(TimeoutError):
            return slurm.queue(comment)
        time.sleep(0.5)
    raise AssertionError("the controller does not answer")


def _kill_step(study: Path, rng: random.Random) -> bool:
    victims = rng.choice([workers_of(study), training(study)])
    return bool(victims) and kill(rng.choice(victims))


def workers_of(study: Path) -> list[int]:
    """The workers of a study on this machine."""
    pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return [pid for pid in pids if {b"worker", os.fsencode(study.resolve())} <= {*cmdline(pid).split(b"\0")}]


def _restart(name: str) -> Callable[[Path, random.Random], bool]:
    def injure(study: Path, rng: random.Random) -> bool:
        """Kill a daemon, and start it again as it was started."""
        pid = rng.choice(processes(name))
        command = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        killed = kill(pid)
        time.sleep(rng.uniform(0, 2))
        subprocess.run(command, check=True)
        return killed

    return injure


def _asked(*command: str) -> Callable[[Path, random.Random], bool]:
    def injure(study: Path, rng: random.Random) -> bool:
        """Give an order of Slurm's to one of the study's running jobs."""
        running = [job.array for job in jobs(study) if job.state == "RUNNING"]
        return bool(running) and not subprocess.run([*command, rng.choice(running)], check=False).returncode

    return injure


SLURM_INJURIES = {
    "kill": _kill_step,
    "node daemon": _restart("slurmd"),
    "controller": _restart("slurmctld"),
    "requeue": _asked("scontrol", "requeue"),
    "TERM": _asked("scancel", "--signal=TERM", "--full"),
    "scancel": _asked("scancel"),
}


@contextmanager
def ray_cluster(nodes: int) -> Iterator[Any]:
    """A Ray cluster of nodes of one CPU on this machine, beside its head, which has none; ports are its own."""
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(nodes):
            cluster.add_node(num_cpus=1)
        yield cluster
    finally:
        cluster.shutdown()


def ray_actors(folder: Path, *, long: bool) -> Tally:
    """kill -9 of Ray's drivers, actors, workers and nodes, each started again"""
    rng, tally, target, runs = random.Random(6), Tally(), 30 if long else 4, 12 if long else 4
    expected = expected_sweep(*grid(runs))
    with ray_cluster(nodes=2) as cluster:
        settings = ("hydra/launcher=ray", f"hydra.launcher.address={cluster.address}")
        while tally.injuries < target:
            here = folder / str(tally.runs)
            here.mkdir()
            driver, deadline = launched(here, *grid(runs), *settings), time.monotonic() + 300
            while driver.poll() is None or driver.returncode:
                assert time.monotonic() < deadline, (here / "printed.txt").read_text()
                if driver.poll() is not None:
                    driver = launched(here, *grid(runs), *settings)
                if tally.injuries < target and training(here / STUDY):
                    kind = RAY_INJURIES[tally.injuries % len(RAY_INJURIES)]
                    tally.injuries += kind(here / STUDY, cluster, driver, rng)
                time.sleep(rng.expovariate(1 / 1.5))
            wait_for(lambda here=here: not training(here / STUDY))  # type: ignore[misc]
            check(here / STUDY, expected)
            assert "Traceback" not in (here / "printed.txt").read_text()
            tally.runs += runs
    return tally


def _kill_driver(study: Path, cluster: Any, driver: "subprocess.Popen[str]", rng: random.Random) -> bool:
    return kill(driver.pid)


def _kill_actor(study: Path, cluster: Any, driver: "subprocess.Popen[str]", rng: random.Random) -> bool:
    """Kill an actor, as the kernel does where memory runs out."""
    below = [pid for node in cluster.worker_nodes for pid in descendants(raylet(node))]
    actors = [pid for pid in below if b"Starter" in cmdline(pid)]
    return bool(actors) and kill(rng.choice(actors))


def _kill_worker(study: Path, cluster: Any, driver: "subprocess.Popen[str]", rng: random.Random) -> bool:
    return _kill_step(study, rng)


def _lose_node(study: Path, cluster: Any, driver: "subprocess.Popen[str]", rng: random.Random) -> bool:
    """Kill a node with all its processes but those that train, which notice; another node comes."""
    cluster.remove_node(rng.choice(sorted(cluster.worker_nodes, key=raylet)), allow_graceful=False)
    cluster.add_node(num_cpus=1)
    return True


def raylet(node: Any) -> int:
    """The process of a node's raylet."""
    from ray._private.ray_constants import PROCESS_TYPE_RAYLET

    return int(node.all_processes[PROCESS_TYPE_RAYLET][0].process.pid)


def cmdline(pid: int) -> bytes:
    """The command line of a process; empty for one that is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


RAY_INJURIES = (_kill_driver, _kill_actor, _kill_worker, _lose_node)
