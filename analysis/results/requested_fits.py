"""Every law that was asked for, fitted with its verdict, resamples and profiles, or refused with the reason."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scaling.analysis.fitting.bootstrap import Resamples, lacks_freedom
from scaling.analysis.fitting.bootstrap import bootstrap as resample
from scaling.analysis.fitting.fit import Fit, fit
from scaling.analysis.fitting.profile_likelihood import ProfileLikelihood, profile_likelihood
from scaling.analysis.judgement.verdicts import Verdict, of_law
from scaling.analysis.laws.law import Law
from scaling.analysis.results.request import Request
from scaling.analysis.runs.budgets import group_budgets
from scaling.analysis.runs.observations import Observations
from scaling.analysis.schema.fits import NO_RESAMPLES

Array = NDArray[np.float64]

MOST_PROFILED = 2_000  # observations; beyond, refits along every parameter take too long
LEAST_DRAWS_TO_PROFILE = 200  # fewer resamples ask for a quick look


@dataclass(frozen=True)
class Fitted:
    """One law's fit, its resamples, profiles and verdict, and the observations and variables that it was given.

    no_interval: the reason why there are no resamples; empty where there are.
    """

    fit: Fit
    resamples: Resamples | None
    profiles: Mapping[str, ProfileLikelihood]
    observations: Observations
    variables: tuple[str, ...]
    no_interval: str
    verdict: Verdict


@dataclass(frozen=True)
class Fits:
    """The laws that were fitted, and the reason of each that was refused, by name."""

    fitted: Mapping[str, Fitted]
    refused: Mapping[str, str]

    @property
    def surfaces(self) -> dict[str, Fitted]:
        """The fitted laws of params and tokens."""
        return {
            name: one
            for name, one in self.fitted.items()
            if set(one.variables) == {"N", "D"} and not type(one.fit.law).output
        }


def fit_all(observations: Observations, request: Request) -> Fits:
    """Fit every law; one that the data do not suit is refused, and ValueError states the reasons where none is left."""
    fits: dict[str, Fitted] = {}
    refused: dict[str, str] = {}
    for name, (law, variables) in request.laws.items():
        data = _frontier(observations) if variables == ("C",) else observations
        try:
            x, y, weights = data.variables(variables), measured(data, law), data.column("weight")
            fitted = fit(law, x, y, loss=request.loss, weights=weights)
            few = _too_few(data, law)
            why = few if request.bootstrap else NO_RESAMPLES
            drawn = (
                None
                if why
                else resample(fitted, x, y, data.clusters, n=request.bootstrap, seed=request.seed, weights=weights)
            )
        except ValueError as error:
            refused[name] = str(error)
            continue
        if drawn is not None and not drawn.converged.any():
            drawn, why = None, "no resample converged"
        profiled = request.bootstrap >= LEAST_DRAWS_TO_PROFILE and not few
        profiles = _profile(fitted, data, variables) if profiled else {}
        fits[name] = Fitted(fitted, drawn, profiles, data, variables, why, of_law(fitted, x, y, data))
    if not fits:
        raise ValueError("; ".join(dict.fromkeys(refused.values())))
    return Fits(fits, refused)


def measured(data: Observations, law: type[Law]) -> Array:
    """The measured values (n,): the loss, or the column that the law's formula names before its equals sign."""
    return data.variables([law.output])[law.output] if law.output else data.column("loss")


def _too_few(data: Observations, law: type[Law]) -> str:
    """The numbers of runs and parameters where the runs are no more; empty where they are."""
    clusters, runs = len(np.unique(data.clusters)), data.table["run_id"].nunique()
    if not lacks_freedom(law, clusters):
        return ""
    noun = "runs" if clusters == runs else "groups of rows that are resampled together"
    return f"{clusters} {noun} for {len(law.free())} parameters"


def _profile(fitted: Fit, data: Observations, variables: tuple[str, ...]) -> dict[str, ProfileLikelihood]:
    if len(data.table) > MOST_PROFILED:
        return {}
    x, y, weights = data.variables(variables), measured(data, type(fitted.law)), data.column("weight")
    seen = [p for p in type(fitted.law).free() if p not in (*fitted.evidence.at_bound, *fitted.evidence.unseen)]
    with np.errstate(all="ignore"):  # far from the optimum a law may overflow; such values are turned down
        return {name: profile_likelihood(fitted, x, y, name, clusters=data.clusters, weights=weights) for name in seen}


def _frontier(observations: Observations) -> Observations:
    """The run with the lowest loss of every budget, where there are budgets: a law of compute describes no other."""
    budgets, _ = group_budgets(observations)
    if len(budgets) < 2:
        return observations
    best = np.zeros(len(observations.table), dtype=bool)
    best[[budget.rows[budget.loss.argmin()] for budget in budgets]] = True
    return observations.select(best)
