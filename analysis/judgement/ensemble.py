"""The headline by a results document: the log mean of the near set, its interval, and its members beside it."""

import numpy as np

from scaling.analysis.judgement.forecasters import NEAR, Ensemble, Forecaster, OfMinima, OfSurface, PowerLaw, log_mean
from scaling.analysis.judgement.growth import Growth
from scaling.analysis.laws import LAWS
from scaling.analysis.laws.cost import Cost
from scaling.analysis.laws.law import build
from scaling.analysis.schema.document import Results
from scaling.analysis.schema.ensemble import EnsembleSection, MemberEntry, MemberPrediction
from scaling.analysis.schema.forecast import PredictedQuantity
from scaling.analysis.schema.judgement import Predicted


def rebuild(section: EnsembleSection, cost: Cost) -> Ensemble:
    """The forecasters that a document holds."""

    def member(entry: MemberEntry) -> Forecaster:
        if entry["law"] is not None:
            return OfSurface(entry["name"], build(LAWS[entry["law"]], entry["values"]), cost)
        powers = {name: PowerLaw(**power) for name, power in entry["powers"].items()}
        return OfMinima(entry["name"], powers["params"], powers["loss"])

    return Ensemble(tuple(map(member, section["members"])), {one["name"]: one["why"] for one in section["absent"]})


def optimum(
    results: Results, section: EnsembleSection, flops: float, decades: float, cost: Cost
) -> tuple[PredictedQuantity, PredictedQuantity, list[MemberPrediction]]:
    """N* and L* at a compute so many decades from the data, and every member's; ValueError where no member has any."""
    found = rebuild(section, cost).log_optima(flops)
    if not found:
        raise ValueError(f"no forecaster has a compute optimum at {flops:.3g} FLOPs: a term of every law is flat")
    log_params, log_loss = log_mean(found).tolist()
    entries = {entry["name"]: entry for entry in section["members"]}
    members: list[MemberPrediction] = [
        {
            "name": name,
            "params": float(np.exp(logs[0])),
            "loss": float(np.exp(logs[1])),
            "error": entries[name]["error"],
            "trials": entries[name]["trials"],
        }
        for name, logs in found.items()
    ]
    for one in members:
        if "verdict" in entries[one["name"]]:
            one["verdict"] = entries[one["name"]]["verdict"]["words"]
    params = quantity(results, section, "params", log_params, decades)
    return params, quantity(results, section, "loss", log_loss, decades), members


def growth_of(section: EnsembleSection, name: Predicted) -> Growth:
    """The growth of the log mean's errors that a document holds."""
    entry = section["growth"][name]
    return Growth(entry["sd_log_per_decade"], entry["degrees_of_freedom"])


def quantity(
    results: Results, section: EnsembleSection, name: Predicted, log_value: float, decades: float, also: float = 0.0
) -> PredictedQuantity:
    """A value with its interval: the roll-outs' errors at this distance and one run's noise, in quadrature.

    `also` is one more log half-width. There is no interval where the analysis drew no resamples.
    """
    value = float(np.exp(log_value))
    if results["settings"]["bootstrap"] == 0:
        return {"value": value, "low": None, "high": None, "parameter": None, "noise": None, "form": None}
    form = float(np.hypot(growth_of(section, name).half_width(decades, results["settings"]["level"]), also))
    noise = results["forecast"]["z"] * (section["noise_sd_nats"] or 0.0) / value if name == "loss" else 0.0
    half = float(np.hypot(form, noise))
    ends = {"low": float(np.exp(log_value - half)), "high": float(np.exp(log_value + half))}
    return {"value": value, "low": ends["low"], "high": ends["high"], "parameter": None, "noise": noise, "form": form}


def tokens_of(params: PredictedQuantity, flops: float, cost: Cost) -> PredictedQuantity:
    """The tokens that a compute buys at N*: the interval's ends are those of N*, exchanged."""

    def at(size: float | None) -> float | None:
        return None if size is None else float(cost.tokens(flops, size))

    form = None if params["form"] is None else float(cost.slope(params["value"])) * params["form"]
    value = float(cost.tokens(flops, params["value"]))
    low, high = at(params["high"]), at(params["low"])
    return {"value": value, "low": low, "high": high, "parameter": None, "noise": params["noise"], "form": form}


def loss_near(
    results: Results, section: EnsembleSection, params: float, flops: float, decades: float, cost: Cost
) -> PredictedQuantity | None:
    """The loss of a size at a compute: L* times the excess of the near surfaces at that ratio to their own N*.

    None where the size lies further from N* than the runs that the surfaces saw, or where no surface has an optimum.
    """
    ensemble = rebuild(section, cost)
    found = ensemble.log_optima(flops)
    own = {one.name: found[one.name] for one in ensemble.surfaces if one.name in found}
    if not own:
        return None
    log_params, log_loss = log_mean(found).tolist()
    ratio = np.log(params) - log_params
    if abs(ratio) > NEAR:
        return None
    excess = []
    for one in ensemble.surfaces:
        if one.name in own:
            size = float(np.exp(own[one.name][0] + ratio))
            loss = float(one.law(N=size, D=cost.tokens(flops, size)))
            excess.append(np.log(loss) - own[one.name][1])
    apart = results["forecast"]["z"] * float(np.std(excess))
    return quantity(results, section, "loss", log_loss + float(np.mean(excess)), decades, apart)
