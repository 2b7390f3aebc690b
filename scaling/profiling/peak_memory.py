"""Peak memory of inference, measured in a process of its own (`python -m scaling.profiling.peak_memory`).

Memory does not depend on the weights' values, so the process builds the model from its spec and reads no weights.
"""

import json
import os
import resource
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

import scaling
from scaling.model import build
from scaling.profiling.inference import greedy, new_tokens, prompt
from scaling.spec.run_spec import RunSpec, from_dict, to_dict

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
WORDS = {
    "cpu": "how much the resident memory of a fresh process rose at most, by weights, activations and cache; the "
    "libraries' own memory is left out, and what they had freed before may hide up to some megabytes",
    "cuda": "the most that the allocator had given out at once, to weights, activations and cache",
}


def peak_memory(
    spec: RunSpec, batches: Sequence[int], precision: str, device: torch.device, threads: int
) -> dict[int, int]:
    """Peak bytes of a prefill and a generation at each batch size; ValueError where the process fails."""
    request = {
        "spec": to_dict(spec),
        "batches": sorted(batches),
        "precision": precision,
        "device": device.type,
        "threads": threads,
    }
    root = str(Path(scaling.__file__).parents[1])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "scaling.profiling.peak_memory"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise ValueError(f"{spec.run_id}: measuring its memory failed ({last}); try smaller --batches")
    return dict(zip(sorted(batches), json.loads(done.stdout), strict=True))


@torch.no_grad()
def measure(request: dict[str, Any]) -> list[int]:
    """Peak bytes of this process at each of the ascending batch sizes."""
    torch.set_num_threads(request["threads"])
    spec, device, dtype = from_dict(request["spec"]), torch.device(request["device"]), DTYPES[request["precision"]]
    _warm_up(device, dtype)
    before = _peak(device, reset=True)
    torch.set_default_dtype(dtype)  # the model is built in the precision that serves, never in fp32 first
    model = build(spec.model, 0, spec.recipe.multipliers).to(device, dtype).eval()
    new, _ = new_tokens(spec.model)
    peaks = []
    for batch in request["batches"]:
        inputs = prompt(spec.model, batch, device)
        model(*inputs)
        if new:
            deque(greedy(model, spec.model, inputs, new), maxlen=0)
        peaks.append(max(0, _peak(device) - before))
    return peaks


def _warm_up(device: torch.device, dtype: torch.dtype) -> None:
    """Use the kernels once, because their first use takes memory of the libraries' own."""
    small = torch.ones(1, 1, 8, 8, device=device, dtype=dtype)
    F.layer_norm(F.gelu(F.linear(F.scaled_dot_product_attention(small, small, small), small[0, 0])), (8,)).argmax()


def _peak(device: torch.device, reset: bool = False) -> int:
    """Peak bytes so far; `reset` starts a new peak."""
    if device.type == "cuda":
        if reset:
            torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.max_memory_allocated(device)
    # On Linux ru_maxrss outlives exec and holds the parent's peak; VmHWM in the status file is this program's alone.
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        scale = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


if __name__ == "__main__":
    print(json.dumps(measure(json.load(sys.stdin))))
