"""Hold-out by roll-out: every law fitted to the smaller budgets predicts the larger, and the best predictor is chosen.

A law is used to extrapolate in compute, so its extrapolation is scored: at each cut all runs up to a compute are fitted
and all beyond predicted. AICc (Hurvich and Tsai 1989), beside that score, judges the fit inside the data only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scaling.analysis.fitting.bootstrap import bootstrap, lacks_freedom
from scaling.analysis.fitting.fit import Fit, Loss, fit
from scaling.analysis.isoflop.minima import percentiles
from scaling.analysis.laws.cost import Cost
from scaling.analysis.laws.law import Law
from scaling.analysis.runs.budgets import group_budgets
from scaling.analysis.runs.observations import Observations
from scaling.analysis.schema.forecast import CalibrationEntry
from scaling.analysis.schema.judgement import LawScore, Predicted
from scaling.analysis.schema.numbers import number
from scaling.analysis.words import bounded

Array = NDArray[np.float64]

MOST_RUNGS = 8  # budgets closer together than this many quantiles of compute are held out together
MOST_CUTS = 6
RESAMPLES = 100  # a cut's interval needs its standard deviation only
FEW_RESAMPLES = 40  # where forecasters answer, and a law only speaks far from their optimum
LEAST_CONVERGED = 0.5  # share of a cut's resamples, for its intervals to be judged
LEVEL = 0.95
WORDS: Mapping[Predicted, str] = {"loss": "the loss", "params": "the optimal size"}
Z_LEVEL = 1.959964  # of the normal distribution at LEVEL


@dataclass(frozen=True)
class Score:
    """One law's prediction of one rung of held-out runs from the runs below a cut.

    Errors are log measured - log predicted. quantity: "loss" of each run, or "params", the rung's isoFLOP minimum
    against the law's optimum.
    """

    law: str
    quantity: Predicted
    trained_to_flops: float
    tested_at_flops: float
    n_trained: int
    n_tested: int
    horizon_decades: float
    bias: float
    rmse: float
    covered: int  # of n_tested, by the LEVEL interval
    z: Array  # (n_tested,) errors in units of the predicted standard deviation; NaN without resamples
    error: Array  # (n_tested,)


@dataclass(frozen=True)
class MeasuredOptimum:
    """A measured isoFLOP minimum: log params with its standard deviation, and the cost of its budget's runs."""

    flops: float
    log_params: float
    sd: float
    cost: Cost


@dataclass(frozen=True)
class Unscored:
    """A law that could not be fitted below a cut, and why."""

    law: str
    trained_to_flops: float
    why: str


def rungs(observations: Observations) -> NDArray[np.intp]:
    """A rung of compute for every run, 0 the lowest: its budget where most runs lie in budgets, else its quantile."""
    flops = observations.column("flops")
    budgets, outside = group_budgets(observations)
    if len(budgets) >= 2 and outside < len(flops) / 2:
        centres = np.log([budget.flops for budget in budgets])
        bounds = (centres[1:] + centres[:-1]) / 2
        if len(bounds) >= MOST_RUNGS:
            bounds = np.quantile(bounds, np.linspace(0, 1, MOST_RUNGS - 1), method="nearest")
    else:
        count = min(MOST_RUNGS, len(np.unique(flops)))
        bounds = np.quantile(np.log(flops), np.linspace(0, 1, count + 1)[1:-1])
    label = np.searchsorted(np.unique(bounds), np.log(flops))
    return np.unique(label, return_inverse=True)[1]


def roll_out(
    observations: Observations,
    laws: Mapping[str, tuple[type[Law], tuple[str, ...]]],
    *,
    loss: Loss,
    seed: int,
    resamples: int = RESAMPLES,
    optima: Sequence[MeasuredOptimum] = (),
) -> tuple[list[Score], list[Unscored]]:
    """Score every law (name -> class and its given variables) at every cut; fewer than three rungs give no score."""
    label = rungs(observations)
    last = int(label.max())
    cuts = np.arange(1, last)
    if len(cuts) > MOST_CUTS:
        cuts = np.unique(np.linspace(1, last - 1, MOST_CUTS).round().astype(int))
    scores: list[Score] = []
    unscored: list[Unscored] = []
    for cut in cuts:
        below = observations.select(label <= cut)
        for name, (law, variables) in laws.items():
            try:
                fitted, draws = _fit_below(below, law, variables, loss, seed, resamples)
            except ValueError as error:
                unscored.append(Unscored(name, float(below.column("flops").max()), str(error)))
                continue
            for rung in range(cut + 1, last + 1):
                scores.append(_score(name, fitted, draws, variables, below, observations.select(label == rung)))
            try:
                scores += _score_optima(name, fitted, draws, below, optima)
            except ValueError as error:  # no interior optimum
                unscored.append(Unscored(name, float(below.column("flops").max()), str(error)))
    return scores, unscored


def _fit_below(
    below: Observations, law: type[Law], variables: tuple[str, ...], loss: Loss, seed: int, resamples: int
) -> tuple[Fit, Law | None]:
    x, y, weights = below.variables(variables), below.column("loss"), below.column("weight")
    fitted = fit(law, x, y, loss=loss, weights=weights)
    if not np.isfinite(fitted.objective):
        raise ValueError(f"{fitted.status.upper()}: {fitted.why}")
    if resamples == 0 or lacks_freedom(law, len(np.unique(below.clusters))):
        return fitted, None
    draws = bootstrap(fitted, x, y, below.clusters, n=resamples, seed=seed, weights=weights)
    return fitted, draws.law if draws.converged.mean() >= LEAST_CONVERGED else None


def _score(
    name: str,
    fitted: Fit,
    draws: Law | None,
    variables: tuple[str, ...],
    below: Observations,
    beyond: Observations,
) -> Score:
    x = beyond.variables(variables)
    error: Array = np.log(beyond.column("loss")) - np.log(fitted.law(**x))
    spread = np.full(len(error), np.nan)
    if draws is not None:
        spread = np.sqrt(log_spread(draws(**x)) ** 2 + noise_sd(fitted) ** 2 / beyond.column("weight"))
    tested = float(np.exp(np.median(np.log(beyond.column("flops")))))
    return _scored(name, "loss", below, tested, error, error / spread)


def _score_optima(
    name: str, fitted: Fit, draws: Law | None, below: Observations, optima: Sequence[MeasuredOptimum]
) -> list[Score]:
    """The law's optimal params against the measured minima of the budgets beyond the cut."""
    most = below.column("flops").max()
    scores = []
    for found in optima:
        if found.flops <= most * 1.01:
            continue
        error = found.log_params - np.log(np.atleast_1d(fitted.law.optimum(found.flops, found.cost).N))
        z = np.full(1, np.nan)
        if draws is not None:
            drawn = log_spread(draws.optimum(found.flops, found.cost).N)
            z = error / np.sqrt(drawn**2 + found.sd**2)
        scores.append(_scored(name, "params", below, found.flops, error, z))
    return scores


def _scored(name: str, quantity: Predicted, below: Observations, tested: float, error: Array, z: Array) -> Score:
    trained = below.column("flops").max()
    return Score(
        law=name,
        quantity=quantity,
        trained_to_flops=float(trained),
        tested_at_flops=tested,
        n_trained=len(below.table),
        n_tested=len(error),
        horizon_decades=float(np.log10(tested / trained)),
        bias=float(error.mean()),
        rmse=float(np.sqrt((error**2).mean())),
        covered=int((np.abs(z) <= Z_LEVEL).sum()),
        z=z,
        error=error,
    )


def log_spread(draws: ArrayLike) -> Array:
    """Half the central 68% of the logs of draws (r, m), (m,); NaN where too many draws are no positive numbers."""
    values = np.asarray(draws, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(values.reshape(len(values), -1)).T
    low, high = percentiles(logs, 0.6827)
    spread: Array = (high - low) / 2
    return spread


def noise_sd(fitted: Fit) -> float:
    """Standard deviation of one run's log loss about the law, by residuals and degrees of freedom; NaN without any."""
    free = fitted.n - len(type(fitted.law).free())
    return float(np.sqrt((fitted.residuals**2).sum() / free)) if free > 0 else float("nan")


def aicc(fitted: Fit) -> float:
    """Second-order Akaike criterion of a fit, relative to others on the same runs under the same loss.

    The likelihood is the one whose mode the loss finds, its scale at its maximum: normal for squares, Laplace
    for absolute values and for Huber losses whose knee lies inside the residuals.
    """
    size, k, n = np.maximum(np.abs(fitted.residuals), 1e-12), len(type(fitted.law).free()) + 1, fitted.n
    if n - k - 1 <= 0:
        return float("inf")
    squares = fitted.loss.name == "mse" or (fitted.loss.name == "huber" and np.median(size) < fitted.loss.delta)
    deviance = n * np.log((size**2).mean()) if squares else 2 * n * np.log(size.mean())
    return float(deviance + 2 * k + 2 * k * (k + 1) / (n - k - 1))


def compare(scores: Sequence[Score], fits: Mapping[str, Fit]) -> list[LawScore]:
    """One row a law, best predictor first: error, bias and coverage over the rungs that every scored law predicted."""
    by_law: dict[str, dict[tuple[float, float], Score]] = {}
    for score in scores:
        if score.quantity != "loss":
            continue
        by_law.setdefault(score.law, {})[score.trained_to_flops, score.tested_at_flops] = score
    common = set.intersection(*(set(found) for found in by_law.values())) if by_law else set()
    best = min((aicc(fitted) for fitted in fits.values()), default=0.0)
    rows: list[LawScore] = []
    for name, fitted in fits.items():
        mine = [score for key, score in by_law.get(name, {}).items() if key in common]
        tested = sum(score.n_tested for score in mine)
        error = np.concatenate([score.error for score in mine]) if mine else np.array([])
        judged = bool(mine) and all(np.isfinite(score.z).all() for score in mine)
        rows.append(
            {
                "law": name,
                "predictions": tested,
                "rmse": number(np.sqrt((error**2).mean())) if tested else None,
                "bias": number(error.mean()) if tested else None,
                "coverage": sum(score.covered for score in mine) / tested if judged else None,
                "level": LEVEL,
                "longest_decades": max((score.horizon_decades for score in mine), default=None),
                "aicc": number(aicc(fitted)),
                "delta_aicc": number(aicc(fitted) - best),
            }
        )
    return sorted(rows, key=lambda row: np.inf if row["rmse"] is None else row["rmse"])


def calibrate(scores: Sequence[Score], law: str, quantity: Predicted) -> CalibrationEntry:
    """The widening of one law's intervals that covers the roll-outs, and their longest reach.

    The factor is the conformal quantile (Vovk et al. 2005) of the held-out rungs' |z|; runs of one rung share their
    error, so each rung counts once, with its own LEVEL quantile. The factor never narrows an interval.
    """
    mine = [s for s in scores if s.law == law and s.quantity == quantity and np.isfinite(s.z).all()]
    if not mine:
        return {
            "factor": None,
            "rungs": 0,
            "reach_decades": 0.0,
            "words": f"intervals of {WORDS[quantity]} are not widened: no prediction of it could be tested",
        }
    sizes = np.sort([float(np.quantile(np.abs(score.z), LEVEL)) for score in mine])
    rank = int(np.ceil((len(sizes) + 1) * LEVEL))
    factor = max(1.0, float(sizes[min(rank, len(sizes)) - 1]) / Z_LEVEL)
    reach = max(score.horizon_decades for score in mine)
    share = "all" if rank > len(sizes) else f"{LEVEL:.0%}"
    how = f"widened {bounded(factor)} times, to cover" if factor > 1 else "not widened: they covered"
    words = (
        f"intervals of {WORDS[quantity]} are {how} {share} of {len(sizes)} held-out predictions, "
        f"which reached up to {reach:.2f} decades of compute beyond the runs they came from"
    )
    return {"factor": factor, "rungs": len(sizes), "reach_decades": reach, "words": words}
