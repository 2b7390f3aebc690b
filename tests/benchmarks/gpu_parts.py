"""Parts of `gpu_speed.py` without a model's steps: the loss alone, copies, a profile, sweeps, and `scaling bench`."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F

from scaling.launch.in_process import InProcess
from scaling.launch.launchers import Launcher
from scaling.launch.local import Local
from scaling.machine.hardware import synchronize
from scaling.machine.speed import ASSUMED
from scaling.objectives import chunked_loss
from scaling.objectives.chunked_loss import chunked_cross_entropy
from scaling.profiling.bench import CASES, Case, time_case
from scaling.profiling.timing import time_call
from scaling.spec import memory

Row = dict[str, Any]
PROFILED_STEPS = 5
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "aten::_local_scalar_dense")


def loss_alone(device: torch.device, full: bool) -> Iterator[Row]:
    """The loss and its gradients: whole, compiled, and in chunks of several sizes."""
    tokens, width = (32 * 1024, 768) if full else (64, 8)
    for vocabulary in (50304, 50257) if full else (96, 91):
        x_ND = torch.randn(tokens, width, device=device, dtype=torch.bfloat16, requires_grad=True)
        weight_VD = (0.02 * torch.randn(vocabulary, width, device=device)).requires_grad_()
        targets_N = torch.randint(vocabulary, (tokens,), device=device)

        def whole(x: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return F.cross_entropy(F.linear(x, weight.to(x.dtype)).float(), targets)

        def chunked(x: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return chunked_cross_entropy(x[None], weight[None], None, targets[None], None)[0] / len(targets)

        def unfused(x: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            with patch.object(chunked_loss, "is_fused", lambda _: False):
                return chunked(x, weight, targets)

        ways: dict[str, tuple[Any, int]] = {"whole": (whole, tokens)}
        ways |= {f"chunks of {rows}": (chunked, rows) for rows in ((2048, 8192, 16384) if full else (16,))}
        ways["chunks of 667, not fused"] = (unfused, 667 if full else 16)
        if full:
            ways["compiled"] = (torch.compile(whole), tokens)
        for name, (loss, rows) in ways.items():

            def both(loss: Any = loss, given: Any = (x_ND, weight_VD, targets_N)) -> None:
                torch.autograd.grad(loss(*given), given[:2])

            row: Row = {"vocabulary": vocabulary, "way": name}
            try:
                with patch.object(memory, "CHUNK_LOGITS", rows * vocabulary), patch.object(memory, "FUSED_ROWS", rows):
                    yield row | _timed(both, device)
            except Exception as error:
                yield row | {"why": f"{type(error).__name__}: {error}"[:500]}


def _timed(call: Callable[[], None], device: torch.device) -> Row:
    """Milliseconds of a call, and the memory that it takes at most."""
    before = 0
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    seconds = time_call(call, device)["median_s"]
    peak = torch.cuda.max_memory_allocated(device) - before if device.type == "cuda" else None
    return {"ms": 1e3 * seconds, "peak_bytes": peak}


def copies(device: torch.device, full: bool) -> Iterator[Row]:
    """Ways of bringing a batch to the device."""
    sequences, tokens = (64, 1024) if full else (4, 16)
    small_BS = torch.randint(50304, (sequences, tokens + 1)).to(torch.uint16)
    wide_BS = small_BS.long()

    def pinned(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.pin_memory() if device.type == "cuda" else tensor

    resident = small_BS.to(device).long().flatten()
    starts_B1 = torch.arange(sequences).unsqueeze(1) * tokens
    offsets_S = torch.arange(tokens + 1, device=device)
    ways: dict[str, Callable[[], Any]] = {
        "two strided int64 views, pinned": lambda: [
            pinned(part).to(device, non_blocking=True) for part in (wide_BS[:, :-1], wide_BS[:, 1:])
        ],
        "one contiguous int64": lambda: pinned(wide_BS).to(device, non_blocking=True),
        "one contiguous uint16, cast there": lambda: pinned(small_BS).to(device, non_blocking=True).long(),
        "starts alone, tokens resident": lambda: resident[pinned(starts_B1).to(device, non_blocking=True) + offsets_S],
    }
    for name, way in ways.items():
        started = time.perf_counter()
        for _ in range(100):
            way()
        host_s = time.perf_counter() - started
        synchronize(device)
        yield {"batch": name, "host_us": 1e4 * host_s, "us": 1e4 * (time.perf_counter() - started)}


def profile(step: Callable[[], None], device: torch.device, top: int) -> Row:
    """The kernels that take most of a step, the share of time without a kernel, and the waits for the device."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with torch.profiler.profile(activities=activities) as profiler:
        started = time.perf_counter()
        for _ in range(PROFILED_STEPS):
            step()
        synchronize(device)
        wall_us = 1e6 * (time.perf_counter() - started)
    events = profiler.key_averages()
    on_device = device.type == "cuda"
    own = {
        event.key: (event.self_device_time_total if on_device else event.self_cpu_time_total, event.count)
        for event in events
        if not on_device or (event.device_type == DeviceType.CUDA and not event.is_user_annotation)
    }
    longest = sorted(own.items(), key=lambda item: -item[1][0])[:top]
    busy_us = sum(us for us, _ in own.values())
    return {
        "step_us": wall_us / PROFILED_STEPS,
        "idle": max(0.0, 1 - busy_us / wall_us),
        "waits": {event.key: event.count for event in events if event.key in WAITS},
        "kernels": [
            {"name": key[:120], "us": us / PROFILED_STEPS, "count": count / PROFILED_STEPS}
            for key, (us, count) in longest
        ],
    }


def sweeps(device: str, full: bool) -> Iterator[Row]:
    """Seconds of a small sweep through the local launcher: alone, on slots that share the device, and in stacks."""
    ways = {
        "one slot": [],
        "stacks of 4, graphs": ["stack=4", "runtime.cuda_graphs=true"],
        "two slots": ["hydra.launcher.slots=2"],
        "two slots, stacks of 4, graphs": ["hydra.launcher.slots=2", "stack=4", "runtime.cuda_graphs=true"],
    }
    sizes = ["+hydra.sweeper.axes.seed=[0,1,2,3]"] if full else ["hydra.sweeper.budgets=[1e9]"]
    sizes += [] if full else ["hydra.sweeper.shapes=[{n_layers: 1, d_model: 8, n_heads: 1}]", "budget.tolerance=100"]
    todo = list(ways.items())[: None if full else 1]
    code = "import sys; from scaling.cli import main; sys.exit(main())"
    for name, settings in todo:
        with tempfile.TemporaryDirectory() as folder:
            asked = ["train", "+sweep=smoke", "-m", f"runtime.device={device}", *sizes, *settings]
            started = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", code, *asked],
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
            )
            row = {"way": name, "seconds": time.perf_counter() - started, "exit": done.returncode}
        yield row if done.returncode == 0 else row | {"why": done.stderr[-1500:]}


def benched(device: str, share: Callable[[int], float], full: bool) -> Iterator[Row]:
    """Steps as `scaling bench` times them."""
    launcher: Launcher = Local(use_gpus=True, slots=1) if full else InProcess(use_gpus=False)
    cases = CASES["cuda"] if full else (Case(1, 8, 1, 8, 2),)
    for place, case in enumerate(cases):
        seconds = 0.3 * share(len(cases) - place) if full else 0.01
        timing = time_case(case, "bf16", launcher, seconds, ASSUMED[device])
        yield {"case": case.name, "tokens_per_s": timing.tokens_per_s, "flops_per_s": timing.flops_per_s}
