"""Optional libraries, imported only when a setting needs them, the command that installs each, and their errors."""

import importlib
from typing import Any

# Name of this project on the package index, where `scaling`, the name of package and command, is another project.
DISTRIBUTION = "scaling-experiments"


def install(extra: str) -> str:
    """The command that installs this project with an extra."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"


def library(name: str, extra: str, wanted_for: str) -> Any:
    """Import the module `name` of an extra; ValueError states how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"{wanted_for} needs {name} ({error}); {install(extra)}") from None


def extra(name: str, wanted_for: str) -> Any:
    """Import the module `name` of the extra `hf`; ValueError states how to install it."""
    return library(name, "hf", wanted_for)


def root_cause(error: BaseException) -> str:
    """The root cause of an error, as one line: its type and its message, cut at 300 characters."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
