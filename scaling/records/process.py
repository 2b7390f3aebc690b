"""Processes: the place where one runs, and whether one of the same place is alive."""

import os
import socket
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any


@cache
def place() -> dict[str, Any]:
    """The place where this process runs: host, boot and process namespace, as far as the system has them.

    Processes of one place know each other by pid. The host name alone proves nothing: containers share it.
    """
    return {"host": socket.gethostname(), "boot": _boot_id(), "pid_namespace": _namespace()}


@cache
def place_id() -> str:
    """Six hex digits of the place."""
    return sha256(repr(sorted(place().items())).encode()).hexdigest()[:6]


def start_ticks(pid: Any) -> int | None:
    """The start time of a process of this place in clock ticks, which exposes a recycled pid; None for a dead one."""
    if not isinstance(pid, int):
        return None
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return _alive_without_proc(pid)
    return None if fields[0] in "ZX" else int(fields[19])


def _alive_without_proc(pid: int) -> int | None:
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return 0  # macOS has no /proc, so the pid alone decides


def _boot_id() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _namespace() -> str | None:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None
