"""Slots, the places for one run each: one or several on each GPU, or shares of the CPU's cores."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

GPU_SHARE = "SCALING_GPU_SHARE"  # environment variable with a slot's share of its GPU's memory
CORES = "SCALING_CORES"  # environment variable with a slot's cores


@dataclass(frozen=True)
class Slot:
    """A place for one run at a time."""

    name: str
    threads: int
    environment: dict[str, str]
    fixed: bool = True  # a run takes exactly these threads; otherwise up to as many, as its steps can use

    @property
    def asked_threads(self) -> int | None:
        """Threads of every run of the slot; None where a run chooses."""
        return self.threads if self.fixed else None


@cache
def gpu_ids() -> tuple[str, ...]:
    """The GPUs that this process may use, in the names of CUDA_VISIBLE_DEVICES, from the driver and not from torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(part.strip() for part in visible.split(",") if part.strip() not in ("", "-1"))
    return _by_driver("index")


@cache
def gpu_bytes() -> float | None:
    """Memory of the smallest GPU here by the driver, bytes; None where it does not state any."""
    return min((float(part) * 2**20 for part in _by_driver("memory.total") if part.isdigit()), default=None)


def _by_driver(fact: str) -> tuple[str, ...]:
    """A fact about each GPU here, by NVIDIA's driver; none without it."""
    if shutil.which("nvidia-smi") is None:
        return ()
    asked = subprocess.run(
        ["nvidia-smi", f"--query-gpu={fact}", "--format=csv,noheader,nounits"],
        capture_output=True,
        text=True,
        check=False,
    )
    return tuple(asked.stdout.split()) if asked.returncode == 0 else ()


def host_bytes() -> float:
    """Memory of this machine, bytes, whether it is free or not."""
    return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def cpu_cores() -> int:
    """Cores that this process may run on; a container or a batch system may allow fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def slots(wanted: int | None, threads_per_slot: int | None, use_gpus: bool) -> list[Slot]:
    """Slots as `wanted`, with the cores divided between them; by default one a GPU, or one a core on the CPU.

    More slots than GPUs share the GPUs in turn: a small model leaves most of a GPU idle between its kernels.

    One thread a run is the CPU's default: two small runs side by side on two cores finish sooner than one after the
    other on both.
    """
    cores = cpu_cores()
    for name, value in (("slots", wanted), ("threads_per_slot", threads_per_slot)):
        if value is not None and value < 1:
            raise ValueError(f"hydra.launcher.{name}={value}: must be at least 1, or null to choose by itself")
    gpus = gpu_ids() if use_gpus else ()
    if gpus:
        count = wanted or len(gpus)
        threads = threads_per_slot or max(1, cores // count)
        return [_gpu_slot(gpus[i % len(gpus)], i // len(gpus), -(-count // len(gpus)), threads) for i in range(count)]
    count = wanted or max(1, cores // (threads_per_slot or 1))
    threads = threads_per_slot or max(1, cores // count)
    environment = {"CUDA_VISIBLE_DEVICES": "", CORES: str(threads)}
    return [Slot(f"cpu {i}", threads, environment, fixed=threads_per_slot is not None) for i in range(count)]


def _gpu_slot(gpu: str, place: int, places: int, threads: int) -> Slot:
    """The slot with number `place` of the `places` on a GPU."""
    name = f"gpu {gpu}" if places == 1 else f"gpu {gpu}.{place}"
    environment = {"CUDA_VISIBLE_DEVICES": gpu, GPU_SHARE: f"{1 / places:g}", CORES: str(threads)}
    if "CUDA_VISIBLE_DEVICES" not in os.environ:  # the driver numbers by bus, CUDA by speed unless asked otherwise
        environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    return Slot(name, threads, environment)


def joined(slots: Sequence[Slot]) -> Slot:
    """One slot of several, for a run of as many devices, whose processes part it again (`rank_environment`).

    Every process has the threads of one slot.
    """
    first, *others = slots
    if not others:
        return first
    environment = dict(first.environment)
    environment["CUDA_VISIBLE_DEVICES"] = ",".join(filter(None, (s.environment["CUDA_VISIBLE_DEVICES"] for s in slots)))
    environment[CORES] = str(sum(slot.threads for slot in slots))
    kind = first.name.partition(" ")[0]
    name = f"{kind} {'+'.join(slot.name.partition(' ')[2] for slot in slots)}"
    return Slot(name, first.threads, environment, first.fixed)


def rank_environment(rank: int, ranks: int) -> dict[str, str]:
    """Environment variables of one of the processes that train a run: its GPU, if there are any, and its cores."""
    own = {CORES: str(max(1, int(os.environ.get(CORES, cpu_cores())) // ranks))}
    gpus = gpu_ids()
    return own | {"CUDA_VISIBLE_DEVICES": gpus[rank]} if rank < len(gpus) else own
