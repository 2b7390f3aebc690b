"""The near set in a results document: members by all runs, their roll-outs, or the reason why one law answers alone."""

from collections.abc import Mapping, Sequence

from scaling.analysis.health.seed_noise import SeedNoise
from scaling.analysis.isoflop.minima import IsoFlop
from scaling.analysis.judgement.forecasters import (
    LEAST_MINIMA,
    NEAR,
    Ensemble,
    Forecaster,
    OfSurface,
    PowerLaw,
    near_set,
    trusted_minima,
)
from scaling.analysis.judgement.growth import ENSEMBLE, LEAST_HORIZON, Growth, Trial, growth, rms, roll_out
from scaling.analysis.results.request import Request
from scaling.analysis.runs.observations import Observations
from scaling.analysis.schema.ensemble import ComputePower, EnsembleSection, MemberEntry
from scaling.analysis.schema.forecast import ForecastSection
from scaling.analysis.schema.judgement import Predicted
from scaling.analysis.words import listed, share_text

QUANTITIES: tuple[Predicted, ...] = ("loss", "params")


def let_forecasters_answer(
    forecast: ForecastSection,
    observations: Observations,
    study: IsoFlop | None,
    request: Request,
    noise: SeedNoise | None,
    target_flops: float,
) -> None:
    """Enter the near set into the forecast, or the reason why the leading law answers alone."""
    minima = [] if study is None else trusted_minima(study)
    forecast["ensemble"] = None
    if study is None or len(minima) < LEAST_MINIMA:
        forecast["alone"] = (
            f"one law answers alone: an average of forecasters takes {LEAST_MINIMA} compute budgets with a minimum "
            f"inside their sizes, here are {len(minima)}"
        )
        return
    ensemble = near_set(observations, minima, request.loss)
    if not ensemble.log_optima(target_flops):
        forecast["alone"] = "one law answers alone: no forecaster near the minima has an optimum at the target"
        return
    judged = request.holdout is not None and request.bootstrap > 0
    trials = roll_out(observations, study, request.loss) if judged else []
    forecast["ensemble"] = _section(ensemble, trials, None if noise is None else noise.pooled_sd)


def _section(ensemble: Ensemble, trials: Sequence[Trial], noise_sd_nats: float | None) -> EnsembleSection:
    mine = [one for one in trials if one.forecaster == ENSEMBLE]
    grown = {name: growth(trials, name) for name in QUANTITIES}
    return {
        "name": f"{ENSEMBLE} of {len(ensemble.members)} forecasters",
        "members": [_member(one, trials) | {"verdict": ensemble.verdicts[one.name].entry} for one in ensemble.members],
        "absent": [{"name": name, "why": why} for name, why in ensemble.absent.items()],
        "error": {name: rms(trials, ENSEMBLE, name) for name in QUANTITIES},
        "growth": {
            name: {
                "sd_log_per_decade": found.sd_per_decade,
                "degrees_of_freedom": found.degrees_of_freedom,
            }
            for name, found in grown.items()
        },
        "cuts": len({one.trained_to_flops for one in mine}),
        "reach_decades": max((one.horizon_decades for one in mine), default=0.0),
        "least_horizon_decades": LEAST_HORIZON,
        "near_log": NEAR,
        "noise_sd_nats": noise_sd_nats,
        "predictions": [
            {
                "forecaster": one.forecaster,
                "trained_to_flops": one.trained_to_flops,
                "tested_at_flops": one.tested_at_flops,
                "params": one.params,
                "loss": one.loss,
            }
            for one in trials
        ],
        "words": _words(ensemble, len(mine), grown, noise_sd_nats),
    }


def _member(one: Forecaster, trials: Sequence[Trial]) -> MemberEntry:
    errors = {name: rms(trials, one.name, name) for name in QUANTITIES}
    tried = sum(trial.forecaster == one.name for trial in trials)
    if isinstance(one, OfSurface):
        values = {name: float(value) for name, value in one.law.params.items()}
        return {"name": one.name, "law": one.law.name, "values": values, "powers": {}, "error": errors, "trials": tried}
    powers: dict[Predicted, ComputePower] = {"params": _power(one.params), "loss": _power(one.loss)}
    return {"name": one.name, "law": None, "values": {}, "powers": powers, "error": errors, "trials": tried}


def _power(law: PowerLaw) -> ComputePower:
    return {"floor": law.floor, "coefficient": law.coefficient, "exponent": law.exponent}


def _words(ensemble: Ensemble, trials: int, grown: Mapping[Predicted, Growth], noise: float | None) -> str:
    """The rule, the members that fall out, and the terms of the intervals, in a line."""
    gone = [f"{name} falls out: {why}" for name, why in ensemble.absent.items()]
    measured = "no prediction of it could be tested here, so intervals rest on the errors of other studies"
    if trials:
        loss, params = grown["loss"], grown["params"]
        measured = (
            f"its own {trials} roll-outs and those of other studies put its error at "
            f"{share_text(loss.sd_per_decade)} in loss and {share_text(params.sd_per_decade, 0)} in N* a decade"
        )
    seeds = "one run's noise is not in the intervals, for no runs differ in their seed alone" if noise is None else ""
    names = listed([one.name for one in ensemble.members])
    return "; ".join(filter(None, [f"the headline is the log mean of {names}", *gone, measured, seeds]))
