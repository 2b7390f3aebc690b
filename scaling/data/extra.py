"""Libraries of the optional extra `hf`, imported only when a setting needs them, and their errors in one line."""

from typing import Any

from scaling import extras


def extra(library: str, wanted_for: str) -> Any:
    """Import the module `library`; ValueError states how to install it."""
    return extras.library(library, "hf", wanted_for)


def root_cause(error: BaseException) -> str:
    """The root cause of an error, as one line: its type and its message, cut at 300 characters."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
