"""A table of runs, from wherever it comes: to an answer with its interval, and to a figure.

python examples/own_csv.py [runs.csv]
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from scaling.analysis.figures import draw
from scaling.analysis.judgement.forecast import describe, predict
from scaling.analysis.laws import LAWS
from scaling.analysis.results.document import analyse, summary
from scaling.analysis.runs.observations import load


def write_runs(path: Path) -> None:
    """Write a table of 45 runs simulated from the Chinchilla law, in the columns that every table needs."""
    law = LAWS["chinchilla"](**LAWS["chinchilla"].example)
    random = np.random.default_rng(0)
    lines = ["params,tokens,loss"]
    for flops in np.geomspace(1e18, 1e20, 5):  # five budgets, nine sizes about the optimum of each
        for params in law.optimum(C=flops).N * np.geomspace(0.2, 5, 9):
            tokens = flops / (6 * params)
            loss = law(N=params, D=tokens) * np.exp(random.normal(0, 0.001))
            lines.append(f"{params:.0f},{tokens:.0f},{loss:.5f}")
    path.write_text("\n".join(lines) + "\n")


def main(table: Path) -> None:
    # 1. The table, checked: columns are found by their usual names, and rows that cannot be right are left out by name.
    observations = load(table)

    # 2. Every number that the report shows, as plain JSON values. More resamples than 50 give smoother intervals.
    results = analyse(observations, laws=["chinchilla"], bootstrap=50)
    print(summary(results))

    # 3. The answer: what ten times the largest compute of the table should buy.
    flops = 10 * results["range"]["flops"][1]
    print(f"\nat {flops:.3g} FLOPs: {describe(predict(results, flops=flops))}")

    # 4. A figure of the report, on a figure of one's own.
    figure = Figure(figsize=(6.5, 4.5), dpi=150)
    FigureCanvasAgg(figure)
    draw("surface", results, figure)
    figure.savefig("own_csv.png")
    print("figure: own_csv.png")


if __name__ == "__main__":
    given = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("simulated.csv")
    if len(sys.argv) < 2:
        write_runs(given)
    main(given)
