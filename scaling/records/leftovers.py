"""Leftovers: the files that a finished run no longer needs, removed at its end, or at the next start after a kill."""

import contextlib
import shutil
from pathlib import Path

from scaling.records.files import remove_scratch
from scaling.records.record import attempt_dirs

SUMS = "SHA256SUMS"  # digests of a checkpoint's files
OPTIMIZER = "optimizer.safetensors"  # state of a checkpoint's optimizer


def newest_first(run_dir: Path) -> list[Path]:
    """The checkpoints of a run, the furthest first."""
    paths = (run_dir / "checkpoint").glob("[0-9]*-[0-9]*")
    return sorted(paths, key=lambda path: tuple(map(int, reversed(path.name.split("-")))), reverse=True)


def remove_superseded(run_dir: Path, keep: int) -> None:
    """Remove all but the `keep` furthest checkpoints; with them those half-written by a killed attempt, or damaged."""
    for path in newest_first(run_dir)[keep:]:
        with contextlib.suppress(OSError):  # hidden first: a half-removed checkpoint must not pass for final weights
            path.rename(path.with_name(f".removed-{path.name}"))
    for path in (run_dir / "checkpoint").glob(".*"):
        shutil.rmtree(path, ignore_errors=True)


def tidy(run_dir: Path, *, keep_weights: bool) -> None:
    """Remove the leftovers of a published run; its final weights stay where `keep_weights` is set, or was before."""
    for folder in (run_dir, run_dir / "attempts", *attempt_dirs(run_dir)):
        remove_scratch(folder)
    if not (checkpoints := newest_first(run_dir)) and not (run_dir / "checkpoint").exists():
        return
    kept = keep_weights or (checkpoints and not (checkpoints[0] / OPTIMIZER).exists())
    remove_superseded(run_dir, keep=1 if kept else 0)
    for path in newest_first(run_dir):
        for name in (OPTIMIZER, SUMS):  # the record has the digest of the weights that stay
            (path / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # the folder stays where it holds weights
        (run_dir / "checkpoint").rmdir()
