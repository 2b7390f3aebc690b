"""Parity with Hugging Face: weights both ways, export of a run, import of a published checkpoint (extra `hf`)."""

from typing import Any

from scaling.extras import install


def transformers_library() -> Any:
    """The transformers package; ValueError with the remedy where it is not installed."""
    try:
        import transformers
    except ImportError as error:
        raise ValueError(f"this needs the extra hf: {install('hf')}") from error
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()  # reading.py reports every problem of loading itself
    return transformers
