"""Exit codes of a worker, and the notes of their ends that workers of a batch system leave in the study.

A mistake in the arguments, or other code than the plan's, is 2, as for every command.
"""

from contextlib import suppress
from pathlib import Path

NOTHING_LEFT, FAILURES_LEFT, MISTAKE, START_AGAIN = 0, 1, 2, 75  # 75: EX_TEMPFAIL of sysexits.h
FOLDER = "ends"


def note_end(folder: Path, worker: str, code: int) -> None:
    """Note that a worker ended by its own decision, in a file's name, so that one look at the folder reads all."""
    with suppress(OSError):  # a worker that leaves no note counts as lost, and another takes its place
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        (folder / FOLDER / f"{worker}.{code}").touch()


def noted_ends(folder: Path) -> dict[str, int]:
    """Exit codes of the workers that ended by their own decision, by worker."""
    names = [path.name.rpartition(".") for path in (folder / FOLDER).glob("*.*")]
    return {worker: int(code) for worker, _, code in names if code.isdigit()}
