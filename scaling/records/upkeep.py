"""Upkeep of a study: runs cancelled or tried again, old checkpoints removed, and the study packed into one file."""

import tarfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from scaling.records.attempt import CANCELLED, FAILED, LOST, RUNNING, is_trained_now, run_state
from scaling.records.files import remove_scratch, scratch_name
from scaling.records.leftovers import remove_superseded, tidy
from scaling.records.orders import cancel, let_retry
from scaling.records.record import attempt_names, run_dirs


def cancel_runs(study_dir: Path, run_ids: Sequence[str], why: str) -> list[str]:
    """Cancel runs that have no record; return their ids. A process that trains one saves and stops within seconds."""
    unfinished = [run_id for run_id in run_ids if not (study_dir / run_id / "record.json").exists()]
    for run_id in unfinished:
        cancel(study_dir / run_id, why)
    return unfinished


def retry_runs(study_dir: Path, run_ids: Sequence[str]) -> list[str]:
    """Let cancelled, failed and lost runs start again, their failures so far forgiven; return their ids."""
    stopped = [
        run_id
        for run_id in run_ids
        if run_state(study_dir / run_id).status in (CANCELLED, FAILED, LOST)
        and not (study_dir / run_id / "record.json").exists()
    ]
    for run_id in stopped:
        let_retry(study_dir / run_id, len(attempt_names(study_dir / run_id)))
    return stopped


def remove_old_checkpoints(study_dir: Path, *, weights: bool) -> int:
    """Remove all but the furthest checkpoint of each unfinished run, and leftovers of finished ones; return the bytes.

    `weights` also removes the kept weights of finished runs. Records, metrics and logs stay, and so do the files of
    runs that a process trains.
    """
    freed = 0
    for run_dir in run_dirs(study_dir):
        if is_trained_now(run_dir):
            continue
        before = _bytes(run_dir)
        if (run_dir / "record.json").exists():
            if weights:
                remove_superseded(run_dir, keep=0)
            tidy(run_dir, keep_weights=not weights)
        else:
            remove_superseded(run_dir, keep=1)
        freed += before - _bytes(run_dir)
    return freed


def archive(study_dir: Path, out: Path) -> int:
    """Pack a study without its checkpoints into a tar file, gzipped; return the number of its files.

    Raises ValueError while a process trains a run of it, and where `out` exists.
    """
    if live := [path.name for path in run_dirs(study_dir) if run_state(path).status == RUNNING]:
        raise ValueError(f"{study_dir}: run {live[0]} is being trained ({len(live)} are); stop it, or wait for its end")
    if out.exists():
        raise ValueError(f"{out} exists: name another file with --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    remove_scratch(out.parent)
    packed, draft = 0, scratch_name(out.parent, out.name)
    try:
        with tarfile.open(draft, "w:gz") as tar:
            for path in _files(study_dir):
                tar.add(path, Path(study_dir.resolve().name) / path.relative_to(study_dir))
                packed += 1
        draft.rename(out)
    finally:
        draft.unlink(missing_ok=True)
    return packed


def _files(study_dir: Path) -> Iterator[Path]:
    for path in sorted(study_dir.rglob("*")):
        inside = path.relative_to(study_dir).parts
        if path.is_file() and "checkpoint" not in inside[:2] and not any(part.startswith(".") for part in inside):
            yield path


def _bytes(run_dir: Path) -> int:
    """Bytes of a run's checkpoints, hidden ones included."""
    total = 0
    for path in (run_dir / "checkpoint").rglob("*"):
        with suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total
