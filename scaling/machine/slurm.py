"""Slurm's commands: what its queue and its accounting know, asked with patience."""

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

LOOK_S = 5.0  # before a controller that does not answer is asked again
PATIENCE_S = 300.0  # for a controller that does not answer
COMMAND_S = 60.0  # for one command of Slurm
MAX_ARRAY = 1001  # Slurm's own default
UNREACHABLE = ("contact slurm controller", "timed out", "Zero Bytes", "Connection refused", "Socket", "communication")
UNTIMELY = ("TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "CANCELLED", "PREEMPTED", "DEADLINE", "BOOT_FAIL", "FAILED")


@dataclass(frozen=True)
class QueuedJob:
    """A worker in Slurm's queue."""

    array: str
    state: str
    reason: str


def queue(comment: str, within_s: float = COMMAND_S) -> list[QueuedJob]:
    """Workers of this user in the queue under the comment; TimeoutError where the controller does not answer."""
    asked = ("squeue", "--noheader", "--array", "--me", "--format=%F|%T|%r|%k")
    lines = call(*asked, within_s=within_s).splitlines()
    parts = [line.strip().split("|", 3) for line in lines if line.count("|") >= 3]
    return [QueuedJob(array, state, reason) for array, state, reason, of in parts if of == comment]


def untimely_ends(arrays: Sequence[str], within_s: float) -> list[str]:
    """Why workers ended that did not end well, by Slurm's accounting; nothing where there is none."""
    if not arrays:
        return []
    asked = ("sacct", "--allocations", "--noheader", "--parsable2", "--format=State,ExitCode,ElapsedRaw")
    try:
        lines = call(*asked, f"--jobs={','.join(arrays)}", within_s=within_s).splitlines()
    except (ValueError, TimeoutError):
        return []
    ends = [line.split("|") for line in lines if line.count("|") == 2]
    return [
        f"exit code {code.partition(':')[0]}" if state == "FAILED" else state.split()[0].lower().replace("_", " ")
        for state, code, elapsed_s in ends
        if state.split()[0] in UNTIMELY and elapsed_s != "0"  # a job that never began is nothing to explain
    ]


def patiently(ask: Callable[[], Any]) -> Any:
    """Ask until the controller answers, for PATIENCE_S at most."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return ask()
        except TimeoutError:
            if time.monotonic() > until:
                raise
            time.sleep(LOOK_S)


def max_array_size() -> int:
    """Tasks of an array, at most."""
    lines = patiently(lambda: call("scontrol", "show", "config")).splitlines()
    found = [line.partition("=")[2].strip() for line in lines if line.startswith("MaxArraySize")]
    return int(found[0]) if found and found[0].isdigit() and int(found[0]) else MAX_ARRAY


def call(*command: str, within_s: float = COMMAND_S) -> str:
    """The output of a command of Slurm; TimeoutError where the controller does not answer, ValueError for a refusal."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=within_s, check=False)
    except FileNotFoundError:
        raise ValueError(
            f"hydra/launcher=slurm: {command[0]} is not here; start on a login node of the cluster"
        ) from None
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"the controller does not answer: {command[0]} waited {within_s:.0f} s") from None
    if done.returncode == 0:
        return done.stdout
    words = " ".join(done.stderr.split())
    if any(word in words for word in UNREACHABLE):
        raise TimeoutError(words)
    raise ValueError(words or f"{' '.join(command)} ended with {done.returncode}")
