"""Every figure of a results document: `CHARTS` describes each, `FIGURES` draws each on a given figure."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from scaling.analysis.figures import (
    allocation,
    cooldowns,
    fits,
    frontiers,
    health,
    held_out,
    isoflop,
    judgement,
    measured,
    price,
    registered,
    surface,
    training,
)
from scaling.analysis.figures.chart import Absent, Chart
from scaling.analysis.schema.document import Results
from scaling.registry import choose

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

# The figures in the order of a reader's questions.
CHARTS: dict[str, Callable[[Results], Chart | Absent]] = {
    "isoflop": isoflop.curves,
    "estimators": isoflop.estimators,
    "allocation": allocation.allocation,
    "exponents": allocation.exponents,
    "held_out": held_out.predicted,
    "kaplan": frontiers.kaplan,
    "surface": surface.contours,
    "loss_laws": surface.loss_laws,
    "predicted": measured.predicted,
    "residuals": fits.residuals,
    "parameters": fits.pairs,
    "rollout": judgement.rollout,
    "choices": judgement.choices,
    "influence": judgement.influence,
    "registered": registered.grades,
    "prices": price.prices,
    "serving": price.serving,
    "envelope": training.envelope,
    "training_curves": training.curves,
    "cooldowns": cooldowns.cooldowns,
    "collapse": health.collapse,
    "noise_scale": health.noise_scale,
    "seed_noise": health.seed_noise,
}


def draw(name: str, results: Results, on: "FigureBase | Axes", panel: int = 0) -> None:
    """Draw a figure by name, or the reason why the results cannot fill it.

    An empty figure or subfigure receives all panels. Axes of one's own receive one panel, counted from 0, in the
    style that is set there. ValueError for an unknown name, and for a panel that the figure does not have.
    """
    from matplotlib.axes import Axes

    from scaling.analysis.figures import paper

    found = choose("figure", CHARTS, name)(results)
    if isinstance(found, Absent):
        paper.empty(found.title, found.why, on)
    elif isinstance(on, Axes):
        panels = [one for one in found.panels if one is not None]
        if not 0 <= panel < len(panels):
            raise ValueError(f"the figure {name!r} has no panel {panel}: choose from 0 to {len(panels) - 1}")
        paper.draw_panel(found, panels[panel], on)
    else:
        paper.draw(found, on)


FIGURES: dict[str, Callable[[Results, "FigureBase | Axes"], None]] = {name: partial(draw, name) for name in CHARTS}
