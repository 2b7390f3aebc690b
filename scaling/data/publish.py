"""Publishing a folder whole or not at all, with any number of processes writing it at once."""

import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

STALE_S = 24 * 3600.0  # a draft of another machine counts as dead once untouched for this long


@contextmanager
def drafting(folder: Path, complete: Callable[[], bool]) -> Iterator[Path]:
    """An empty draft folder that is renamed to `folder` at the end, unless another process completed `folder` first.

    An error in the body removes the draft and publishes nothing. Drafts of dead processes are removed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(folder)
    draft = folder.parent / f".{folder.name}.{socket.gethostname()}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
    draft.mkdir()
    try:
        yield draft
        while not complete():
            try:
                draft.rename(folder)
            except OSError:
                if complete():
                    break
                _set_aside(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _set_aside(broken: Path) -> None:
    """Move an incomplete folder out of the way; several processes may do so at the same time."""
    aside = broken.parent / f".{broken.name}.broken.0.{uuid.uuid4().hex[:8]}"
    try:
        broken.rename(aside)
    except FileNotFoundError:
        return
    shutil.rmtree(aside, ignore_errors=True)


def _remove_stale(folder: Path) -> None:
    for draft in folder.parent.glob(f".{folder.name}.*"):
        host, pid, _ = draft.name.removeprefix(f".{folder.name}.").rsplit(".", 2)
        if _is_stale(draft, host, pid):
            shutil.rmtree(draft, ignore_errors=True)


def _is_stale(draft: Path, host: str, pid: str) -> bool:
    if host == socket.gethostname() and pid.isdigit():
        return not _is_alive(int(pid))
    try:
        return time.time() - max(path.stat().st_mtime for path in (draft, *draft.rglob("*"))) > STALE_S
    except FileNotFoundError:
        return False


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
