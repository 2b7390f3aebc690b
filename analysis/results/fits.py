"""One fitted law in a results document: values, intervals, evidence, and what it says over compute, size and tokens."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.fitting.bootstrap import Resamples
from analysis.fitting.fit import Fit
from analysis.fitting.profile_likelihood import ProfileLikelihood
from analysis.isoflop.minima import percentiles
from analysis.judgement.holdout import aicc, noise_sd
from analysis.laws.law import Law
from analysis.results.sections import loss_section
from analysis.runs.observations import Observations

Array = NDArray[np.float64]

MOST_DRAWS = 1_000  # of a bootstrap, kept in the document
SURFACE_POINTS = 48  # a side, of the sampled loss surface
BEYOND_TARGET = 3.0  # times the target's optimum, how far the surface reaches
LAW_POINTS = 61  # of a law of one variable


def fit_section(
    name: str,
    fitted: Fit,
    resamples: Resamples | None,
    identified: Mapping[str, Any],
    observations: Observations,
    grid: Array,
    target: float,
    level: float,
) -> dict[str, Any]:
    """One fitted law: values, intervals, evidence, residuals, draws, its curve or its optimum over the compute grid
    with bands, and its surface as far as the target's optimum.
    """
    law, loss, evidence = fitted.law, fitted.loss, fitted.evidence
    section: dict[str, Any] = {
        "name": name,
        "law": law.name,
        "variables": list(law.inputs),
        "equation": law.equation,
        "source": law.source,
        "status": fitted.status.value,
        "why": fitted.why,
        "params": law.params,
        "derived": law.derived,
        "objective": fitted.objective,
        "loss": loss_section(loss),
        "n": fitted.n,
        "aicc": aicc(fitted),
        "noise_sd_log": noise_sd(fitted),
        "evidence": {
            "starts": evidence.starts,
            "agreed": evidence.agreed,
            "kkt_residual": evidence.residual,
            "at_bound": evidence.at_bound,
            "unseen": evidence.unseen,
            "condition": evidence.condition,
            "iterations": evidence.iterations,
        },
        "identification": {key: {"kind": _word(one.kind), "sentence": one.sentence} for key, one in identified.items()},
        "residuals": fitted.residuals,
        "intervals": {},
        "derived_intervals": {},
        "draws": None,
        "optimum": None,
        "surface": None,
        "curve": None,
    }
    if resamples is not None:
        section["intervals"] = {key: _interval(resamples, key, level) for key in law.params}
        section["derived_intervals"] = {key: _interval(resamples, key, level) for key in law.derived}
        values = resamples.values[resamples.converged]
        kept = values[np.unique(np.linspace(0, len(values) - 1, min(MOST_DRAWS, len(values))).round().astype(int))]
        section["draws"] = {
            "names": resamples.names,
            "values": kept,
            "drawn": len(resamples.values),
            "converged": len(values),
            "clusters": resamples.clusters,
        }
    if {"N", "D"} == set(law.inputs):
        section["optimum"] = _optimum(law, resamples, grid, observations, level)
        section["surface"] = _surface(law, observations, target)
    if len(law.inputs) == 1:
        section["curve"] = _curve(law, resamples, observations, level)
    return section


def profiles_section(profiles: Mapping[str, ProfileLikelihood]) -> dict[str, Any]:
    """Profile-likelihood intervals and the profiles themselves."""
    return {
        name: {
            "values": one.values,
            "objective": one.objective,
            "threshold": one.threshold,
            "low": one.low,
            "high": one.high,
            "closed": one.closed,
            "level": one.level,
        }
        for name, one in profiles.items()
    }


def refused_section(name: str, law: type[Law], why: str) -> dict[str, Any]:
    """A law the data could not be given to, with the reason."""
    return {
        "name": name,
        "law": law.name,
        "variables": list(law.variables),
        "equation": law.equation,
        "source": law.source,
        "status": "refused",
        "why": why,
        "params": {},
        "derived": {},
        "objective": None,
        "intervals": {},
        "derived_intervals": {},
        "profiles": {},
        "identification": {},
        "residuals": [],
        "draws": None,
        "optimum": None,
        "surface": None,
        "curve": None,
    }


def _word(kind: Any) -> str:
    return str(getattr(kind, "value", kind))


def _interval(resamples: Resamples, name: str, level: float) -> dict[str, Any]:
    found = resamples.interval(name, level)
    return {"low": float(found.low), "high": float(found.high), "level": level, "method": found.method}


def _optimum(
    law: Law, resamples: Resamples | None, grid: Array, observations: Observations, level: float
) -> dict[str, Any] | None:
    cost = observations.cost
    try:
        point = law.optimum(grid, cost)
    except ValueError:
        return None
    draws = resamples.law.optimum(grid, cost) if resamples is not None else None
    section: dict[str, Any] = {"flops": grid}
    for name, symbol in (("params", "N"), ("tokens", "D"), ("loss", "loss")):
        section[name] = _band(getattr(point, symbol), None if draws is None else getattr(draws, symbol), level)
    per = None if draws is None else draws.D / draws.N
    section["tokens_per_param"] = _band(point.D / point.N, per, level)
    last = min(int(np.searchsorted(grid, observations.column("flops").max())), len(grid) - 2)
    pair = slice(last, last + 2)

    def slope(values: Array) -> Array:
        steps: Array = np.diff(np.log(values[..., pair])) / np.diff(np.log(grid[pair]))
        return steps

    section["exponents"] = {}
    for name, symbol in (("params", "N"), ("tokens", "D")):
        drawn = None if draws is None else slope(getattr(draws, symbol))
        band = _band(slope(getattr(point, symbol)), drawn, level)
        section["exponents"][name] = {end: None if ends is None else float(ends[0]) for end, ends in band.items()}
    return section


def _band(value: ArrayLike, draws: ArrayLike | None, level: float) -> dict[str, Any]:
    middle = np.asarray(value, dtype=float)
    if draws is None:
        return {"value": middle, "low": None, "high": None}
    low, high = percentiles(np.asarray(draws, dtype=float).T, level)
    return {"value": middle, "low": low, "high": high}


def _surface(law: Law, observations: Observations, target: float) -> dict[str, Any]:
    axes = {}
    try:
        best = law.optimum(target, observations.cost)
        reach = {"params": BEYOND_TARGET * float(best.N), "tokens": BEYOND_TARGET * float(best.D)}
    except ValueError:
        reach = {}
    for name in ("params", "tokens"):
        values = observations.column(name)
        axes[name] = np.geomspace(values.min() / 2, max(values.max() * 2, reach.get(name, 0.0)), SURFACE_POINTS)
    return {**axes, "loss": law(N=axes["params"][:, None], D=axes["tokens"][None, :])}


def _curve(law: Law, resamples: Resamples | None, observations: Observations, level: float) -> dict[str, Any]:
    (name,) = law.inputs
    values = observations.variables([name])[name]
    x = np.geomspace(values.min() / 2, values.max() * 2, LAW_POINTS)
    return {"x": x, **_band(law(**{name: x}), None if resamples is None else resamples.law(**{name: x}), level)}
