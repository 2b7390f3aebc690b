"""Scaling-law experiments with transformers: design, train, record."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

__version__ = "0.2.0"


def load_runs(source: Any, **options: Any) -> "pd.DataFrame":
    """The runs of a study, a table or a W&B project as a frame, one row a run, counts raw and losses in nats.

    `options` are those of `scaling.analysis.load`, which also gives the words of each axis and what was left out.
    """
    from scaling.analysis.runs.observations import load

    return load(source, **options).table
