"""Parity with Hugging Face: weights both ways, export of a run, import of a published checkpoint (extra `hf`)."""

from typing import Any


def transformers_library() -> Any:
    """The transformers package; ValueError with the remedy where it is not installed."""
    try:
        import transformers
    except ImportError as error:
        raise ValueError("this needs the extra hf: pip install 'scaling[hf]'") from error
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()  # reading.py reports every problem of loading itself
    return transformers
