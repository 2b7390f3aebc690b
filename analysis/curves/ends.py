"""The end of a run, forecast from its curve so far by the log mean of the laws.

A run that has not cooled down yet shows nothing of the gain that its cooldown will bring, so the finished runs of its
study, or typical values, give every coordinate but the two of the level a normal prior. The interval rests on
roll-outs: finished runs of the study are cut at the same share of their steps and forecast by priors from the others;
without enough of them, the run is cut at earlier shares of its own curve, and the spread of the posterior is added,
since such cuts show no error of a cooldown that lies ahead.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from scaling.analysis.curves.course import Array
from scaling.analysis.curves.fit import CurveFit, Points, Prior, fit_curves
from scaling.analysis.curves.laws import ANNEALING, CURVE_LAWS
from scaling.analysis.curves.reading import LEAST_POINTS, RunCurve
from scaling.analysis.quantiles import t_quantile
from scaling.analysis.schema.whole_curves import CurveLawName, CurveLoss

LEVEL = 0.95
LEAST_PEERS = 5  # finished runs of a study for its own priors and roll-outs
MOST_PEERS = 12  # those nearest in size and tokens
INDEPENDENT = 16.0  # points of a curve that its misfit leaves independent, at most
LEAST_SHOWN = 3  # runs with a cooldown among them, for priors of their own
NARROWEST = 0.3  # of a prior, as a share of the typical spread
LEAST_RMS = 5e-4  # of a curve about its law
OWN_CUTS = (0.5, 0.6, 0.7, 0.8)  # shares of a run's own curve at which it is rolled out
LEAST_GROWTH = 0.5  # of a roll-out's error, where the end is nearer than its own target was
# Typical coordinates (gain, log alpha and the law's shape) with their spread: assumed, round and wide. The runs of
# `sweeps/schedules.yaml` have gains of 0.016 to 0.025, log alpha of -0.2 to -1.9, and memories of e^4.2 to e^5.3 steps.
TYPICAL: dict[CurveLawName, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "annealing": ((0.03, -0.7, 5.0), (0.03, 1.0, 1.5)),
    "multi_power": ((0.04, -0.7, -4.0, -0.7, 0.5), (0.04, 1.0, 2.0, 0.7, 0.4)),
}
LEVELS = 2  # coordinates without a prior


@dataclass(frozen=True, eq=False)
class End:
    """A forecast of the end of a curve."""

    fits: Mapping[CurveLawName, CurveFit]  # by law
    losses: Mapping[CurveLawName, float]  # by law, nats per token
    forecasts: CurveLoss
    doubt: float  # standard deviation of the log loss, by the posterior's curvature

    @property
    def loss(self) -> float:
        """The log mean of the laws."""
        return math.exp(sum(map(math.log, self.losses.values())) / len(self.losses))


def forecast_end(curve: RunCurve, until: float, kind: CurveLoss, priors: Mapping[CurveLawName, Prior]) -> End:
    """The loss at the end of a run, from its points up to a place `until`.

    A validation loss is forecast where one was measured by then: the training loss, fitted, and their mean difference.
    """
    points = curve.points(kind, until)
    fits = fit_posteriors(points, priors)
    step, score = curve.scores
    scored = (step >= curve.first) & (step <= until)
    losses: dict[CurveLawName, float] = {}
    for name, one in fits.items():
        gap = 0.0
        if kind == "training" and scored.any():
            gap = float((score[scored] - one.loss(curve.course, step[scored])).mean())
        losses[name] = float(one.loss(curve.course, [curve.steps])[0]) + gap
    doubts = [_doubt(one, curve, curve.steps) for one in fits.values()]
    return End(fits, losses, "validation" if kind == "validation" or scored.any() else "training", max(doubts))


def fit_posteriors(points: Points, priors: Mapping[CurveLawName, Prior]) -> dict[CurveLawName, CurveFit]:
    """Each law at the maximum of its posterior; the scatter of the points is that about the best annealing law."""
    scatter = max(fit_curves(ANNEALING, [points]).rms, LEAST_RMS)
    precision = min(INDEPENDENT, float(len(points.places))) / scatter**2
    weighted = Points(points.course, points.places, points.losses, points.weights / points.weights.sum() * precision)
    return {name: fit_curves(law, [weighted], priors[name]) for name, law in CURVE_LAWS.items()}


def _doubt(fit: CurveFit, curve: RunCurve, at: float) -> float:
    slope = fit.slope(curve.course, at)
    free = np.diag(fit.curvature) > 0
    inverse = np.linalg.pinv(fit.curvature[np.ix_(free, free)], hermitian=True)
    variance = float(slope[free] @ inverse @ slope[free])
    return math.sqrt(max(variance, 0.0))


def typical_priors() -> dict[CurveLawName, Prior]:
    """Priors of a run without finished runs beside it."""
    return {name: _prior(np.array(mean), np.array(spread)) for name, (mean, spread) in TYPICAL.items()}


def _prior(mean: Array, spread: Array) -> Prior:
    none = np.zeros(LEVELS)
    return Prior(np.concatenate([none, mean]), np.concatenate([none, spread**-2.0]))


class Peers:
    """Finished runs of a study, each with its laws fitted to its whole curve."""

    def __init__(self, curves: Sequence[RunCurve], kind: CurveLoss) -> None:
        self.curves, self.kind = list(curves), kind

    @cached_property
    def coordinates(self) -> dict[CurveLawName, Array]:
        """Coordinates of the runs' own fits under the typical priors, (runs, p) by law."""
        typical = typical_priors()
        fits = [fit_posteriors(one.points(self.kind), typical) for one in self.curves]
        return {name: np.array([one[name].q for one in fits]) for name in CURVE_LAWS}

    def priors(self, without: int | None = None) -> dict[CurveLawName, Prior]:
        """Priors by law from the runs that cool down, or all but one: medians, with spreads up to the typical ones."""
        kept = [k for k, one in enumerate(self.curves) if k != without and len(one.course.drops[0])]
        if len(kept) < LEAST_SHOWN:
            return typical_priors()
        found: dict[CurveLawName, Prior] = {}
        for name, q in self.coordinates.items():
            own = q[kept][:, LEVELS:]
            middle = np.median(own, axis=0)
            spread = 1.4826 * np.median(np.abs(own - middle), axis=0)  # of a normal distribution
            widest = np.array(TYPICAL[name][1])
            found[name] = _prior(middle, np.clip(spread, NARROWEST * widest, widest))
        return found

    def errors(self, share: float) -> Array:
        """Log of measured over forecast loss at the end of each run, cut at a share of its steps."""
        found = []
        for k, one in enumerate(self.curves):
            end = forecast_end(one, share * one.steps, self.kind, self.priors(without=k))
            found.append(np.log(one.end(end.forecasts) / end.loss))
        return np.array(found)


def own_errors(curve: RunCurve, kind: CurveLoss, priors: Mapping[CurveLawName, Prior]) -> Array:
    """Log of measured over forecast loss at the last point of a curve, cut at earlier shares of it.

    Errors grow with the log of the time ahead; each is scaled to that of the run's end. Cuts with too few points
    are left out.
    """
    whole = curve.points(kind)
    last = float(whole.places[-1])
    ahead = np.log(curve.steps / last)
    found = []
    cuts = [share * last for share in OWN_CUTS]
    usable = [cut for cut in cuts if len(curve.points(kind, cut).places) >= LEAST_POINTS // 2]
    for cut in usable or [float(whole.places[len(whole.places) // 2])]:  # the middle point after a long warm-up
        points = curve.points(kind, cut)
        fits = fit_posteriors(points, priors)
        forecast = np.mean([np.log(fit.loss(curve.course, [last])[0]) for fit in fits.values()])
        found.append((np.log(whole.losses[-1]) - forecast) * max(ahead / np.log(last / cut), LEAST_GROWTH))
    return np.array(found)


def half_width(errors: Array, level: float = LEVEL) -> float:
    """The log half-width that errors about zero give one more of their kind, at a confidence level."""
    count = len(errors)
    return float(t_quantile(0.5 + level / 2, count) * np.sqrt(np.mean(errors**2)))


def inside(errors: Array) -> int:
    """The number of errors within the half-width that the others give."""
    if len(errors) < 2:
        return 0
    return sum(bool(abs(one) <= half_width(np.delete(errors, k))) for k, one in enumerate(errors))


def nearest(curve: RunCurve, others: Sequence[RunCurve]) -> list[RunCurve]:
    """At most MOST_PEERS of the runs: those of its schedule first, nearest in log size and log tokens."""

    def distance(one: RunCurve) -> tuple[bool, float]:
        apart = abs(math.log(one.params / curve.params)) + abs(math.log(one.tokens / curve.tokens))
        return one.schedule != curve.schedule, apart

    return sorted(others, key=distance)[:MOST_PEERS]
