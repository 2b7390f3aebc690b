"""The roll-outs in a results document: every law of params and tokens, scored on the budgets beyond its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scaling.analysis.isoflop.minima import IsoFlop
from scaling.analysis.judgement import holdout
from scaling.analysis.judgement.holdout import Score, Unscored
from scaling.analysis.results.isoflop import optima_of
from scaling.analysis.results.request import Request
from scaling.analysis.results.requested_fits import Fitted
from scaling.analysis.runs.observations import Observations
from scaling.analysis.schema.judgement import HoldoutSection, LawScore, PredictionScore
from scaling.analysis.schema.numbers import number


@dataclass(frozen=True)
class RollOut:
    """Every score of every law, and the laws by their errors, the best predictor first."""

    scores: Sequence[Score]
    unscored: Sequence[Unscored]
    table: list[LawScore]


def roll_out(
    observations: Observations,
    surfaces: Mapping[str, Fitted],
    study: IsoFlop | None,
    request: Request,
    resamples: int = holdout.RESAMPLES,
) -> RollOut:
    """Score every law of params and tokens by so many resamples a cut.

    Without a hold-out or resamples the laws stand by AICc alone, unscored.
    """
    scores: list[Score] = []
    unscored: list[Unscored] = []
    if request.holdout is not None and request.bootstrap > 0:
        laws = {name: (type(one.fit.law), one.variables) for name, one in surfaces.items()}
        optima = optima_of(study) if study is not None else []
        scores, unscored = holdout.roll_out(
            observations, laws, loss=request.loss, seed=request.seed, resamples=resamples, optima=optima
        )
    return RollOut(scores, unscored, holdout.compare(scores, {name: one.fit for name, one in surfaces.items()}))


def holdout_section(rolled: RollOut) -> HoldoutSection | None:
    """The laws by their errors and every prediction behind that; None where no law met a cut."""
    if not rolled.scores and not rolled.unscored:
        return None
    return {
        "table": rolled.table,
        "predictions": [_prediction(score) for score in rolled.scores],
        "unscored": [
            {"law": one.law, "trained_to_flops": one.trained_to_flops, "why": one.why} for one in rolled.unscored
        ],
    }


def _prediction(score: Score) -> PredictionScore:
    return {
        "law": score.law,
        "quantity": score.quantity,
        "trained_to_flops": score.trained_to_flops,
        "tested_at_flops": score.tested_at_flops,
        "horizon_decades": score.horizon_decades,
        "n_trained": score.n_trained,
        "n_tested": score.n_tested,
        "bias": number(score.bias),
        "rmse": number(score.rmse),
        "coverage": score.covered / score.n_tested if np.isfinite(score.z).all() else None,
    }
