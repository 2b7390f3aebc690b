"""Every figure of a results document: `CHARTS` describes each, `FIGURES` draws each on a given figure."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from analysis.figures import allocation, fits, health, isoflop, judgement, price, surface, training
from analysis.figures.chart import Absent, Chart
from analysis.schema.document import Results
from scaling.registry import choose

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

# The figures in the order of a reader's questions.
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
    """Draw a figure by name on an empty figure or subfigure, or the reason why the results cannot fill it."""
    from analysis.figures import paper

    found = choose("figure", CHARTS, name)(results)
    if isinstance(found, Absent):
        paper.empty(found.title, found.why, figure)
    else:
        paper.draw(found, figure)


FIGURES: dict[str, Callable[[Results, "FigureBase"], None]] = {name: partial(draw, name) for name in CHARTS}
