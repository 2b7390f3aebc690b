"""Resamples of a fit by runs (clustered bootstrap), and the identification of its parameters.

Legend: R resamples, n observations, p parameters, J clusters (runs).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scaling.analysis.fitting.fit import Fit
from scaling.analysis.fitting.profile_likelihood import ProfileLikelihood
from scaling.analysis.fitting.refits import Refits, number_clusters, refit
from scaling.analysis.laws.jet import Array
from scaling.analysis.laws.law import Law, Parameter, from_columns
from scaling.analysis.schema.fits import IdentificationKind

MIN_DRAWS = 20  # converged resamples below which there is no interval
WIDE_FACTOR = 1e3  # ratio of the ends of an interval beyond which a factor such as A is called weakly identified


def lacks_freedom(law: type[Law], clusters: int) -> bool:
    """Return whether the runs are no more than the parameters, so that a law may pass through all, whatever they are.

    The refits to their resamples then agree by construction, and no interval follows from their agreement.
    """
    return clusters <= len(law.free())


@dataclass(frozen=True)
class Interval:
    """An interval, its confidence level and method; the ends keep the shape of the quantity."""

    low: Any
    high: Any
    level: float
    method: str


@dataclass(frozen=True)
class Resamples(Refits):
    """The law refitted to R resamples of whole clusters, each to its own optimum."""

    seed: int
    clusters: int
    estimate: Law

    @cached_property
    def law(self) -> Law:
        """The law of all converged resamples at once, with an optimum near the same sizes as the estimate's."""
        return from_columns(self.law_type, self.values[self.converged], self.variable).tried_at(self.estimate.tried)

    def interval(self, of: str | Callable[[Law], Any], level: float = 0.95) -> Interval:
        """Return the interval of a parameter, a derived quantity, or a function of the law.

        Percentiles of the converged resamples; nan where fewer than MIN_DRAWS converged, where the clusters are no
        more than the parameters, or where more than 1 - level of the resamples leave the quantity undefined. The
        function is called once, with the law of all resamples (see `law`), and may return shape (R', m) or (R', 1).
        """
        if not 0 < level < 1:
            raise ValueError(f"an interval's level lies between 0 and 1, got {level}; 0.95 is usual")
        draws = np.asarray(_quantity(self.law, of), dtype=float)
        if draws.ndim > 1 and draws.shape[-1] == 1:
            draws = draws[..., 0]
        if len(draws) < MIN_DRAWS or lacks_freedom(self.law_type, self.clusters):
            nothing = np.full(draws.shape[1:], np.nan)[()]
            return Interval(nothing, nothing, level, "percentile")
        hidden = np.isnan(draws).mean(axis=0) > 1 - level
        tails = [(1 - level) / 2, (1 + level) / 2]
        low, high = np.nanquantile(np.where(hidden, 0.0, draws), tails, axis=0, method="nearest")
        low, high = np.where(hidden, np.nan, low), np.where(hidden, np.nan, high)
        return Interval(low[()], high[()], level, "percentile")


def bootstrap(
    fit: Fit,
    x: Mapping[str, ArrayLike],
    y: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    n: int = 1000,
    seed: int = 0,
    strata: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> Resamples:
    """Return n refits to resamples of whole clusters (runs), drawn with replacement within each stratum.

    `clusters` (n,) labels the run of each observation (None: each is its own run); `strata` (n,) its
    budget. A resample is a count per cluster, so that all refits share the data and run together.
    """
    member = number_clusters(clusters, len(np.asarray(y)))
    groups = np.zeros(len(member), dtype=int) if strata is None else np.asarray(strata)
    counts = _draw(member, np.unique(groups, return_inverse=True)[1], n, np.random.default_rng(seed))
    found = refit(fit, x, y, counts, member, weights=weights)
    return Resamples(found.law_type, found.variable, found.values, found.converged, seed, counts.shape[1], fit.law)


def _draw(member: NDArray[np.intp], group: NDArray[np.intp], n: int, rng: np.random.Generator) -> Array:
    """Return how often each cluster is drawn, shape (n, J)."""
    size = int(member.max()) + 1
    of = np.zeros(size, dtype=np.intp)
    of[member] = group
    if (of[member] != group).any():
        raise ValueError("a cluster lies in two strata; strata must be constant within each cluster")
    counts = np.zeros((n, size))
    for stratum in np.unique(of):
        inside = np.flatnonzero(of == stratum)
        counts[:, inside] = rng.multinomial(len(inside), np.full(len(inside), 1 / len(inside)), size=n)
    return counts


@dataclass(frozen=True)
class Identification:
    """Whether the data fix a parameter, and one sentence that gives the reason."""

    kind: IdentificationKind
    sentence: str


def identify(
    fit: Fit, resamples: Resamples, profiles: Mapping[str, ProfileLikelihood] | None = None, *, level: float = 0.95
) -> dict[str, Identification]:
    """Return the identification of each parameter, from its resamples and, where given, its profile.

    Weakly identified: the runs are no more than the parameters; or no observation responds to it; or its profile never
    crosses the threshold on one side; or its interval reaches the edge of its range; or the interval is wider than the
    estimate itself (a parameter that varies by factors, such as A: spans more than a factor of WIDE_FACTOR).
    """
    declared = type(fit.law).declared()
    lacking = lacks_freedom(type(fit.law), resamples.clusters)
    few = f"{resamples.clusters} runs for {len(type(fit.law).free())} parameters" if lacking else ""
    return {
        name: _identify(name, fit, declared[name], resamples.interval(name, level), (profiles or {}).get(name), few)
        for name in type(fit.law).free()
    }


def _identify(
    name: str, fit: Fit, declared: Parameter, interval: Interval, profile: ProfileLikelihood | None, few: str
) -> Identification:
    value = fit.law.params[name]
    span = f"{interval.level:.0%} interval {interval.low:.4g} to {interval.high:.4g}"
    if name in fit.evidence.at_bound:
        return Identification("at a bound", f"{name} is at the edge of its range, {value:.4g}: the data push it there")
    least, most = declared.limits
    span_is_wide = (
        interval.high > WIDE_FACTOR * interval.low
        if declared.multiplicative
        else interval.high - interval.low > abs(value)
    )
    if few:
        why = f"{name} is weakly identified: {few}"
    elif name in fit.evidence.unseen:
        why = f"{name} is not determined: no observation responds to it alone"
    elif profile is not None and not all(profile.closed):
        why = f"{name} is weakly identified: its profile is flat from {profile.low:.4g} to {profile.high:.4g}"
    elif np.isnan(interval.low) or np.isnan(interval.high):
        why = f"{name} is weakly identified: too few resamples converged for an interval"
    elif interval.low <= least or interval.high >= most:
        why = f"{name} is weakly identified: its {span} reaches the edge of its range"
    elif span_is_wide:
        why = f"{name} is weakly identified: {span} around {value:.4g}"
    else:
        return Identification("identified", f"{name} is identified: {value:.5g}, {span}")
    return Identification("weakly identified", why)


def _quantity(law: Law, of: str | Callable[[Law], Any]) -> Any:
    if callable(of):
        return of(law)
    known = {**law.params, **law.derived}
    if of not in known:
        raise ValueError(f"unknown quantity {of!r} of {law.name!r}; choose from {', '.join(known)}")
    return known[of]
