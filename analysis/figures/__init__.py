"""Every figure of a results document: `CHARTS` describes it, `FIGURES` draws it on a given figure."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from analysis.figures import allocation, fits, health, isoflop, judgement, price, surface, training
from analysis.figures.chart import Absent, Chart
from scaling.registry import choose

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

Results = Mapping[str, Any]

# In the order in which a reader asks.
CHARTS: dict[str, Callable[[Results], Chart | Absent]] = {
    "isoflop": isoflop.curves,
    "estimators": isoflop.estimators,
    "allocation": allocation.allocation,
    "exponents": allocation.exponents,
    "surface": surface.contours,
    "loss_laws": surface.loss_laws,
    "residuals": fits.residuals,
    "parameters": fits.pairs,
    "rollout": judgement.rollout,
    "choices": judgement.choices,
    "influence": judgement.influence,
    "prices": price.prices,
    "serving": price.serving,
    "envelope": training.envelope,
    "training_curves": training.curves,
    "collapse": health.collapse,
    "noise_scale": health.noise_scale,
    "seed_noise": health.seed_noise,
}


def draw(name: str, results: Results, figure: "FigureBase") -> None:
    """Draw a figure by name on an empty figure or subfigure; where the results cannot fill it, it says why."""
    from analysis.figures import paper

    found = choose("figure", CHARTS, name)(results)
    if isinstance(found, Absent):
        paper.empty(found.title, found.why, figure)
    else:
        paper.draw(found, figure)


FIGURES: dict[str, Callable[[Results, "FigureBase"], None]] = {name: partial(draw, name) for name in CHARTS}
