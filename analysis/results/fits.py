"""The fits in a results document: values, intervals, evidence, and the loss over compute, size and tokens."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scaling.analysis.fitting.bootstrap import Resamples, identify
from scaling.analysis.fitting.fit import Fit
from scaling.analysis.fitting.profile_likelihood import ProfileLikelihood
from scaling.analysis.isoflop.minima import percentiles
from scaling.analysis.judgement.holdout import LEVEL, aicc, noise_sd
from scaling.analysis.laws.law import Law
from scaling.analysis.results.observations import ComputeGrid
from scaling.analysis.results.request import Request, loss_section
from scaling.analysis.results.requested_fits import Fits, Fitted, measured
from scaling.analysis.runs.observations import Observations
from scaling.analysis.schema.fits import (
    Draws,
    FitEntry,
    FittedEntry,
    IdentificationEntry,
    LawCurve,
    OptimumSection,
    ProfileEntry,
    RefusedEntry,
    Surface,
)
from scaling.analysis.schema.intervals import Band, Interval, Slope
from scaling.analysis.schema.numbers import finite, integers, number, numbers, rows_of

Array = NDArray[np.float64]

MOST_DRAWS = 1_000  # of a bootstrap, kept in the document
SURFACE_POINTS = 48  # a side, of the sampled loss surface
BEYOND_TARGET = 3.0  # times the target's optimum, how far the surface reaches
LAW_POINTS = 61  # of a law of one variable


def fits_section(fits: Fits, whole: Observations, request: Request, grid: ComputeGrid) -> list[FitEntry]:
    """One entry a law, in the order asked for."""
    entries: list[FitEntry] = []
    for name, (law, _) in request.laws.items():
        if name in fits.refused:
            entries.append(_refused(name, law, fits.refused[name]))
            continue
        one = fits.fitted[name]
        entry = _fitted(name, one, grid)
        if one.observations is not whole:
            entry["rows"] = integers(one.observations.table["row"])
        entries.append(entry)
    return entries


def _fitted(name: str, one: Fitted, grid: ComputeGrid) -> FittedEntry:
    """One fitted law: values, intervals, evidence, residuals, draws, and its loss over its own variables."""
    fitted, resamples, data = one.fit, one.resamples, one.observations
    law, evidence = fitted.law, fitted.evidence
    of_both = set(law.inputs) == {"N", "D"}
    entry: FittedEntry = {
        "name": name,
        "law": law.name,
        "variables": list(law.inputs),
        "equation": law.equation,
        "source": law.source,
        "status": fitted.status,
        "why": fitted.why,
        "params": {symbol: number(value) for symbol, value in law.params.items()},
        "derived": {symbol: number(value) for symbol, value in law.derived.items()},
        "objective": number(fitted.objective),
        "loss": loss_section(fitted.loss),
        "n": fitted.n,
        "aicc": number(aicc(fitted)),
        "noise_sd_log": number(noise_sd(fitted)),
        "evidence": {
            "starts": evidence.starts,
            "agreed": evidence.agreed,
            "kkt_residual": number(evidence.residual),
            "at_bound": list(evidence.at_bound),
            "unseen": list(evidence.unseen),
            "condition": number(evidence.condition),
            "iterations": evidence.iterations,
        },
        "identification": {} if resamples is None else _identification(fitted, resamples, one.profiles),
        "residuals": numbers(fitted.residuals),
        "held": {symbol: number(value) for symbol, value in law.held.items()},
        "intervals": {} if resamples is None else {key: _interval(resamples, key) for key in type(law).free()},
        "derived_intervals": {} if resamples is None else {key: _interval(resamples, key) for key in law.derived},
        "no_interval": one.no_interval,
        "draws": None if resamples is None else _draws(resamples),
        "optimum": _optimum(law, resamples, grid.flops, data) if of_both else None,
        "surface": _surface(law, data, grid.target) if of_both else None,
        "curve": _curve(law, resamples, data) if len(law.inputs) == 1 else None,
        "profiles": {symbol: _profile(profile) for symbol, profile in one.profiles.items()},
        "verdict": one.verdict.entry,
    }
    _add_predicted(entry, one)
    return entry


def _add_predicted(entry: FittedEntry, one: Fitted) -> None:
    """Enter the law's value at every run, its own column of measured values, and the ranges of its own columns."""
    law, data = one.fit.law, one.observations
    columns = data.variables(one.variables)
    given = dict(zip(law.inputs, columns.values(), strict=True))
    entry["predicted"] = numbers(np.broadcast_to(law(**given), len(data.table)))
    entry["columns"] = {name: [float(values.min()), float(values.max())] for name, values in columns.items()}
    if one.fit.loss.on == "linear":
        misfit, freedom = measured(data, type(law)) - law(**given), one.fit.n - len(type(law).free())
        entry["noise_sd"] = number(np.sqrt((misfit**2).sum() / freedom)) if freedom > 0 else None
    if law.output:
        entry["output"], entry["measured"] = law.output, numbers(measured(data, type(law)))


def _refused(name: str, law: type[Law], why: str) -> RefusedEntry:
    """A law that the data do not suit, with the reason."""
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


def _identification(
    fitted: Fit, resamples: Resamples, profiles: Mapping[str, ProfileLikelihood]
) -> dict[str, IdentificationEntry]:
    found = identify(fitted, resamples, profiles, level=LEVEL)
    return {symbol: {"kind": one.kind, "sentence": one.sentence} for symbol, one in found.items()}


def _interval(resamples: Resamples, symbol: str) -> Interval:
    found = resamples.interval(symbol, LEVEL)
    return {"low": number(found.low), "high": number(found.high), "level": LEVEL, "method": found.method}


def _draws(resamples: Resamples) -> Draws:
    """The resamples that converged, at most MOST_DRAWS of them, evenly thinned."""
    values = resamples.values[resamples.converged]
    kept = np.unique(np.linspace(0, len(values) - 1, min(MOST_DRAWS, len(values))).round().astype(int))
    return {
        "names": list(resamples.names),
        "values": rows_of(values[kept]),
        "drawn": len(resamples.values),
        "converged": len(values),
        "clusters": resamples.clusters,
    }


def _profile(one: ProfileLikelihood) -> ProfileEntry:
    return {
        "values": numbers(one.values),
        "objective": numbers(one.objective),
        "threshold": number(one.threshold),
        "low": number(one.low),
        "high": number(one.high),
        "closed": [bool(end) for end in one.closed],
        "level": one.level,
    }


def _optimum(law: Law, resamples: Resamples | None, grid: Array, observations: Observations) -> OptimumSection | None:
    """The law's optimum over the compute grid (g,) with bands; None where it has none."""
    cost = observations.cost
    try:
        point = law.optimum(grid, cost)
    except ValueError:
        return None
    draws = resamples.law.optimum(grid, cost) if resamples is not None else None
    last = min(int(np.searchsorted(grid, observations.column("flops").max())), len(grid) - 2)
    pair = slice(last, last + 2)

    def slope(values: Array, drawn: Array | None) -> Slope:
        of_draws = None if drawn is None else _log_slope(grid[pair], drawn[..., pair])
        band = _band(_log_slope(grid[pair], values[pair]), of_draws)
        low, high = (None if ends is None else ends[0] for ends in (band["low"], band["high"]))
        return {"value": band["value"][0], "low": low, "high": high}

    return {
        "flops": finite(grid),
        "params": _band(point.N, None if draws is None else draws.N),
        "tokens": _band(point.D, None if draws is None else draws.D),
        "loss": _band(point.loss, None if draws is None else draws.loss),
        "tokens_per_param": _band(point.D / point.N, None if draws is None else draws.D / draws.N),
        "exponents": {
            "params": slope(point.N, None if draws is None else draws.N),
            "tokens": slope(point.D, None if draws is None else draws.D),
        },
    }


def _log_slope(flops: Array, values: Array) -> Array:
    """Slopes of log values (…, 2) in log compute (2,): (…, 1)."""
    steps: Array = np.diff(np.log(values)) / np.diff(np.log(flops))
    return steps


def _band(value: ArrayLike, draws: ArrayLike | None) -> Band:
    """A curve (m,) with the percentiles of its draws (R, m)."""
    if draws is None:
        return {"value": numbers(value), "low": None, "high": None}
    low, high = percentiles(np.asarray(draws, dtype=float).T, LEVEL)
    return {"value": numbers(value), "low": numbers(low), "high": numbers(high)}


def _surface(law: Law, observations: Observations, target: float) -> Surface:
    """The law's loss as far as BEYOND_TARGET times the optimum at the target, or twice as far as the data."""
    try:
        best = law.optimum(target, observations.cost)
        reach_params, reach_tokens = BEYOND_TARGET * float(best.N), BEYOND_TARGET * float(best.D)
    except ValueError:
        reach_params = reach_tokens = 0.0
    params = _axis(observations.column("params"), reach_params)
    tokens = _axis(observations.column("tokens"), reach_tokens)
    loss = law(N=params[:, None], D=tokens[None, :])
    return {"params": finite(params), "tokens": finite(tokens), "loss": rows_of(loss)}


def _axis(values: Array, reach: float) -> Array:
    return np.geomspace(values.min() / 2, max(values.max() * 2, reach), SURFACE_POINTS)


def _curve(law: Law, resamples: Resamples | None, observations: Observations) -> LawCurve:
    """The law of one variable over its data and a factor 2 beyond."""
    (name,) = law.inputs
    values = observations.variables([name])[name]
    if values.min() > 0:
        x = np.geomspace(values.min() / 2, values.max() * 2, LAW_POINTS)
    else:
        x = np.linspace(values.min(), values.max(), LAW_POINTS)
    return {"x": finite(x), **_band(law(**{name: x}), None if resamples is None else resamples.law(**{name: x}))}
