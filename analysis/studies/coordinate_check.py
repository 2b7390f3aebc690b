"""Sizes of activations and of their changes as a model grows: slopes in logs against those of theory."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scaling.analysis.isoflop.power_law import power_law

TOLERANCE = 0.25  # of an exponent; at widths of tens to hundreds the limit is only neared
# The exponents that a right parametrization may have (Yang et al. 2022, appendix D.1); 0 where none is named. Initial
# scores and logits are sums of independent terms, divided by their number; the changes of scores by training lie
# between that and a constant. Initial weights fall as the root of their fan-in, by which they are multiplied here. An
# initial stream holds the embedding and a sum of independent sublayers, divided by their number.
EXPECTED: dict[tuple[str, str, str], tuple[float, float]] = {
    ("width", "size", "scores"): (-0.5, -0.5),
    ("width", "size", "logits"): (-0.5, -0.5),
    ("width", "change", "scores"): (-0.5, 0.0),
    ("width", "size", "weights"): (0.5, 0.5),
    ("depth", "size", "stream"): (-0.5, 0.0),
}


@dataclass(frozen=True)
class Sample:
    """One measured number: a root mean square of a quantity in a model grown by a factor."""

    parametrization: str
    axis: str  # "width" or "depth"
    part: str  # "size" at the start, "change" by a few steps
    quantity: str
    factor: float
    value: float


@dataclass(frozen=True)
class Slope:
    """The growth of a quantity: value ~ factor ** exponent, by least squares in logs over all samples."""

    parametrization: str
    axis: str
    part: str
    quantity: str
    exponent: float

    @property
    def expected(self) -> tuple[float, float]:
        return EXPECTED.get((self.axis, self.part, self.quantity), (0.0, 0.0))

    @property
    def verdict(self) -> str:
        """`ok`, or the way in which the exponent leaves the expected range; one that is not finite has left upwards."""
        low, high = self.expected
        if not self.exponent < high + TOLERANCE:
            return "grows"
        return "ok" if self.exponent > low - TOLERANCE else "shrinks"


def slopes(samples: Sequence[Sample]) -> list[Slope]:
    """The exponent of every quantity, in order of first appearance; ValueError for fewer than two factors."""
    kept: dict[tuple[str, str, str, str], list[Sample]] = {}
    for sample in samples:
        kept.setdefault((sample.parametrization, sample.axis, sample.part, sample.quantity), []).append(sample)
    found = []
    for key, group in kept.items():
        factors, values = (np.array([getattr(s, name) for s in group], dtype=float) for name in ("factor", "value"))
        if len(set(factors)) < 2:
            raise ValueError(f"{key[1]} has only the factor {factors[0]:g}: a slope takes at least two, e.g. 1,4")
        exponent, _ = power_law(factors, values[:, None])
        finite = np.isfinite(values).all()
        found.append(Slope(*key, float(exponent[0]) if finite else float("nan")))
    return found


def table(found: Sequence[Slope]) -> list[tuple[str, ...]]:
    """Rows of words: axis, quantity, expected exponent, then exponent and verdict under each parametrization."""
    kinds = list(dict.fromkeys(slope.parametrization for slope in found))
    by_key = {(s.parametrization, s.axis, s.part, s.quantity): s for s in found}
    rows = []
    for axis, part, quantity in dict.fromkeys((s.axis, s.part, s.quantity) for s in found):
        cells = [by_key[kind, axis, part, quantity] for kind in kinds]
        low, high = cells[0].expected
        expected = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        rows.append((axis, f"{part} of {quantity}", expected, *(f"{s.exponent:+.2f} {s.verdict}" for s in cells)))
    return [("along", "what", "expected", *kinds), *rows]
