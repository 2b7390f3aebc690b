"""The training curves in a results document: each run's, thinned, and the envelope of them all."""

import numpy as np

from scaling.analysis.isoflop import envelope
from scaling.analysis.runs.observations import Observations
from scaling.analysis.schema.curves import CurveEntry, EnvelopeSection
from scaling.analysis.schema.numbers import finite, integers, numbers

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
    curves = observations.curves
    number, run_ids = curves["run_id"].factorize()
    trunks = _trunks(observations)
    params = curves["params"].to_numpy()[np.unique(number, return_index=True)[1]]
    usable = ((curves["flops"] > 0) & (curves["tokens"] > 0)).to_numpy()
    runs = np.unique(number[usable])
    runs = runs[np.argsort(params[runs], kind="stable")]
    shown = runs[:: max(1, -(-len(runs) // MOST_CURVES))]
    kept_rows = usable & np.isin(number, shown)
    by_run = curves[kept_rows].groupby(number[kept_rows])
    sections: list[CurveEntry] = []
    for run in shown:
        run_id, rows = run_ids[run], by_run.get_group(run).sort_values("tokens")
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
                "learning_rate": numbers(kept["lr"]),
                "trunk": trunks.get(str(run_id), str(run_id)),
            }
        )
    return sections


def _trunks(observations: Observations) -> dict[str, str]:
    """The name of each run's trunk, by run; empty where the source names none."""
    table = observations.table
    return dict(zip(table["run_id"], table["trunk"].astype(str), strict=True)) if "trunk" in table.columns else {}
