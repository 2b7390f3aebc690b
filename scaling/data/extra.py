"""Libraries of the optional extra `hf`: imported when a setting asks for them, and their errors put in one line."""

import importlib
from typing import Any


def extra(library: str, wanted_for: str) -> Any:
    """The module `library`; ValueError says how to install it."""
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise ValueError(f"{wanted_for} needs {library} ({error}); pip install 'scaling[hf]'") from None


def said(error: BaseException) -> str:
    """What an error says, in one line, by its root cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
