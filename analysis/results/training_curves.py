"""The training curves in a results document: each run's, thinned, and the envelope of them all."""

import numpy as np

from analysis.isoflop import envelope
from analysis.runs.observations import Observations
from analysis.schema.curves import CurveEntry, EnvelopeSection
from analysis.schema.numbers import finite, integers, numbers

CURVE_POINTS = 120  # of one run's training curve
MOST_CURVES = 400
ENVELOPE_DRAWS = 200


def envelope_section(observations: Observations, *, seed: int, level: float, draws: int) -> EnvelopeSection | None:
    """The envelope of the training curves by at most ENVELOPE_DRAWS draws; None without enough curves."""
    found = envelope.measure(observations, seed=seed, level=level, draws=min(draws, ENVELOPE_DRAWS))
    if found is None:
        return None
    return {
        "flops": finite(found.flops),
        "loss": finite(found.loss),
        "params": finite(found.params),
        "tokens": finite(found.tokens),
        "run_id": list(found.run_ids),
        "interior": [bool(one) for one in found.interior],
        "hull": integers(found.hull),
        "laws": dict(found.laws),
        "draws": found.draws,
        "warnings": list(found.warnings),
    }


def curves_section(observations: Observations) -> list[CurveEntry]:
    """Training curves, thinned evenly in log compute, smallest model first."""
    if observations.curves is None:
        return []
    sections: list[CurveEntry] = []
    for run_id, rows in observations.curves.groupby("run_id", sort=False):
        rows = rows[(rows["flops"] > 0) & (rows["tokens"] > 0)].sort_values("tokens")
        if rows.empty:
            continue
        log_flops = np.log(rows["flops"].to_numpy(float))
        wanted = np.linspace(log_flops[0], log_flops[-1], CURVE_POINTS)
        thin = np.unique(np.minimum(np.searchsorted(log_flops, wanted), len(rows) - 1))
        scored = np.flatnonzero(rows["val_loss"].notna().to_numpy())
        kept = rows.iloc[np.union1d(thin, scored[:: max(1, len(scored) // CURVE_POINTS)])]
        sections.append(
            {
                "run_id": str(run_id),
                "params": float(kept["params"].iloc[0]),
                "tokens": finite(kept["tokens"]),
                "flops": finite(kept["flops"]),
                "loss": numbers(kept["loss"]),
                "val_loss": numbers(kept["val_loss"]),
                "points_measured": len(rows),
            }
        )
    sections.sort(key=lambda section: section["params"])
    return sections[:: max(1, -(-len(sections) // MOST_CURVES))]
