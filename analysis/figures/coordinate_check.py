"""The coordinate check drawn: sizes and changes as a model grows, each against its value in the base model."""

from collections.abc import Sequence

import numpy as np

from scaling.analysis.figures.chart import CATEGORY_COLORS, Array, Axis, Chart, Line, Mark, Panel, Points, Rule, marker
from scaling.analysis.studies.coordinate_check import Sample

QUANTITIES = ("embedding", "attention", "mlp", "stream", "scores", "logits", "weights")
PARTS = {"size": "initial RMS", "change": "RMS of change"}


def coordinate_check(samples: Sequence[Sample], steps: int) -> Chart:
    """Panels: axes and parametrizations side by side, sizes above, changes below; flat lines transfer."""
    columns = sorted({(s.axis, s.parametrization): None for s in samples}, key=lambda column: column[0] != "width")
    parts = list(dict.fromkeys(s.part for s in samples))
    panels = []
    for part in parts:
        for axis, kind in columns:
            here = [s for s in samples if (s.axis, s.parametrization, s.part) == (axis, kind, part)]
            factors = sorted({s.factor for s in here})
            words = f"× {axis}" if part == parts[-1] else ""
            x = Axis(words, limits=(-0.3, len(factors) - 0.7), names=tuple(f"{factor:g}" for factor in factors))
            label = f"{PARTS[part]} / base's" if (axis, kind) == columns[0] else ""
            y = Axis(label, log=True, limits=_limits(samples, part))
            panels.append(Panel(x, y, _marks(here, len(factors)), f"{axis}: {kind}" if part == parts[0] else ""))
    return Chart(
        title="Coordinate check",
        caption=f"Root mean squares in models of growing width and depth, and their change by {steps} training steps, "
        f"as a share of the base model's; geometric means over seeds. A learning rate can transfer where changes are "
        f"flat.",
        panels=tuple(panels),
        columns=len(columns),
        height=4.6,
    )


def _marks(samples: Sequence[Sample], count: int) -> tuple[Mark, ...]:
    marks: list[Mark] = [Rule(1.0, dash="dot")]
    for k, quantity in enumerate(QUANTITIES):
        y = _relative([s for s in samples if s.quantity == quantity])
        if len(y):
            x = np.arange(float(count))
            marks.append(Line(x, y, CATEGORY_COLORS[k], width=1.1))
            marks.append(Points(x, y, CATEGORY_COLORS[k], marker(k), 3.5, label=quantity))
    return tuple(marks)


def _relative(samples: Sequence[Sample]) -> Array:
    """Geometric means at each factor, ascending, over that at the least."""
    factors = sorted({s.factor for s in samples})
    means = np.array([np.mean([np.log(s.value) for s in samples if s.factor == factor]) for factor in factors])
    relative: Array = np.exp(means - means[:1])
    return relative


def _limits(samples: Sequence[Sample], part: str) -> tuple[float, float]:
    keys = {(s.parametrization, s.axis, s.quantity) for s in samples if s.part == part}
    shown = [
        _relative([s for s in samples if s.part == part and (s.parametrization, s.axis, s.quantity) == key])
        for key in keys
    ]
    values = np.concatenate(shown)
    return float(np.nanmin(values)) / 1.3, float(np.nanmax(values)) * 1.3
