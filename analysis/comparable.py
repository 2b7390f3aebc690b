"""Which runs may be fitted together: losses of different predictions or texts are different quantities."""

from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.observations import Observations

# Settings of a recorded run that say what its loss is a loss of. Tables from elsewhere have none of these columns.
DECIDES = ("model.kind", "data.fingerprint", "data.tokenizer", "data.tokenizer_sha256", "data.vocab_size")
OBJECTIVE = "objective."


def comparable_parts(observations: Observations) -> dict[str, Observations]:
    """The observations by what their loss measures, named by the settings that differ; one part when none do."""
    table = observations.table
    columns = [name for name in table.columns if name in DECIDES or str(name).startswith(OBJECTIVE)]
    differing = [name for name in columns if table[name].astype(str).nunique() > 1]
    if not differing:
        return {"": observations}
    # An objective's kind, say, speaks for the settings that come with it.
    telling = [name for name in differing if name.endswith(".kind")] or differing
    labels = table[differing].astype(str).agg("\n".join, axis=1)
    parts: dict[str, Observations] = {}
    for label in dict.fromkeys(labels):
        rows = (labels == label).to_numpy()
        name = "-".join(str(table.loc[rows, column].iloc[0])[:24] for column in telling)
        while name in parts:
            name += "'"
        parts[name] = _part(observations, rows)
    return parts


def refuse_mixture(observations: Observations) -> None:
    """ValueError, with the remedy, for runs whose losses must not be put on one curve."""
    parts = comparable_parts(observations)
    if len(parts) > 1:
        counts = ", ".join(f"{name} ({len(part.table)} runs)" for name, part in parts.items())
        raise ValueError(
            f"these runs' losses measure different things and cannot share a fit: {counts}; choose one, "
            f"e.g. --where \"`model.kind` == 'decoder'\""
        )


def _part(observations: Observations, rows: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Observations:
    part = observations.select(rows)
    if part.curves is None:
        return part
    wanted: pd.Series[bool] = part.curves["run_id"].isin(part.table["run_id"])
    return replace(part, curves=part.curves[wanted].reset_index(drop=True))
