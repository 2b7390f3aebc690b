"""A law fitted to a table of runs as it was loaded: its own variables, losses, weights and cost."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from numpy.typing import ArrayLike

from scaling.analysis.fitting import fit as columns
from scaling.analysis.fitting.fit import HUBER, Fit, Loss
from scaling.analysis.laws import law_named
from scaling.analysis.laws.held import Bounds
from scaling.analysis.laws.law import Law
from scaling.analysis.runs.observations import Observations, load


def fit(
    law: str | type[Law],
    runs: Observations | str | Path | Mapping[str, ArrayLike],
    loss_nats: ArrayLike | None = None,
    *,
    loss: Loss = HUBER,
    weights: ArrayLike | None = None,
    fix: Mapping[str, float] | None = None,
    bounds: Mapping[str, Bounds] | None = None,
) -> Fit:
    """Return the law fitted to runs, whose optimum is under the runs' own cost; see `fitting.fit.fit`.

    runs: observations, or the source that `load` reads. Columns (n,) by the law's variables take losses (n,) beside
    them and have no FLOPs: their optimum is under C = 6 N D.
    """
    if isinstance(runs, Mapping):
        if loss_nats is None:
            raise ValueError("columns by variable come without their losses: fit(law, columns, losses)")
        return columns.fit(law, runs, loss_nats, loss=loss, weights=weights, fix=fix, bounds=bounds)
    of_any = {"own_columns": True, "any_sign": loss.on == "linear"}
    observations = runs if isinstance(runs, Observations) else load(runs, **of_any)
    cls = law_named(law, observations.names) if isinstance(law, str) else law
    found = columns.fit(
        cls,
        observations.variables(cls.variables),
        observations.column("loss") if loss_nats is None else loss_nats,
        loss=loss,
        weights=observations.column("weight") if weights is None else weights,
        fix=fix,
        bounds=bounds,
    )
    return replace(found, law=found.law.under(observations.cost))
