"""Orders about a run: a user's commands cancel it, or let it try again, by one file that they alone write."""

from pathlib import Path
from typing import Any

from scaling.records.files import read_json, write_json

FILE = "orders.json"


def cancel(run_dir: Path, why: str) -> None:
    """Order that nobody starts the run; a process that trains it saves its progress and stops."""
    run_dir.mkdir(parents=True, exist_ok=True)
    write_json(run_dir / FILE, read_orders(run_dir) | {"cancelled": why})


def let_retry(run_dir: Path, attempts: int) -> None:
    """Order that the run may start again, as if its first `attempts` attempts had not failed."""
    run_dir.mkdir(parents=True, exist_ok=True)
    write_json(run_dir / FILE, {"cancelled": None, "forgiven_attempts": attempts})


def cancelled_why(run_dir: Path) -> str | None:
    """The reason for which the run is cancelled; None where it is not."""
    why = read_orders(run_dir).get("cancelled")
    return None if why is None else str(why)


def forgiven_attempts(run_dir: Path) -> int:
    """Number of first attempts whose failures no longer count."""
    count = read_orders(run_dir).get("forgiven_attempts", 0)
    return count if isinstance(count, int) else 0


def read_orders(run_dir: Path) -> dict[str, Any]:
    """The orders about a run; none without a file."""
    return read_json(run_dir / FILE) or {}
