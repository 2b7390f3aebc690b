"""Launcher `ray`: actors of Ray Core, one a slot, start workers of a planned study and start them again.

Ray holds no state of the study. An actor that dies takes its worker along, which saves first; a driver that dies takes
its actors along, and the same command starts others.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.extras import library
from scaling.launch.exit_codes import FAILURES_LEFT, NOTHING_LEFT, START_AGAIN
from scaling.machine.slots import cpu_cores, gpu_ids
from scaling.plan.branches import furthest_step
from scaling.records.record import run_dirs
from scaling.train.stop_request import StopRequest

FOLDER = "ray"
LOOK_S = 1.0
GRACE_S = 60.0  # for workers that are asked to stop, until Ray is left
ANSWER_S = 5.0  # for an actor that has a place, to take in the request; for a cluster, to be there
FRUITLESS = 5  # ends of a slot's workers in a row without a step of any run, after which the slot is given up
PAUSE_S = 1.0  # before a worker after a fruitless end; each further one makes it twice as long
ENDS = {
    NOTHING_LEFT: "nothing left",
    FAILURES_LEFT: "failures left",
    2: "refused to start",
    START_AGAIN: "stopped with work left",
}


@dataclass(frozen=True)
class RaySettings:
    """Settings of hydra/launcher=ray; conf/hydra/launcher/ray.yaml explains each."""

    address: str | None
    slots: int | None
    gpus: int | None
    cpus: int

    def __post_init__(self) -> None:
        for name, least in (("slots", 1), ("gpus", 0), ("cpus", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"hydra.launcher.{name}={value}: must be at least {least}")


class Starter:
    """An actor that starts workers in its slot, one at a time.

    The worker ends with its standard input, which the system closes when this process dies in whatever way.
    """

    def __init__(self, gpus: int) -> None:
        self._gpus = gpus
        self._worker: subprocess.Popen[bytes] | None = None
        self._stopped = threading.Event()

    def work(self, study_dir: str, log: str, pause_s: float) -> int:
        """Start a worker of the study after a pause, and wait for its end; return its exit code."""
        if self._stopped.wait(pause_s):
            return START_AGAIN
        environment = dict(os.environ)
        environment.pop("OMP_NUM_THREADS", None)  # Ray's, for an actor that computes by itself
        if not self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ""
        command = [sys.executable, "-m", "scaling.cli", "worker", study_dir, "--until-eof"]
        with open(log, "ab") as out:
            self._worker = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=out, stderr=out, env=environment, start_new_session=True
            )
        if self._stopped.is_set():
            self.stop()
        return self._worker.wait()

    def stop(self) -> None:
        """Let the worker save and end."""
        self._stopped.set()
        if self._worker is not None and self._worker.stdin is not None:
            self._worker.stdin.close()


@dataclass
class _Place:
    """A slot of the cluster: its actor, and the ends of its workers."""

    name: str
    actor: Any = None
    progress: tuple[int, int] = (0, 0)  # of the study, when the worker was started
    fruitless: int = 0


def start_ray(study_dir: Path, plan_id: str, unfinished: Callable[[], int], values: Mapping[str, Any]) -> bool:
    """Start workers of a study on a Ray cluster and wait for its runs; whether it has waited, which is always.

    ValueError for settings that the cluster has no room for.
    """
    settings = RaySettings(**values)
    ray = library("ray", "ray", "hydra/launcher=ray")
    with _cluster(ray, settings), StopRequest(patient=True) as stop:  # in this order: Ray sets a handler of SIGTERM
        gpus, room = _room(ray.nodes(), settings)
        count = min(settings.slots or room, max(1, unfinished()))
        (study_dir / FOLDER).mkdir(exist_ok=True)
        print(f"ray: {_workers(count)} of {study_dir}; logs in {study_dir / FOLDER}", file=sys.stderr, flush=True)
        _Fleet(ray, study_dir.resolve(), settings.cpus, gpus, count).run(stop)
    return True


class _Fleet:
    """Actors of one driver, a worker of the study in each."""

    def __init__(self, ray: Any, study_dir: Path, cpus: int, gpus: int, count: int) -> None:
        self._ray, self._study_dir, self._gpus = ray, study_dir, gpus
        # One actor's resources lie on one node, as a worker's GPUs must: a placement group would add nothing. The
        # second thread takes in `stop`.
        asked = {"num_cpus": cpus, "num_gpus": gpus, "max_restarts": 0, "max_task_retries": 0, "max_concurrency": 2}
        self._actors = ray.remote(**asked)(Starter)
        self._places = [_Place(f"worker-{number}") for number in range(count)]
        self._waiting: dict[Any, _Place] = {}

    def run(self, stop: StopRequest) -> None:
        """Keep a worker in every slot until nothing is left for it; a signal stops the workers, a second one at once.

        A driver's end, by whatever cause, stops its workers too.
        """
        for place in self._places:
            self._start(place)
        while self._waiting and not stop.requested:
            for place, end in self._ended():
                if self._again(place, end):
                    self._start(place)
        if self._waiting:
            print(f"ray: {_workers(len(self._waiting))} asked to stop", file=sys.stderr, flush=True)
            self._stop(stop)

    def _start(self, place: _Place) -> None:
        place.progress = _progress(self._study_dir)
        place.actor = self._actors.remote(self._gpus)
        pause_s = PAUSE_S * 2 ** (place.fruitless - 1) if place.fruitless else 0.0
        log = self._study_dir / FOLDER / f"{place.name}.log"
        self._waiting[place.actor.work.remote(str(self._study_dir), str(log), pause_s)] = place

    def _ended(self) -> Iterator[tuple[_Place, int | str]]:
        """Slots whose worker has ended since, each with its exit code, or the reason of its actor's death."""
        ended, _ = self._ray.wait(list(self._waiting), num_returns=len(self._waiting), timeout=LOOK_S)
        for reference in ended:
            place = self._waiting.pop(reference)
            place.actor = None  # the last handle: Ray ends the actor, and its slot is free
            try:
                yield place, int(self._ray.get(reference))
            except self._ray.exceptions.RayError as error:
                yield place, f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"

    def _again(self, place: _Place, end: int | str) -> bool:
        """Whether the slot gets another worker; the end of the last is printed unless nothing was left."""
        if end == NOTHING_LEFT:
            return False
        words = end if isinstance(end, str) else ENDS.get(end, f"ended with {end}")
        place.fruitless = 0 if _progress(self._study_dir) != place.progress else place.fruitless + 1
        again = (isinstance(end, str) or end == START_AGAIN or end < 0) and place.fruitless < FRUITLESS
        after = "another starts" if again else f"none starts again; look at {FOLDER}/{place.name}.log"
        print(f"ray: {place.name}: {words}; {after}", file=sys.stderr, flush=True)
        return again

    def _stop(self, stop: StopRequest) -> None:
        asked, count = time.monotonic(), stop.count
        answers = {place.actor.stop.remote(): reference for reference, place in self._waiting.items()}
        _, silent = self._ray.wait(list(answers), num_returns=len(answers), timeout=ANSWER_S)
        for answer in silent:  # actors that no node has room for yet
            del self._waiting[answers[answer]]
        while self._waiting and stop.count == count and time.monotonic() - asked < GRACE_S:
            for _ in self._ended():
                pass


@contextmanager
def _cluster(ray: Any, settings: RaySettings) -> Iterator[None]:
    """Within, this process is a driver: of the cluster at the address, or of a Ray of its own on this machine.

    The latter has a folder and ports of its own, so that any number lie side by side, and ends with this process.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    folder = None
    try:
        if settings.address is None:
            folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets lie in it: 107 bytes at most
            own = {"num_cpus": max(cpu_cores(), settings.cpus), "num_gpus": len(gpu_ids()), "_temp_dir": folder}
            ray.init(address="local", include_dashboard=False, **own, **quiet)
        else:
            _answers(settings.address)
            ray.init(address=settings.address, **quiet)
    except ConnectionError as error:
        raise ValueError(
            f"hydra.launcher.address={settings.address}: no Ray answers there ({' '.join(str(error).split())}); null "
            f"starts one on this machine"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _answers(address: str) -> None:
    """ConnectionError where nobody listens at HOST:PORT: Ray itself would ask for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit() and "/" not in host:
        try:
            socket.create_connection((host.strip("[]"), int(port)), ANSWER_S).close()
        except OSError as error:
            raise ConnectionError(str(error)) from None


def _room(nodes: list[Mapping[str, Any]], settings: RaySettings) -> tuple[int, int]:
    """GPUs of a slot, and the number of slots that the cluster's nodes have room for; ValueError where for none."""
    have = [
        (int(r.get("CPU", 0)), int(r.get("GPU", 0))) for r in (node["Resources"] for node in nodes if node["Alive"])
    ]
    gpus = min(1, max((gpu for _, gpu in have), default=0)) if settings.gpus is None else settings.gpus
    room = sum(min(cpu // settings.cpus, gpu // gpus if gpus else cpu) for cpu, gpu in have)
    if not room and settings.slots is None:  # more nodes may come, but how many slots is then the user's to say
        most = ", ".join(f"{cpu} CPUs and {gpu} GPUs" for cpu, gpu in sorted(set(have))) or "none"
        raise ValueError(
            f"hydra.launcher.cpus={settings.cpus} with gpus={gpus}: no node of the Ray cluster has room for that "
            f"(nodes have {most}); ask for less, or set hydra.launcher.slots where nodes are still to come"
        )
    return gpus, room


def _progress(study_dir: Path) -> tuple[int, int]:
    """A pair of numbers that differs once any run of the study was finished or has another checkpoint."""
    paths = run_dirs(study_dir)
    return sum((path / "record.json").exists() for path in paths), sum(map(furthest_step, paths))


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"
