"""Roll-outs of the forecasters, and the growth of the ensemble's errors with the distance that they state.

At each cut the near set is fitted, by point fits alone, to the budgets below and predicts the minima of those beyond.
Budgets beyond a cut decide nothing below: curve model, noise and verdicts are those of the budgets fitted.
The log mean's errors grow with distance: one standard deviation per decade, estimated over the cuts of this study and
over those of others (PRIOR), which count as PRIOR_CUTS more. Measured: nominal 95% intervals of L* hold 96%, of N* 97%
of held-out minima of four published isoFLOP studies and of simulated ones; the study's own cuts alone, without the
others', need intervals of L* twice as wide.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scaling.analysis.fitting.fit import Loss
from scaling.analysis.isoflop.minima import IsoFlop, measure_budgets
from scaling.analysis.judgement.forecasters import LEAST_MINIMA, log_mean, near_set, trusted_minima
from scaling.analysis.quantiles import t_quantile
from scaling.analysis.runs.observations import Observations
from scaling.analysis.schema.judgement import Predicted

ENSEMBLE = "log mean"
MOST_CUTS = 6
PRIOR: Mapping[Predicted, float] = {"loss": 0.01, "params": 0.1}  # errors per decade of log L* and log N*, measured
PRIOR_CUTS = 4
LEAST_HORIZON = 0.25  # decades: inside the data a forecast errs as it does this far beyond


@dataclass(frozen=True)
class Trial:
    """A forecaster's prediction of a held-out budget's minimum: log measured - log predicted, of both quantities."""

    forecaster: str
    trained_to_flops: float
    tested_at_flops: float
    params: float
    loss: float

    @property
    def horizon_decades(self) -> float:
        """Decades between the largest fitted budget and the tested one."""
        return float(np.log10(self.tested_at_flops / self.trained_to_flops))


@dataclass(frozen=True)
class Growth:
    """The standard deviation of a log error per decade of compute, and the degrees of freedom behind it."""

    sd_per_decade: float
    degrees_of_freedom: int

    def half_width(self, decades: float, level: float) -> float:
        """Log half-width of the interval at a distance from the data, decades."""
        quantile = float(t_quantile((1 + level) / 2, self.degrees_of_freedom))
        return quantile * self.sd_per_decade * max(decades, LEAST_HORIZON)


def roll_out(observations: Observations, study: IsoFlop, loss: Loss) -> list[Trial]:
    """Errors of every member and of the log mean at every budget beyond every cut; at most MOST_CUTS cuts."""
    minima = trusted_minima(study)
    count = min(MOST_CUTS, len(minima) - LEAST_MINIMA)
    cuts = np.linspace(LEAST_MINIMA, len(minima) - 1, max(count, 0)).round().astype(int)
    trials: list[Trial] = []
    for cut in cuts.tolist():
        most = minima[cut - 1].budget.flops
        smaller = measure_budgets(tuple(one for one in study.budgets if one.flops <= most), draws=0, seed=0)
        below = near_set(observations, trusted_minima(smaller), loss, judged=False)
        for held in minima[cut:]:
            measured = np.array([held.log_params, np.log(held.loss)])
            found = below.log_optima(held.budget.flops)
            if found:
                found[ENSEMBLE] = log_mean(found)
            for name, logs in found.items():
                params, off = (measured - logs).tolist()
                trials.append(Trial(name, most, held.budget.flops, params, off))
    return trials


def rms(trials: Sequence[Trial], forecaster: str, quantity: Predicted) -> float | None:
    """Root mean square error of one forecaster over its trials; None without any."""
    errors = [getattr(one, quantity) for one in trials if one.forecaster == forecaster]
    return float(np.sqrt(np.mean(np.square(errors)))) if errors else None


def growth(trials: Sequence[Trial], quantity: Predicted) -> Growth:
    """The growth of the log mean's errors; budgets beyond one cut share its fits, so each cut counts once."""
    cuts: dict[float, list[float]] = {}
    for one in trials:
        if one.forecaster == ENSEMBLE:
            scaled = getattr(one, quantity) / max(one.horizon_decades, LEAST_HORIZON)
            cuts.setdefault(one.trained_to_flops, []).append(scaled**2)
    squares = [float(np.mean(found)) for found in cuts.values()]
    freedom = PRIOR_CUTS + len(squares)
    variance = (PRIOR_CUTS * PRIOR[quantity] ** 2 + sum(squares)) / freedom
    return Growth(float(np.sqrt(variance)), freedom)
