"""Optional libraries, imported only when a setting needs them, and the command that installs each."""

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
