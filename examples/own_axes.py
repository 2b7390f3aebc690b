"""Two figures of a study beside a plot of one's own, on one matplotlib figure: cells of a notebook.

python examples/own_axes.py [results.json]
"""

# %% A results document: everything that the report shows, as `scaling fit` wrote it. Here one is made for the purpose.
import sys
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from scaling.analysis.figures import CHARTS, draw
from scaling.analysis.laws import LAWS
from scaling.analysis.results.document import analyse, read
from scaling.analysis.runs.observations import load

if len(sys.argv) > 1:
    results = read(sys.argv[1])
else:
    law = LAWS["chinchilla"](**LAWS["chinchilla"].example)
    budgets, factors = np.geomspace(1e18, 1e20, 4), np.geomspace(0.2, 5, 7)
    params = np.concatenate([law.optimum(C=flops).N * factors for flops in budgets])
    tokens = np.repeat(budgets, len(factors)) / (6 * params)
    loss = law(N=params, D=tokens) * np.exp(np.random.default_rng(0).normal(0, 0.002, len(params)))
    rows = [f"{N:.0f},{D:.0f},{L:.5f}" for N, D, L in zip(params, tokens, loss, strict=True)]
    Path("simulated_axes.csv").write_text("\n".join(["params,tokens,loss", *rows]))
    results = analyse(load("simulated_axes.csv"), bootstrap=0)
print("figures:", ", ".join(CHARTS))

# %% The figures draw on whatever figure or subfigure they are given, and use none of pyplot's state.
figure = Figure(figsize=(16, 4.5), dpi=100, layout="constrained")
FigureCanvasAgg(figure)  # in a notebook: figure = plt.figure(figsize=(16, 4.5), layout="constrained")
left, middle, right = figure.subfigures(1, 3)
draw("isoflop", results, left)
draw("surface", results, middle)

# %% One's own axes stand beside them, and every number comes from the same document.
axes = right.add_subplot()
fit = results["fits"][0]
axes.hist(100 * np.array(fit["residuals"]), bins=12)
axes.set_xlabel("log measured − log predicted loss, %")
axes.set_ylabel("runs")
axes.set_title(f"{fit['name']}: α = {fit['params']['alpha']:.3f}, β = {fit['params']['beta']:.3f}")

# %%
figure.savefig("own_axes.png")
print("figure: own_axes.png")
