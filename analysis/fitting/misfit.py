"""The misfit of a law to observations, with exact derivatives, for many parameter sets at once.

Scaled coordinates: each variable is divided by its geometric centre or its least value, the loss by its geometric mean;
parameters follow by the units that the law declares. The answer is unscaled exactly, so no unit changes it.
Legend: R rows (starts or resamples), n observations, p parameters.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from scaling.analysis.fitting.newton import Local
from scaling.analysis.laws import jet
from scaling.analysis.laws.jet import Array, Number
from scaling.analysis.laws.law import Law, Units, build, factor
from scaling.analysis.schema.fits import LossName, LossScale

CHUNK = 16_384  # numbers per array in flight: the dozens of arrays of one evaluation then stay in the cache
SMOOTHINGS = (0.03, 0.006)  # Huber widths on the way from least squares to the width asked, relative loss
ROUNDED = 2e-5  # width at which the kink of an absolute loss is rounded in the batched search, relative loss
NEGLIGIBLE = 1e-6  # relative residual below which orthogonality to the residuals is judged against this size instead

Origin = Literal["middle", "least"]  # value of a variable that is its unit: the geometric mean, or the least
Weights = Callable[[NDArray[np.intp]], Array]  # row numbers (r,) -> weights, shape (r, n) or (n,)


@dataclass(frozen=True)
class Loss:
    """The penalty of a residual; the objective is always the weighted sum, never the mean.

    huber: r^2/2 inside |r| <= delta, delta (|r| - delta/2) outside. mse: r^2. mae: |r|. asymmetric: |r|,
    times `tilt` where the observation lies below the law. on: residuals of the log loss, or of the loss
    itself ("linear").
    """

    name: LossName = "huber"
    delta: float = 1e-3
    on: LossScale = "log"
    tilt: float = 10.0

    def __post_init__(self) -> None:
        for what, given, choices in (
            ("loss", self.name, get_args(LossName)),
            ("residual", self.on, get_args(LossScale)),
        ):
            if given not in choices:
                raise ValueError(f"unknown {what} {given!r}; choose from {', '.join(choices)}")
        for what, size in (("delta", self.delta), ("tilt", self.tilt)):
            if not (np.isfinite(size) and size > 0):
                raise ValueError(f"{what} must be a positive number, got {size}")

    def __call__(self, residual: Array) -> Array:
        """Return the penalty of each residual, observed minus predicted."""
        size = np.abs(residual)
        if self.name == "mse":
            return residual**2
        if self.name == "huber":
            return np.where(size <= self.delta, 0.5 * residual**2, self.delta * (size - 0.5 * self.delta))
        return size * self._side(residual)

    def _side(self, residual: Array) -> Array | float:
        return np.where(residual < 0, self.tilt, 1.0) if self.name == "asymmetric" else 1.0

    def smooth(self, residual: Array, width: Array, reach: Array | None = None) -> tuple[Array, Array, Array]:
        """Return the penalty smoothed to `width`, and its first and second derivative by the residual.

        With a `reach` beyond the width, residuals within reach keep the inner, quadratic piece.
        """
        if self.name == "mse":
            return residual**2, 2.0 * residual, np.full_like(residual, 2.0)
        size = np.abs(residual)
        inside = size <= (width if reach is None else reach)
        slope, bend = np.where(inside, residual, np.copysign(width, residual)), inside.astype(float)
        penalty = np.where(inside, 0.5 * residual * residual, width * (size - 0.5 * width))
        if self.name != "huber":
            side = self._side(residual) / width
            penalty, slope, bend = penalty * side, slope * side, bend * side
        return penalty, slope, bend

    def widths(self, unit: float) -> Array:
        """Return the falling smoothing widths, in units of `unit`: the last is this loss, or near it."""
        if self.name == "mse":
            return np.zeros(1)
        if self.name == "huber":
            end = self.delta / unit
            return np.array([*(w for w in SMOOTHINGS if w > 1.5 * end), end])
        return np.array([*SMOOTHINGS, *np.geomspace(1e-3, ROUNDED, 4)])

    @property
    def has_knees(self) -> bool:
        """Whether the penalty turns from quadratic to linear at a knee on either side of zero."""
        return self.name == "huber"

    @property
    def has_kink(self) -> bool:
        """Whether the penalty has a kink at zero, so that the search needs an exact end."""
        return self.name in ("mae", "asymmetric")


@dataclass(frozen=True)
class Problem:
    """One law against one table of observations, ready to be minimised over internal coordinates q (R, p)."""

    law: type[Law]
    x: Mapping[str, Array]  # scaled, by the law's own variable names
    y: Array  # scaled loss
    loss: Loss
    units: Units
    weights: Weights
    fixed: Mapping[str, Array] = field(default_factory=dict)  # name -> raw values (R,) or (1,), held there
    origin: Origin = "middle"

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters, in the order of the coordinates."""
        return tuple(self.law.declared())

    @property
    def unit(self) -> float:
        """The size of one scaled residual in the caller's units."""
        return self.units.loss if self.loss.on == "linear" and "L" not in self.law.unscaled else 1.0

    @property
    def objective_unit(self) -> float:
        """The size of one unit of the scaled objective in the caller's units."""
        return self.unit**2 if self.loss.name in ("huber", "mse") else self.unit

    @property
    def bounds(self) -> tuple[Array, Array]:
        """Lower and upper bounds of the internal coordinates, shape (p,) each."""
        declared = self.law.declared().values()
        return np.array([d.low for d in declared]), np.array([d.high for d in declared])

    @property
    def frozen(self) -> NDArray[np.bool_]:
        """Coordinates that do not move because their parameter is held at a value, shape (p,)."""
        return np.array([name in self.fixed for name in self.names])

    def scaled_params(self, q: Mapping[str, Number], rows: NDArray[np.intp]) -> dict[str, Number]:
        """Return the parameters of the scaled law for coordinates q."""
        params = self.law.unpack(q, self.units)
        declared = self.law.declared()
        given: dict[str, Number] = {name: way_between(*ends)(q[name]) for name, ends in self._raw_bounds.items()}
        given |= {name: self._held(name, rows) for name in self.fixed}
        params |= given  # before units are taken: units depend on exponents alone
        for name in given:
            params[name] = params[name] * jet.reciprocal(self._factor(declared[name].unit(params)))
        return params

    @property
    def _raw_bounds(self) -> dict[str, tuple[float, float]]:
        return {name: ends for name, ends in self.law.raw_bounds.items() if name not in self.fixed}

    def _held(self, name: str, rows: NDArray[np.intp]) -> Array:
        """The raw values of a held parameter, (r, 1) or (1, 1)."""
        values = self.fixed[name]
        return (values if len(values) == 1 else values[rows])[:, None]

    def raw(self, q: Mapping[str, Number], rows: NDArray[np.intp]) -> dict[str, Number]:
        """Return the parameters in the caller's units for coordinates q, in whatever number type they are."""
        scaled = self.scaled_params(q, rows)
        declared = self.law.declared()
        raw = {name: scaled[name] * self._factor(declared[name].unit(scaled)) for name in self.names}
        return raw | {name: self._held(name, rows) for name in self.fixed}

    def raw_params(self, q: Array) -> Array:
        """Return the parameters in the caller's units, shape (R, p), for coordinates q (R, p)."""
        columns: dict[str, Number] = {name: q[:, [k]] for k, name in enumerate(self.names)}
        with np.errstate(all="ignore"):  # a factor may overflow, and a zero times it is undefined
            raw = self.raw(columns, np.arange(len(q))).values()
        return np.concatenate([np.broadcast_to(np.asarray(r), (len(q), 1)) for r in raw], axis=1)

    def predict(self, q: Mapping[str, Number], rows: NDArray[np.intp]) -> Any:
        """Return the scaled law's value at the observations, (r, n), for coordinates with values (r, 1)."""
        return build(self.law, self.scaled_params(q, rows)).formula(**self.x)

    def residuals(self, value: Array) -> Array:
        """Return scaled residuals, observed minus predicted, for predicted values (r, n)."""
        return np.log(self.y / value) if self.loss.on == "log" else self.y - value

    def values(self, q: Array, width: float, rows: NDArray[np.intp] | None = None) -> Array:
        """Return the smoothed objective alone at q (R, p) of the rows named, shape (R,); inf where undefined."""
        named = np.arange(len(q)) if rows is None else rows
        result = np.empty(len(q))
        for part in self._chunks(len(q)):
            with np.errstate(all="ignore"):
                penalty = self._penalty(q[part], named[part], width)
                result[part] = np.sum(self.weights(named[part]) * penalty, axis=1)
        return np.where(np.isfinite(result), result, np.inf)

    def penalties(self, q: Array, width: float) -> Array:
        """Return the smoothed penalty of every observation, unweighted, (R, n); not finite where undefined."""
        result = np.empty((len(q), len(self.y)))
        for rows in self._chunks(len(q)):
            with np.errstate(all="ignore"):
                result[rows] = self._penalty(q[rows], rows, width)
        return result

    def _penalty(self, q: Array, rows: NDArray[np.intp], width: float) -> Array:
        value = self.predict({name: q[:, [k]] for k, name in enumerate(self.names)}, rows)
        return self.loss.smooth(self.residuals(value), np.array(width))[0]

    def __call__(self, q: Array, rows: NDArray[np.intp], width: Array, reach: Array) -> Local:
        """Return the objective with derivatives at q (r, p) of the rows named (see `Loss.smooth`)."""
        pieces = [self._local(q[part], rows[part], width[part], reach[part]) for part in self._chunks(len(q))]
        if len(pieces) == 1:
            return pieces[0]
        return Local(*(np.concatenate([getattr(p, f) for p in pieces]) for f in Local.__dataclass_fields__))

    def _local(self, q: Array, rows: NDArray[np.intp], width: Array, reach: Array) -> Local:
        with np.errstate(all="ignore"):
            predicted = self.predict({name: jet.variable(k, q[:, [k]]) for k, name in enumerate(self.names)}, rows)
            weights = self.weights(rows)
            penalty, slope, bend = self.loss.smooth(self.residuals(predicted.value), width[:, None], reach[:, None])
            value = np.sum(weights * penalty, axis=1)
            # by the law's value f: of log f where residuals are of the log loss, hence the division by f
            per = 1.0 / predicted.value if self.loss.on == "log" else np.ones_like(predicted.value)
            pull = -weights * slope
            stiff = weights * bend - (pull if self.loss.on == "log" else 0.0)
            tangent = np.empty((len(q), q.shape[1], len(self.y)))
            for k in range(q.shape[1]):
                tangent[:, k] = predicted.first.get(k, 0.0) * per
            gradient = (tangent @ pull[:, :, None])[:, :, 0]
            hessian = (tangent * stiff[:, None]) @ tangent.transpose(0, 2, 1)
            pull_per = pull * per
            for (j, k), second in predicted.second.items():
                extra = (second * pull_per).sum(axis=1)
                hessian[:, j, k] += extra
                if j != k:
                    hessian[:, k, j] += extra
            floor = self.loss.smooth(np.full((1, 1), NEGLIGIBLE), width[:, None])[1]
            score = np.sqrt(np.sum(weights * (slope**2 + floor**2), axis=1))
            size = np.sqrt(((tangent * tangent) @ np.broadcast_to(weights, per.shape)[:, :, None])[:, :, 0])
        sound = np.isfinite(value) & np.isfinite(hessian).all(axis=(1, 2)) & np.isfinite(size).all(axis=1)
        value = np.where(sound, value, np.inf)
        lost = ~sound
        gradient[lost], hessian[lost] = 0.0, 0.0
        return Local(value, gradient, hessian, np.where(lost[:, None], 1.0, size * score[:, None]))

    @property
    def row_weights(self) -> Array:
        """The weights of the observations where all rows share them, shape (n,)."""
        return self.weights(np.zeros(1, dtype=np.intp)).reshape(-1)

    def residual(self, q: Array) -> Array:
        """Return the scaled residuals at one q (p,), shape (n,)."""
        residual, _ = self.linearised(q[None], np.zeros(1, dtype=np.intp))
        return np.asarray(residual[0])

    def tangent(self, q: Array) -> Array:
        """Return d log loss (or d loss) / d coordinate at the observations for one q (p,), shape (p, n)."""
        _, tangent = self.linearised(q[None], np.zeros(1, dtype=np.intp))
        return np.asarray(tangent[0])

    def linearised(self, q: Array, rows: NDArray[np.intp]) -> tuple[Array, Array]:
        """Return the residuals (r, n) at q (r, p) of the rows named, and the fall of each by coordinate (r, p, n)."""
        with np.errstate(all="ignore"):
            predicted = self.predict({name: jet.variable(k, q[:, [k]]) for k, name in enumerate(self.names)}, rows)
            per = 1.0 / predicted.value if self.loss.on == "log" else 1.0
            shape = (len(q), len(self.y))
            slopes = [np.broadcast_to(predicted.first.get(k, 0.0) * per, shape) for k in range(q.shape[1])]
            return np.broadcast_to(self.residuals(predicted.value), shape), np.stack(slopes, axis=1)

    def with_weights(self, weights: Weights) -> "Problem":
        """Return the same problem under other weights."""
        return replace(self, weights=weights)

    def _factor(self, unit: Mapping[str, Number]) -> Number:
        kept = {of: power for of, power in unit.items() if of not in self.law.unscaled}
        return factor(kept, self.units)

    def _chunks(self, rows: int) -> list[NDArray[np.intp]]:
        step = max(1, CHUNK // len(self.y))
        return [np.arange(s, min(s + step, rows)) for s in range(0, rows, step)]


def way_between(low: float, high: float) -> Callable[[Number], Number]:
    """Return the raw value at a coordinate: low at 0 and high at 1; without an upper (or a lower) end, away from it.

    The way is by factors between positive ends, else by differences.
    """
    if low > 0:
        steps = np.log(high / low) if np.isfinite(high) else 1.0
        return lambda q: jet.exp(q * steps) * low
    if np.isfinite(low):
        size = high - low if np.isfinite(high) else max(abs(low), 1.0)
        return lambda q: q * size + low
    return lambda q: q * -max(abs(high), 1.0) + high


def pose(
    law: type[Law], x: Mapping[str, Array], y: Array, loss: Loss, weights: Array, origin: Origin = "middle"
) -> Problem:
    """Return the problem of fitting `law` to raw x (by the law's own names), y and weights, all (n,)."""
    share = weights / weights.sum()
    logs = {name: np.log(v) for name, v in x.items() if (v > 0).all()}
    middle = {name: float(np.exp(np.sum(share * v))) for name, v in logs.items()}
    centre = middle if origin == "middle" else {name: float(x[name].min()) for name in logs}
    spread = {name: float(max(np.ptp(v) / 2.0, 1e-3)) for name, v in logs.items()}
    for name in x.keys() - logs.keys():  # zero or negative somewhere: its size is that of its largest value
        centre[name], spread[name] = float(np.abs(x[name]).max()) or 1.0, 1.0
    typical = float(np.sum(share * np.abs(y))) or 1.0
    for own, other in law.same_unit.items():
        centre[own] = centre[other]
    scaled = {name: v / (1.0 if name in law.unscaled else centre[name]) for name, v in x.items()}
    whole = weights.copy()
    return Problem(
        law,
        scaled,
        y / (1.0 if "L" in law.unscaled else typical),
        loss,
        Units(centre, spread, typical),
        lambda _: whole,
        {name: np.array([value]) for name, value in law.held.items()},
        origin,
    )
