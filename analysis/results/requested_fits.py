"""Every law asked for, fitted with its resamples; and which of them a forecast rests on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.fitting.bootstrap import Resamples
from analysis.fitting.bootstrap import bootstrap as resample
from analysis.fitting.fit import Fit, Loss, Status, fit
from analysis.fitting.profile_likelihood import ProfileLikelihood, profile_likelihood
from analysis.judgement import forecast
from analysis.judgement.forecast import Form
from analysis.judgement.holdout import aicc
from analysis.laws import LAWS
from analysis.laws.law import Law
from analysis.runs.budgets import group_budgets
from analysis.runs.observations import Observations
from scaling.registry import choose

Wanted = Mapping[str, tuple[type[Law], tuple[str, ...]]]  # name -> law and the variables it is given


MOST_PROFILED = 2_000  # observations; beyond, refits along every parameter take too long
LEAST_DRAWS_TO_PROFILE = 200  # fewer resamples ask for a quick look


@dataclass(frozen=True)
class Fitted:
    """One law's fit, its resamples and profiles, and the observations it was given."""

    fit: Fit
    resamples: Resamples | None
    profiles: Mapping[str, ProfileLikelihood]
    observations: Observations
    variables: tuple[str, ...]


def parse_laws(laws: Sequence[str]) -> Wanted:
    """Laws by name, each with its variables; "power:N" is a law of one variable in N. ValueError lists the
    choices.
    """
    if not laws:
        raise ValueError(f"no law given; choose from {', '.join(sorted(LAWS))}")
    wanted: dict[str, tuple[type[Law], tuple[str, ...]]] = {}
    for text in laws:
        name, _, variable = text.partition(":")
        law = choose("law", LAWS, name)
        if law.predicts != "loss":
            raise ValueError(
                f"the law {name!r} predicts {law.predicts}, not the loss; fit it to its own numbers in Python, "
                f"with analysis.fitting.fit.fit({name!r}, …)"
            )
        if len(law.variables) > 1 and variable:
            raise ValueError(
                f"law {text!r} names a variable; {name} is a law of {', '.join(law.variables)}: leave it out"
            )
        if len(law.variables) == 1:
            own = "C" if law.variables == ("x",) else law.variables[0]
            wanted[f"{name}:{variable or own}"] = (law, (variable or own,))
        else:
            wanted[name] = (law, law.variables)
    return wanted


def fit_all(
    observations: Observations, wanted: Wanted, loss: Loss, draws: int, seed: int
) -> tuple[dict[str, Fitted], dict[str, str]]:
    fits: dict[str, Fitted] = {}
    refused: dict[str, str] = {}
    for name, (law, variables) in wanted.items():
        data = _frontier(observations) if variables == ("C",) else observations
        try:
            x, y, weights = data.variables(variables), data.column("loss"), data.column("weight")
            fitted = fit(law, x, y, loss=loss, weights=weights)
            drawn = resample(fitted, x, y, data.clusters, n=draws, seed=seed, weights=weights) if draws else None
        except ValueError as error:
            refused[name] = str(error)
            continue
        if drawn is not None and not drawn.converged.any():
            drawn = None
        profiles = _profile(fitted, data, variables) if draws >= LEAST_DRAWS_TO_PROFILE else {}
        fits[name] = Fitted(fitted, drawn, profiles, data, variables)
    if not fits:
        raise ValueError("; ".join(dict.fromkeys(refused.values())))
    return fits, refused


def _profile(fitted: Fit, data: Observations, variables: tuple[str, ...]) -> dict[str, ProfileLikelihood]:
    if len(data.table) > MOST_PROFILED:
        return {}
    x, y, weights = data.variables(variables), data.column("loss"), data.column("weight")
    seen = [p for p in fitted.law.params if p not in (*fitted.evidence.at_bound, *fitted.evidence.unseen)]
    with np.errstate(all="ignore"):  # far from the optimum a law may overflow; such values are turned down
        return {name: profile_likelihood(fitted, x, y, name, clusters=data.clusters, weights=weights) for name in seen}


def _frontier(observations: Observations) -> Observations:
    """The run with the lowest loss of every budget, where there are budgets: a law of compute describes
    only those.
    """
    budgets, _ = group_budgets(observations)
    if len(budgets) < 2:
        return observations
    best = np.zeros(len(observations.table), dtype=bool)
    best[[budget.rows[budget.loss.argmin()] for budget in budgets]] = True
    return observations.select(best)


def forms_of_fits(surfaces: Mapping[str, Fitted], order: Sequence[str]) -> list[Form]:
    """Laws with an optimum that the data do not reject, the best predictor first (in the order asked for
    without scores).
    """
    with_optimum = []
    for name in order:
        one = surfaces[name]
        try:
            one.fit.law.optimum(float(one.observations.column("flops").max()), one.observations.cost)
        except ValueError:
            continue
        if one.fit.status is not Status.DID_NOT_CONVERGE:
            with_optimum.append(name)
    if not with_optimum:
        return []
    least = aicc(surfaces[with_optimum[0]].fit)
    kept = [name for name in with_optimum if aicc(surfaces[name].fit) - least <= forecast.REJECTED_DELTA_AICC]
    drawn = {name: surfaces[name].resamples for name in kept}
    return [Form(name, surfaces[name].fit.law, None if (r := drawn[name]) is None else r.law) for name in kept]
