"""Threads of a run on the CPU: as many as its step can use, and never more than the cores that are idle here.

Threads of a small step spend their time waiting for each other. Beside another load a waiting thread that spins holds
the core that its partner needs: measured on two cores beside four busy processes, steps on two spinning threads took
2 to 50 times as long as on one, and on two threads that wait passively 1.0 to 1.6 times as long.
"""

import os
import sys
import time
from pathlib import Path

from scaling.machine.slots import CORES, cpu_cores

# FLOPs of one layer's step for each thread. Measured on two cores without another load (docs/speed.md): two threads
# gain 1.2 to 1.3 times at 1e8 FLOPs a layer and 1.5 times at 8e8. Assumed: more threads need as much work each.
LAYER_FLOPS_PER_THREAD = 2e8
SAMPLE_S = 0.2  # seconds over which idle cores are counted
ALMOST = 0.3  # a core's share of other load that still leaves it idle
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}  # of GNU's and Intel's OpenMP


def wait_passively() -> None:
    """Let threads that wait give their core away; OpenMP reads this once, when torch loads."""
    if "torch" not in sys.modules:
        for name, value in PASSIVE.items():
            os.environ.setdefault(name, value)


def most_cores() -> int:
    """Cores of this process's slot; all that it may run on without a slot."""
    return int(os.environ.get(CORES, cpu_cores()))


def threads_for(step_flops: float, layers: int) -> int:
    """Threads for steps of `step_flops` FLOPs at once, in a model of `layers` layers."""
    useful = min(most_cores(), int(step_flops / layers / LAYER_FLOPS_PER_THREAD))
    return 1 if useful <= 1 else min(useful, idle_cores())


def idle_cores() -> int:
    """Cores that no process uses right now, at least 1; all cores where the system does not report their use."""
    before = _idle_and_all()
    if before is not None:
        time.sleep(SAMPLE_S)
        after = _idle_and_all()
        if after is not None and after[1] > before[1]:
            share = (after[0] - before[0]) / (after[1] - before[1])
            return max(1, int(share * cpu_cores() + ALMOST))
    try:
        return max(1, cpu_cores() - round(os.getloadavg()[0]))
    except (AttributeError, OSError):
        return cpu_cores()


def _idle_and_all() -> tuple[int, int] | None:
    """Clock ticks of the cores that this process may run on: idle ones, and all; None where they are not reported."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
        ticks = {parts[0]: [int(part) for part in parts[1:9]] for parts in map(str.split, lines) if parts[1:9]}
        own = [ticks[f"cpu{core}"] for core in os.sched_getaffinity(0)]
    except (OSError, ValueError, KeyError, AttributeError):
        return None
    return sum(core[3] + core[4] for core in own), sum(map(sum, own))  # idle, and idle with the disk at work
