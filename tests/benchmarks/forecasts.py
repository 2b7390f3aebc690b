"""Forecasts against held-out budgets: errors of the log mean, of its members, and the coverage of its intervals.

`python tests/benchmarks/forecasts.py [TABLE [STUDIES]]` simulates so many studies (12) of each of five truths on the
quickstart's grid, and takes the isoFLOP series of TABLE (columns series, params, tokens, flops, loss), each held out
beyond a tenth of its largest budget. Printed are the root mean square errors in percent, and the share of 95% intervals
that hold the truth. Targets: L* 1.5% and N* 20% of measured series, L* 1.3% of simulated ones (2% of a truth without a
floor), coverage 92 to 98%.
"""

import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from scaling.analysis.fitting.fit import Loss
from scaling.analysis.isoflop.minima import IsoFlop, measure, measure_budgets
from scaling.analysis.judgement.forecasters import log_mean, near_set, trusted_minima
from scaling.analysis.judgement.growth import ENSEMBLE, growth, roll_out
from scaling.analysis.laws.law import Law
from scaling.analysis.laws.size_and_data import Chinchilla, Gamma, PowerMean
from scaling.analysis.runs.observations import Observations
from tests.analysis.simulated import observe

TRUTHS: Mapping[str, Law] = {
    "chinchilla": Chinchilla(E=0.86, A=20.0, B=60.0, alpha=0.30, beta=0.33),
    "chinchilla, the quickstart's": Chinchilla(E=0.863, A=7.73, B=52.97, alpha=0.2673, beta=0.333),
    "gamma": Gamma(E=0.5, A=1e3, B=3e4, alpha=0.75, beta=0.75, gamma=0.288),
    "gamma without a floor": Gamma(E=0.0, A=497.612, B=4320.44, alpha=0.520226, beta=0.510962, gamma=0.345997),
    "power mean": PowerMean(E=0.9, A=20.0, B=60.0, alpha=0.28, beta=0.3, q=1.6),
}
BUDGETS = (3.16e10, 1e11, 3.16e11, 1e12)  # the quickstart's grid: five sizes a budget, two seeds each
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
NOISE = 0.005  # of the log loss between seeds
STUDIES = 12  # a truth
LEVEL = 0.95
Z = 1.96


def simulated(truth: Law, seed: int) -> pd.DataFrame:
    """One study of a truth, its sizes a little off the grid."""
    rng = np.random.default_rng(seed)
    rows = []
    for flops in BUDGETS:
        for factor in FACTORS:
            size = float(truth.optimum(flops).N) * factor * np.exp(rng.uniform(-0.1, 0.1))
            tokens = flops / 6 / size
            rows += [
                (size, tokens, flops, float(truth(N=size, D=tokens)) * np.exp(NOISE * rng.standard_normal()), flops)
                for _ in range(2)
            ]
    return pd.DataFrame(rows, columns=["params", "tokens", "flops", "loss", "budget"])


def score(
    source: str,
    observed: Observations,
    study: IsoFlop,
    flops: float,
    log_params: float,
    log_loss: float,
    noise: float,
) -> Iterator[tuple[str, str, float, float, bool | None]]:
    """Source, forecaster, errors of log N* and log L* by the study's budgets, and whether the interval holds.

    The latter is None for a member.
    """
    known = trusted_minima(study)
    found = near_set(observed, known, Loss()).log_optima(flops)
    for name, logs in found.items():
        yield source, name, log_params - logs[0], log_loss - logs[1], None
    mean = log_mean(found)
    yield source, ENSEMBLE, log_params - mean[0], log_loss - mean[1], None
    trials, decades = roll_out(observed, study, Loss()), float(np.log10(flops / known[-1].budget.flops))
    width = {name: growth(trials, name).half_width(decades, LEVEL) for name in ("params", "loss")}
    yield source, "N* interval", log_params - mean[0], width["params"], abs(log_params - mean[0]) <= width["params"]
    half = float(np.hypot(width["loss"], Z * noise))
    yield source, "L* interval", log_loss - mean[1], half, abs(log_loss - mean[1]) <= half


def of_truths(folder: Path, studies: int) -> Iterator[tuple[str, str, float, float, bool | None]]:
    """Scores a decade beyond the simulated studies."""
    for source, truth in TRUTHS.items():
        best = truth.optimum(10 * BUDGETS[-1])
        for seed in range(studies):
            observed = observe(simulated(truth, seed), folder)
            logs = float(np.log(best.N)), float(np.log(best.loss))
            yield from score(source, observed, measure(observed, draws=0, seed=0), 10 * BUDGETS[-1], *logs, NOISE)


def of_series(table: Path, folder: Path) -> Iterator[tuple[str, str, float, float, bool | None]]:
    """Scores at every budget beyond a tenth of the largest, of every series."""
    frame = pd.read_csv(table)
    for source, rows in frame.groupby("series"):
        observed = observe(rows[["params", "tokens", "flops", "loss"]], folder)
        whole = measure(observed, draws=0, seed=0)
        minima = trusted_minima(whole)
        most = 0.101 * minima[-1].budget.flops
        study = measure_budgets(tuple(one for one in whole.budgets if one.flops <= most), draws=0, seed=0)
        for held in [one for one in minima if one.budget.flops > most]:
            logs = held.log_params, float(np.log(held.loss))
            yield from score(str(source), observed, study, held.budget.flops, *logs, 0.0)


def main() -> None:
    """Print a table of errors, and the coverage and width of the intervals."""
    with tempfile.TemporaryDirectory() as folder:
        rows = list(of_truths(Path(folder), int(sys.argv[2]) if len(sys.argv) > 2 else STUDIES))
        if len(sys.argv) > 1:
            rows += of_series(Path(sys.argv[1]), Path(folder))
    found = pd.DataFrame(rows, columns=["source", "forecaster", "params", "loss", "held"])
    errors = found[found.held.isna()]
    for (source, name), one in errors.groupby(["source", "forecaster"], sort=False):
        n, loss = (100 * float(np.sqrt((one[column] ** 2).mean())) for column in ("params", "loss"))
        print(f"{source:40s} {name:34s} N* {n:5.1f}%  L* {loss:5.2f}%  ({len(one)} forecasts)")
    for name in ("N* interval", "L* interval"):
        of_all = found[found.forecaster == name]
        print(
            f"{name}: holds {100 * of_all.held.astype(bool).mean():.0f}% of {len(of_all)}, "
            f"median half-width {100 * of_all.loss.median():.1f}%"
        )


if __name__ == "__main__":
    main()
