"""The version of the code that runs here, by git."""

import subprocess
from functools import cache
from pathlib import Path

import scaling


@cache
def git_commit() -> str | None:
    """The commit of this checkout, with "+" where files differ from it; None outside a checkout."""
    root = Path(scaling.__file__).parents[1]
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return commit + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
