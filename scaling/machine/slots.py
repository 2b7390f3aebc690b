"""The places where runs can go: one slot a GPU, or several on each, or the CPU's cores shared out."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache

GPU_SHARE = "SCALING_GPU_SHARE"  # in a slot's environment: of its GPU's memory, where several slots share one


@dataclass(frozen=True)
class Slot:
    """A place for one run at a time."""

    name: str
    threads: int
    environment: dict[str, str]


@cache
def gpu_ids() -> tuple[str, ...]:
    """The GPUs this process may use, as CUDA_VISIBLE_DEVICES would name them; asks the driver, not torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(part.strip() for part in visible.split(",") if part.strip() not in ("", "-1"))
    if shutil.which("nvidia-smi") is None:
        return ()
    asked = subprocess.run(
        ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=False,
    )
    return tuple(asked.stdout.split()) if asked.returncode == 0 else ()


def cpu_cores() -> int:
    """Cores this process may run on, which a container or a batch system may have made fewer than the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def slots(wanted: int | None, threads_per_slot: int | None, use_gpus: bool) -> list[Slot]:
    """One slot a GPU, or `wanted` slots (of CPU one a core unless said otherwise), the cores divided between them.

    More slots than GPUs share these in turn: a small model leaves most of a GPU idle between its kernels.

    On the CPU one thread a run is the default: two small runs side by side on two cores finish sooner than one after
    the other on both.
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
    return [Slot(f"cpu {i}", threads, {"CUDA_VISIBLE_DEVICES": ""}) for i in range(count)]


def _gpu_slot(gpu: str, place: int, places: int, threads: int) -> Slot:
    """Slot number `place` of those on a GPU."""
    name = f"gpu {gpu}" if places == 1 else f"gpu {gpu}.{place}"
    return Slot(name, threads, {"CUDA_VISIBLE_DEVICES": gpu, GPU_SHARE: f"{1 / places:g}"})
