"""The code that trains: a digest by which a worker knows whether a run was planned by the same code."""

import os
from functools import cache
from hashlib import sha256
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
NOT_TRAINING = {"analysis", "cli", "__pycache__"}  # folders that decide no run's outcome


@cache
def code_digest() -> str:
    """Twelve hex digits over the names and contents of this package's modules, without its analysis and commands."""
    digest = sha256()
    for folder, folders, names in os.walk(PACKAGE):
        folders[:] = sorted(name for name in folders if name not in NOT_TRAINING)
        for name in sorted(name for name in names if name.endswith(".py")):
            path = Path(folder, name)
            digest.update(f"{path.relative_to(PACKAGE)}:{sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:12]
