"""Devices that runs train on: their names, memory and peak speed."""

import os
import platform
import socket
import time
from functools import cache
from pathlib import Path
from typing import Any

import torch

import scaling
from scaling.machine.devices import DEVICES, known_device
from scaling.machine.slots import GPU_SHARE, cpu_cores, host_bytes
from scaling.machine.threads import most_cores, threads_for

APPLE = "mps"  # Metal Performance Shaders, not NVIDIA's multi-process service below
DEVICE_CHOICES = ("auto", "cpu", "cuda", APPLE)
BF16_ON_APPLE = (14, 0)  # macOS
NARROW_SUMS = {APPLE: torch.float32}
COMPILE_WORKERS = 32  # processes of torch's compiler at most, as torch has by itself
MPS_FOLDER = "CUDA_MPS_PIPE_DIRECTORY"  # environment variable with the folder of NVIDIA's multi-process service


def pick_device(wanted: str, precision: str) -> torch.device:
    """The device for "auto", "cpu", "cuda" or "mps"; ValueError where it is absent or lacks the precision.

    Apple's GPU is taken by its name alone: no run here was ever timed on it.
    """
    if wanted not in DEVICE_CHOICES:
        raise ValueError(f"runtime.device={wanted!r}: choose from {', '.join(DEVICE_CHOICES)}")
    if wanted == APPLE:
        return _apple_gpu(precision)
    has_gpu = torch.cuda.is_available()
    if wanted == "cuda" and not has_gpu:
        raise ValueError("runtime.device=cuda, but torch sees no GPU here; use runtime.device=cpu or auto")
    device = torch.device("cuda" if has_gpu and wanted != "cpu" else "cpu")
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ValueError(
            f"recipe.precision=bf16, but {torch.cuda.get_device_name()} has none; use recipe.precision=fp32"
        )
    if device.type == "cuda":
        _keep_to_slot(gpu_share(), most_cores())
        if precision == "fp32":
            _state_cost_of_fp32(torch.cuda.get_device_name())
    return device


def _apple_gpu(precision: str) -> torch.device:
    if not torch.backends.mps.is_available():
        raise ValueError("runtime.device=mps, but torch sees no Apple GPU here; use runtime.device=cpu or auto")
    if precision == "bf16" and not torch.backends.mps.is_macos_or_newer(*BF16_ON_APPLE):
        found = ".".join(map(str, BF16_ON_APPLE))
        raise ValueError(
            f"recipe.precision=bf16 on runtime.device=mps needs macOS {found} or newer; use recipe.precision=fp32"
        )
    return torch.device(APPLE)


def check_apple(device: torch.device, devices: int, cuda_graphs: bool, compiled: bool) -> None:
    """ValueError for settings that Apple's GPU has not: several devices, recorded steps, or compiled blocks."""
    if device.type != APPLE:
        return
    lacks = {
        f"runtime.devices_per_run={devices}": (devices > 1, "it is one device", "runtime.devices_per_run=1"),
        "runtime.cuda_graphs=true": (cuda_graphs, "recorded steps are CUDA's", "runtime.cuda_graphs=false"),
        "recipe.compile=true": (compiled, "torch compiles for it as a prototype alone", "recipe.compile=false"),
    }
    for asked, (is_asked, reason, remedy) in lacks.items():
        if is_asked:
            raise ValueError(f"runtime.device=mps and {asked}: {reason}; choose {remedy}, or another device")


def sums_dtype(device: torch.device) -> torch.dtype:
    """The type of sums on a device: float64, which Apple's GPU has not."""
    return NARROW_SUMS.get(device.type, torch.float64)


def check_devices(count: int, device: torch.device) -> None:
    """ValueError where a run of `count` devices would find fewer GPUs than that here."""
    if device.type == "cuda" and (here := torch.cuda.device_count()) < count:
        raise ValueError(
            f"runtime.devices_per_run={count}, but torch sees {here} GPU{'' if here == 1 else 's'} here; choose "
            f"runtime.devices_per_run={here}, or runtime.device=cpu"
        )


def gpu_share() -> float:
    """The share of a GPU's memory that this process may take."""
    return float(os.environ.get(GPU_SHARE, "1"))


@cache
def _keep_to_slot(share: float, cores: int) -> None:
    """Bound this process's memory on a shared GPU and the compiler's processes; state once how GPUs are shared."""
    from torch._inductor import config  # the fork server has loaded it, so that its environment variable is too late

    config.compile_threads = min(config.compile_threads or COMPILE_WORKERS, cores)
    if share < 1:
        torch.cuda.set_per_process_memory_fraction(share)
        if not (Path(os.environ.get(MPS_FOLDER, "/tmp/nvidia-mps")) / "control").exists():
            print(
                f"{1 / share:.0f} slots share this GPU without MPS, so that their kernels take turns; start "
                f"nvidia-cuda-mps-control -d before the sweep for kernels side by side",
                flush=True,
            )


@cache
def _state_cost_of_fp32(name: str) -> None:
    known = known_device(name)
    times = "" if known is None else f", {DEVICES[known].bf16_flops / DEVICES[known].fp32_flops:.0f} times its speed"
    print(
        f"recipe.precision=fp32 multiplies in full float32, outside {name}'s tensor cores and without TF32; "
        f"recipe.precision=bf16 uses them{times} by the data sheet",
        flush=True,
    )


def use_threads(asked: int | None, device: torch.device, step_flops: float, layers: int, processes: int = 1) -> None:
    """Use the threads asked for, or on the CPU as many as steps of `step_flops` FLOPs at once can use here.

    `processes` processes of one run share the slot's cores.
    """
    if asked is not None:
        torch.set_num_threads(asked)
    elif device.type == "cpu":
        threads = threads_for(step_flops, layers)
        torch.set_num_threads(max(1, min(threads, most_cores() // processes)) if processes > 1 else threads)


def describe(device: torch.device) -> dict[str, Any]:
    """Host, device and threads, for the record; and the share of a GPU that runs share."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()  # Apple's GPU is its chip's
    return {
        "device": device.type,
        "name": name,
        "host": socket.gethostname(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        **({"gpu_share": gpu_share()} if device.type == "cuda" and gpu_share() < 1 else {}),
    }


def free_bytes(device: torch.device) -> float:
    """Memory that a run may take here, bytes: the free part of its share of a GPU, or a CPU slot's share of memory."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return min(float(free), gpu_share() * total)
    if device.type == APPLE:
        return float(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    share = min(1.0, most_cores() / cpu_cores())
    return share * min(_available_bytes(), _allowed_bytes())


def versions() -> dict[str, str]:
    """Versions of the software that a run's numbers depend on."""
    found = {"scaling": scaling.__version__, "python": platform.python_version(), "torch": torch.__version__}
    if torch.version.cuda is not None:
        found["cuda"] = torch.version.cuda
    return found


@cache
def peak_flops(device: torch.device, precision: str) -> float | None:
    """FLOP/s that a device could reach: a known GPU's by its data sheet, a CPU's by a matmul timed here.

    None for an unknown GPU, which a measurement would hold up in the middle of a run.
    """
    if device.type == APPLE:
        return None
    if device.type == "cuda":
        known = known_device(torch.cuda.get_device_name(device))
        return None if known is None else DEVICES[known].peak_flops(precision)
    return matmul_flops(device, precision)


def matmul_flops(device: torch.device, precision: str) -> float:
    """FLOP/s of a large square matmul of random numbers, the best of several.

    Equal numbers flip few bits, so that a GPU at its power limit multiplies them faster than numbers of a model.
    """
    size, repeats = (8192, 10) if device.type == "cuda" else (1024, 8)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    draw = torch.Generator(device).manual_seed(0)
    a = torch.randn(size, size, generator=draw, device=device).to(dtype)
    best = float("inf")
    for _ in range(repeats):
        synchronize(device)
        start = time.perf_counter()
        torch.mm(a, a)
        synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def _available_bytes() -> float:
    """Bytes that the system could give without swapping; all its memory where it does not report them."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return host_bytes()


def _allowed_bytes() -> float:
    """Bytes that the container allows; infinite without a limit."""
    try:
        return float(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):  # absent, or "max"
        return float("inf")


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished all operations launched on it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == APPLE:
        torch.mps.synchronize()


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
