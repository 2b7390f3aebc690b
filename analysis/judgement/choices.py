"""The share of choice in the answer: the runs that move it most, and the answers of all other defensible analyses.

The answer is the compute-optimal number of parameters at a target compute, with its tokens, loss and exponent.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from scaling.analysis.fitting.fit import Fit, Loss, fit
from scaling.analysis.fitting.refits import refit
from scaling.analysis.judgement.holdout import rungs
from scaling.analysis.laws.cost import FLOPS_PER_PARAM_TOKEN, Cost
from scaling.analysis.laws.law import Law, from_columns
from scaling.analysis.runs.column_names import COUNTS_OF_PARAMS
from scaling.analysis.runs.observations import Observations
from scaling.analysis.schema.judgement import CHOICES, AnswerSpread, Choice, ChoiceEffect, RefitEntry, RunInfluence
from scaling.analysis.schema.numbers import number

Array = NDArray[np.float64]

MOST_WORK = 2_000_000  # observations times runs left out, all refitted at once in memory
OUTLIER_SPREADS = 4.0  # residuals beyond so many robust standard deviations are outliers under the outlier rule
EXACT = 1e-9  # of the log loss: residuals below are rounding, and none an outlier
MAD_TO_SD = 1.4826  # of the normal distribution


@dataclass(frozen=True)
class Answer:
    """The optimum of a fit at the target compute."""

    params: float
    tokens: float
    loss_nats: float
    exponent: float  # local slope of log params against log compute


def answer(law: Law, target_flops: float, cost: Cost) -> Answer:
    """The optimum of a law at a compute, and its local exponent."""
    at = law.optimum(np.array([target_flops, target_flops * 1.01]), cost)
    params, tokens, loss = (np.asarray(value, dtype=float) for value in (at.N, at.D, at.loss))
    exponent = np.log(params[1] / params[0]) / np.log(1.01)
    return Answer(float(params[0]), float(tokens[0]), float(loss[0]), float(exponent))


def influence(
    observations: Observations, fitted: Fit, variables: tuple[str, ...], target_flops: float
) -> list[RunInfluence]:
    """The moves of the optimal params at the target when one run is left out and the law refitted, the largest first.

    Of more runs than MOST_WORK allows, those with the largest residuals are left out.
    """
    cluster, names = observations.table["cluster"].factorize()
    whole = answer(fitted.law, target_flops, observations.cost)
    size = np.bincount(cluster, np.abs(fitted.residuals))
    left_out = np.argsort(-size, kind="stable")[: max(MOST_WORK // len(cluster), 1)]
    counts = np.ones((len(left_out), len(names)))
    counts[np.arange(len(left_out)), left_out] = 0.0
    again = refit(
        fitted,
        observations.variables(variables),
        observations.column("loss"),
        counts,
        cluster,
        weights=observations.column("weight"),
    )
    laws = from_columns(again.law_type, again.values, again.variable).tried_at(fitted.law.tried)
    moved = np.asarray(laws.optimum(target_flops, observations.cost).N, dtype=float).ravel()
    settled = again.converged & np.isfinite(moved)
    rows: list[RunInfluence] = [
        {
            "run": str(names[k]),
            "params": float(moved[row]) if settled[row] else None,
            "change": float(moved[row] / whole.params - 1) if settled[row] else None,
            "why": "" if settled[row] else "without it the fit has no optimum or did not converge",
        }
        for row, k in enumerate(left_out)
    ]
    return sorted(rows, key=lambda row: -np.inf if row["change"] is None else -abs(row["change"]))


def _refit(observations: Observations, law: type[Law], variables: tuple[str, ...], loss: Loss) -> Fit:
    return fit(
        law,
        observations.variables(variables),
        observations.column("loss"),
        loss=loss,
        weights=observations.column("weight"),
    )


def multiverse(
    observations: Observations, fitted: Fit, variables: tuple[str, ...], target_flops: float
) -> list[RefitEntry]:
    """The answer under every combination of defensible choices, the analysis's own first.

    Choices: the counting of parameters and FLOPs (where the source has the counts), the loss and its knee, the outlier
    rule, and whether the smallest budget counts. A combination that cannot be fitted stays, with the reason.
    """
    spread = MAD_TO_SD * float(np.median(np.abs(fitted.residuals - np.median(fitted.residuals))))
    usual = np.abs(fitted.residuals) <= OUTLIER_SPREADS * max(spread, EXACT)
    lowest = rungs(observations) == 0
    every = np.ones(len(usual), dtype=bool)
    outliers: Mapping[str, NDArray[np.bool_]] = {"kept": every}
    if not usual.all():
        outliers = {"kept": every, f"beyond {OUTLIER_SPREADS:g} robust sd dropped": usual}
    budgets: Mapping[str, NDArray[np.bool_]] = {"all": every}
    if not lowest.all():
        budgets = {"all": every, "smallest dropped": ~lowest}
    rows, fits = [], dict[tuple[bytes, str, str, str], Fit]()  # the counting of FLOPs alone changes no fit
    for (count, counted), (loss_name, loss), (rule, kept), (which, used) in itertools.product(
        _counts(observations), _losses(fitted.loss), outliers.items(), budgets.items()
    ):
        data = counted.select(kept & used)
        row: RefitEntry = {
            "counting": count,
            "loss": loss_name,
            "outliers": rule,
            "budgets": which,
            "n": len(data.table),
            "status": "refused",
            "why": "",
            "params": None,
            "tokens": None,
            "loss_nats": None,
            "exponent": None,
        }
        try:
            same = (counted.column("params").tobytes(), loss_name, rule, which)
            if same not in fits:
                fits[same] = _refit(data, type(fitted.law), variables, loss)
            again = fits[same]
            found = answer(again.law, target_flops, data.cost)
        except ValueError as error:
            row["why"] = str(error)
        else:
            row["status"], row["why"] = again.status, again.why
            row["params"], row["tokens"] = number(found.params), number(found.tokens)
            row["loss_nats"], row["exponent"] = number(found.loss_nats), number(found.exponent)
        rows.append(row)
    return rows


def _counts(observations: Observations) -> Iterator[tuple[str, Observations]]:
    """The analysis's own way of counting, then every other one that the source has the counts for."""
    table = observations.table
    yield "counts as chosen", observations
    for name, words in COUNTS_OF_PARAMS.items():
        column = f"params_{name}"
        if column not in table.columns or table[column].isna().any():
            continue
        if not np.allclose(table[column], table["params"]):
            yield words, _recount(observations, params=observations.column(column))
    six = FLOPS_PER_PARAM_TOKEN * observations.column("params") * observations.column("tokens")
    if not np.allclose(six, table["flops"], rtol=1e-3):
        yield "C = 6ND", _recount(observations, flops=six)


def _recount(observations: Observations, **columns: Array) -> Observations:
    return replace(observations, table=observations.table.assign(**columns))


def _losses(own: Loss) -> Sequence[tuple[str, Loss]]:
    # A knee of 1e-4 is the absolute loss to within any noise, and smooth: thousands of runs fit in no time.
    others = [
        Loss("huber", 1e-3, "log"),
        Loss("huber", 1e-2, "log"),
        Loss("huber", 1e-4, "log"),
        Loss("mse", own.delta, "log"),
        Loss("huber", 1e-3, "linear"),
    ]
    return [(_name(loss), loss) for loss in dict.fromkeys([own, *others])]


def _name(loss: Loss) -> str:
    knee = f" {loss.delta:g}" if loss.name == "huber" else ""
    return f"{loss.name}{knee} on {loss.on} loss"


def spread(rows: Sequence[RefitEntry]) -> AnswerSpread:
    """The range of the answers, and the effect of each choice: the ratio of the medians of its options."""
    answered = [row for row in rows if row["params"] is not None and row["tokens"] is not None]
    params = np.array([row["params"] for row in answered], dtype=float)
    tokens = np.array([row["tokens"] for row in answered], dtype=float)
    if not answered:
        return {"analyses": len(rows), "answered": 0, "params": None, "tokens": None, "by_choice": {}}
    by_choice: dict[Choice, ChoiceEffect] = {}
    for choice in CHOICES:
        options = [row[choice] for row in answered]
        by_choice[choice] = {
            "options": len(set(options)),
            "ratio": _ratio_of_medians(params, options),
            "tokens_ratio": _ratio_of_medians(tokens, options),
        }
    return {
        "analyses": len(rows),
        "answered": len(answered),
        "params": [float(params.min()), float(params.max())],
        "tokens": [float(tokens.min()), float(tokens.max())],
        "by_choice": by_choice,
    }


def _ratio_of_medians(values: Array, options: Sequence[str]) -> float:
    """The largest over the least of the medians of the values (r,) under each option."""
    own = np.array(options)
    medians = [float(np.median(values[own == option])) for option in set(options)]
    return max(medians) / min(medians)
