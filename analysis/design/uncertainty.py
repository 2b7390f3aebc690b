"""The uncertainty of losses before they are measured: one covariance of the log losses of all points of interest.

A law's own part is linear in its parameters: with the Jacobian J of log loss by log parameter at the runs so far and
noise sd s, the parameters' covariance is (J^T J / s^2 + 1 / PRIOR^2)^-1, and a point with Jacobian j has variance
j cov j^T. The average over near-fits (resamples of the fit) stands for a law, since J changes within the spread. Laws
add the mixture's second part, the covariance of their predictions (law of total variance), weighed by exp(-AICc / 2).
Every law is off by a misfit besides, alike at runs of like size and tokens (kriging with the law as its trend): many
runs of one kind then count as one piece of information, and runs far from the target say less about it. The target's
entry is therefore the mixture's mean squared prediction error. Legend: n runs, m points, p parameters.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scaling.analysis.fitting.bootstrap import bootstrap
from scaling.analysis.fitting.fit import Fit, fit
from scaling.analysis.judgement.holdout import aicc
from scaling.analysis.laws import LAWS
from scaling.analysis.laws.law import Law, build
from scaling.registry import choose

Array = NDArray[np.float64]

Points = tuple[Array, Array]  # params and tokens of each

PRIOR = 3.0  # sd of a log parameter before any run: within a factor of 400, no knowledge to speak of
NEAR_FITS = 12
LEAST_SPARE = 3  # runs beyond a law's parameters for it to be resampled
REACH = np.log(10.0)  # of log params and of log tokens over which the misfit of a law is alike (assumed)
# A decade beyond the runs a misfit of this size leaves 1.3%; the log mean of forecasters misses held-out minima of four
# published series by 1.1% there, and single laws by 4% (tests/benchmarks/forecasts.py).
MISFIT = 0.02
FAR = 10.0  # AICc beyond the best at which a law bears no weight (Burnham and Anderson 2002, section 2.6)


@dataclass(frozen=True)
class Believed:
    """A law that the runs do not reject: its fit, near-fits, and weight in the mixture."""

    fit: Fit
    near: tuple[Law, ...]
    weight: float


def believed(
    params: Array, tokens: Array, loss: Array, laws: Sequence[str], *, seed: int = 0, near: int = NEAR_FITS
) -> list[Believed]:
    """The laws that runs (n,) do not reject, each with near-fits; ValueError where the runs suit none."""
    x = {"N": params, "D": tokens}
    fits, why = [], ""
    for name in laws:
        law = choose("law", LAWS, name)
        try:
            found = fit(law, x, loss)
        except ValueError as error:
            why = why or str(error)
            continue
        score = aicc(found)
        if found.status != "did_not_converge" and np.isfinite(score):
            fits.append((score, found))
    if not fits:
        raise ValueError(why or f"{len(loss)} runs suit none of the laws {', '.join(laws)}: train a first grid")
    best = min(score for score, _ in fits)
    kept = [(np.exp((best - score) / 2), found) for score, found in fits if score - best <= FAR]
    total = sum(weight for weight, _ in kept)
    return [Believed(found, _near(found, x, loss, seed, near), float(weight / total)) for weight, found in kept]


def _near(found: Fit, x: dict[str, Array], loss: Array, seed: int, near: int) -> tuple[Law, ...]:
    law = type(found.law)
    if near == 0 or len(loss) < len(law.declared()) + LEAST_SPARE:
        return (found.law,)
    drawn = bootstrap(found, x, loss, n=near, seed=seed)
    rows = drawn.values[drawn.converged]
    drawn_laws = [build(law, dict(zip(law.declared(), row.tolist(), strict=True))) for row in rows]
    return (found.law, *drawn_laws)


def misfit_of(laws: Sequence[Believed], sd: float) -> float:
    """The sd of the laws' misfit: what their residuals scatter beyond one log loss's sd, and no less than MISFIT.

    Runs of few sizes show none of a law's error elsewhere.
    """
    squares = [one.weight * float(np.nanmean(one.fit.residuals**2)) for one in laws]
    return float(np.sqrt(max(sum(squares) - sd**2, MISFIT**2)))


@np.errstate(all="ignore")
def covariance(laws: Sequence[Believed], runs: Points, points: Points, sd: float, misfit: float = 0.0) -> Array:
    """The covariance (m, m) of log losses at points, given runs, the sd of one log loss and the laws' misfit."""
    weights = np.array([one.weight for one in laws])
    own = np.array(
        [np.mean([law_covariance(law, runs, points, sd, misfit) for law in one.near], axis=0) for one in laws]
    )
    means = np.array([np.log(one.fit.law(N=points[0], D=points[1])) for one in laws])
    away = np.nan_to_num(means - weights @ means)
    total: Array = np.einsum("k,kij->ij", weights, own) + (weights[:, None] * away).T @ away
    return total


def law_covariance(law: Law, runs: Points, points: Points, sd: float, misfit: float = 0.0) -> Array:
    """The covariance (m, m) of log losses at points by one law, linear in its parameters; see `covariance`."""
    seen, ahead = (_log_jacobian(law, *where) for where in (runs, points))
    if misfit == 0.0:
        precision = seen.T @ seen / sd**2 + np.eye(seen.shape[1]) / PRIOR**2
        found: Array = ahead @ np.linalg.solve(precision, ahead.T)
        return found
    among = misfit**2 * _alike(runs, runs) + sd**2 * np.eye(len(seen))
    across = misfit**2 * _alike(points, runs)
    carried = np.linalg.solve(among, np.concatenate([seen, across.T], axis=1))
    by_law, by_misfit = carried[:, : seen.shape[1]], carried[:, seen.shape[1] :]
    left = ahead - across @ by_law
    own = misfit**2 * _alike(points, points) - across @ by_misfit
    kriged: Array = own + left @ np.linalg.solve(seen.T @ by_law + np.eye(seen.shape[1]) / PRIOR**2, left.T)
    return kriged


def _alike(one: Points, other: Points) -> Array:
    """The correlation of the laws' misfit between points (m,) and points (n,), (m, n)."""
    apart = sum(np.log(a[:, None] / b[None, :]) ** 2 for a, b in zip(one, other, strict=True))
    found: Array = np.exp(-apart / (2 * REACH**2))
    return found


def _log_jacobian(law: Law, params: Array, tokens: Array) -> Array:
    """d log loss / d log parameter, (n, p); a parameter at zero varies by a tenth of the loss."""
    loss = np.asarray(law(N=params, D=tokens), dtype=float)
    values = np.array(list(law.params.values()), dtype=float)
    scale = np.where(np.abs(values) > 0, np.abs(values), 0.1 * float(np.median(loss)))
    found: Array = np.nan_to_num(law.gradient(N=params, D=tokens) * scale / loss[:, None], posinf=0.0, neginf=0.0)
    return found
