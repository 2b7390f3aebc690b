"""Timing of a call in seconds: the median over repeats after a warm-up, and the quartiles as its uncertainty."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch

from scaling.machine.hardware import synchronize

WARM_UP = 2  # the first calls choose kernels and fill caches
LEAST_REPEATS, MOST_REPEATS = 5, 50
ENOUGH_S = 0.5  # seconds of repeats that suffice, once there are LEAST_REPEATS

Timing = dict[str, Any]  # median_s, quartiles_s [low, high], repeats


def time_call(call: Callable[[], Any], device: torch.device) -> Timing:
    """Time a call."""

    def once() -> Iterator[None]:
        call()
        yield

    return time_steps(once, device, skip=0)


def time_steps(steps: Callable[[], Iterable[Any]], device: torch.device, skip: int) -> Timing:
    """Time every step of an iteration except the first `skip`, over several iterations."""
    taken: list[float] = []
    spent, repeat = 0.0, -WARM_UP
    while repeat < LEAST_REPEATS or (spent < ENOUGH_S and repeat < MOST_REPEATS):
        iterator = iter(steps())
        own: list[float] = []
        while True:
            synchronize(device)
            start = time.perf_counter()
            try:
                next(iterator)
            except StopIteration:
                break
            synchronize(device)
            own.append(time.perf_counter() - start)
        repeat += 1
        if repeat > 0:
            taken += own[skip:]
            spent += sum(own)
    low, middle, high = np.quantile(taken, [0.25, 0.5, 0.75])
    return {"median_s": float(middle), "quartiles_s": [float(low), float(high)], "repeats": len(taken)}
