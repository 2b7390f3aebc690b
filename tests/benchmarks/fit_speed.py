"""Time the fitter and its bootstrap, and other tools beside them where installed: python tests/benchmarks/fit_speed.py.

Runs of Hoffmann et al. 2022 as read by Besiroglu et al. 2024 (240 points) when the data lie beside the checkout,
simulated runs of the same size otherwise; then 10,000 simulated observations. The objective is the Huber loss
(delta 1e-3) of log residuals, summed. Set OMP_NUM_THREADS=1 to compare single threads.
"""

import csv
import functools
import importlib
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from scaling.analysis.fitting import fit
from scaling.analysis.fitting.bootstrap import bootstrap
from scaling.analysis.fitting.misfit import Loss
from scaling.analysis.laws.size_and_data import Chinchilla
from tests.published import CHINCHILLA

TRUTH = Chinchilla(**Chinchilla.example)


def published() -> tuple[dict[str, Any], Any]:
    if not CHINCHILLA.exists():
        print(f"{CHINCHILLA.name} is not beside the checkout: 240 simulated runs instead")
        return simulated(240)
    with CHINCHILLA.open(encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if row["epoch_excluded"] == "0"]
    N, D, loss = (np.array([float(row[c]) for row in rows]) for c in ("params", "tokens", "loss"))
    return {"N": N, "D": D}, loss


def simulated(n: int) -> tuple[dict[str, Any], Any]:
    rng = np.random.default_rng(0)
    x = {"N": np.exp(rng.uniform(np.log(5e7), np.log(1.6e10), n)), "D": np.exp(rng.uniform(20, 26, n))}
    return x, TRUTH(**x) * np.exp(rng.normal(0, 0.01, n))


def clock(what: str, work: Callable[[], Any], repeats: int = 1) -> Any:
    best, result = np.inf, None
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - start)
    note = f"  (best of {repeats})" if repeats > 1 else ""
    print(f"  {what:<58s} {best:9.4f} s{note}", flush=True)
    return result


def ours(x: dict[str, Any], y: Any, clusters: Any, resamples: tuple[int, ...]) -> None:
    found = clock("one fit to the global optimum", lambda: fit.fit("chinchilla", x, y), repeats=10)
    print(f"    objective {found.objective:.11g}, {found.evidence.agreed} of {found.evidence.starts} starts agree")
    for count in resamples:
        draws = clock(f"{count} resamples of runs, each to its own optimum",
                      lambda count=count: bootstrap(found, x, y, clusters, n=count))  # fmt: skip
        low, high = draws.interval("E").low, draws.interval("E").high
        print(f"    {draws.converged.mean():.2%} converged, E {low:.4f} to {high:.4f}")


def objective(E: float, A: float, B: float, alpha: float, beta: float, x: dict[str, Any], y: Any) -> float:
    return float(np.sum(Loss()(np.log(y / Chinchilla(E, A, B, alpha, beta)(**x)))))


def rivals(x: dict[str, Any], y: Any) -> None:
    """Time other packages on the same points through their documented entry points, where they are installed."""
    for name, run in (("vpnls", _vpnls), ("chinchilla", _chinchilla)):
        if importlib.util.find_spec(name) is None:
            print(f"  {name} is not installed")
            continue
        try:
            p = clock(f"{name}: one fit", lambda run=run: run(x, y))
            print(f"    objective {objective(*p, x, y):.11g}")
        except Exception as error:  # another package's failure is a line of this table
            print(f"  {name} failed: {type(error).__name__}: {error}")


def _vpnls(x: dict[str, Any], y: Any) -> tuple[float, ...]:
    api = importlib.import_module("vpnls.api")
    typical = float(np.exp(np.mean(np.log(y))))  # its residuals are of the loss, not of its logarithm
    found = api.fit_vpnls(x["N"], x["D"], y, method="scipy", loss=api.huber(1e-3 * typical))
    return found.E, found.A, found.B, found.alpha, found.beta


def _chinchilla(x: dict[str, Any], y: Any) -> tuple[float, ...]:
    import pandas as pd

    chinchilla = importlib.import_module("chinchilla")
    log_huber = importlib.import_module("chinchilla._metrics").log_huber
    grid = {"e": (0.0, 0.5, 1.0), "a": (2.0, 6.0, 10.0), "b": (2.0, 6.0, 10.0),
            "alpha": (0.2, 0.4, 0.8), "beta": (0.2, 0.4, 0.8)}  # fmt: skip
    print(f"    (chinchilla: from {3**5} starts)")
    with tempfile.TemporaryDirectory() as folder:
        table = pd.DataFrame({"C": 6 * x["N"] * x["D"], "N": x["N"], "D": x["D"], "loss": y})
        table.to_csv(Path(folder) / "df.csv", index=False)
        loss = functools.partial(log_huber, delta=1e-3)
        model = chinchilla.Chinchilla(folder, param_grid=grid, loss_fn=loss, log_level=50)
        model.fit(parallel=False)
    return model.E, model.A, model.B, model.alpha, model.beta


def main() -> int:
    print(f"numpy {np.__version__}, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}")
    x, y = published()
    print(f"{len(y)} observations")
    ours(x, y, None, (1000, 4000))
    rivals(x, y)
    x, y = simulated(10_000)
    print("10,000 observations of 2,500 runs")
    ours(x, y, np.arange(10_000) // 4, (1000, 4000))
    return 0


if __name__ == "__main__":
    sys.exit(main())
