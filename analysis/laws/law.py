"""The base of every scaling law: declared parameters with units and one formula, from which the rest is derived.

A law's formula is written once, in the paper's symbols, over floats, arrays, jets or recorded expressions (see
`javascript`). Each parameter declares how its unit depends on the units of the loss ("L") and of the variables, so
the fitter can work in scaled coordinates and undo the scaling exactly. Legend: R resamples, n points, p parameters.
"""

import copy
import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from scaling.analysis.laws import jet
from scaling.analysis.laws.cost import FLOPS_PER_PARAM_TOKEN as FLOPS_PER_PARAM_TOKEN
from scaling.analysis.laws.cost import Cost
from scaling.analysis.laws.jet import Array, Jet, Number

Unit = Callable[[Mapping[str, Number]], Mapping[str, Number]]
SIX_N_D = Cost()
REACH = 10.0  # factor beyond the tokens per parameter tried within which an optimum is searched
NEWTON_STEPS = 40  # towards an optimum, more than one takes
LOG_TOKENS = (-30.0, 100.0)  # range of log tokens in which the tokens for a loss are sought


@dataclass(frozen=True)
class Parameter:
    """One parameter as the fitter sees it: bounds and coarse grid of its internal coordinate, its unit and its kind.

    kind: "plain" (the coordinate is the scaled parameter), "log" (its logarithm), "place" (a value of the
    variable `along`, as a fraction of the data's half range in log), "log_place" (the log of such a value), "rate"
    (log, per half range of `along`). linear: the law is linear in this parameter, whose start is solved for.
    limits, multiplicative: the range of its raw value, and whether that value varies by factors rather than by
    differences.
    """

    low: float = -np.inf
    high: float = np.inf
    grid: tuple[float, ...] = ()
    unit: Unit = lambda _: {}
    kind: str = "plain"
    along: str = ""
    linear: bool = False
    limits: tuple[float, float] = (-np.inf, np.inf)
    multiplicative: bool = False


@dataclass(frozen=True)
class Units:
    """The fitter's units: a typical value of each variable, its log half range, and the typical loss."""

    centre: Mapping[str, float]
    half_range: Mapping[str, float]
    loss: float


@dataclass(frozen=True)
class Optimum:
    """Compute-optimal parameters N, tokens D and the loss there, each of the budget's shape."""

    N: Any
    D: Any
    loss: Any


def level(**options: Any) -> Any:
    """Declare a parameter in units of the loss, non-negative and linear by default."""
    common = {"low": 0.0, "linear": True, "unit": lambda _: {"L": 1.0}, "limits": (0.0, np.inf)}
    return _declare(common | options)


def amplitude(unit: Unit, **options: Any) -> Any:
    """Declare a non-negative factor with the given unit, linear by default."""
    common = {"low": 0.0, "linear": True, "unit": unit, "limits": (0.0, np.inf), "multiplicative": True}
    return _declare(common | options)


def exponent(**options: Any) -> Any:
    """Declare a dimensionless exponent, in [0, 5] by default."""
    common = {"low": 0.0, "high": 5.0, "grid": (0.05, 0.1, 0.2, 0.3, 0.42, 0.6, 0.9, 1.5)} | options
    return _declare({"limits": (common["low"], common["high"])} | common)


def positive(kind: str, **options: Any) -> Any:
    """Declare a positive parameter whose coordinate is its logarithm, a place or a rate (see `Parameter`)."""
    return _declare({"kind": kind, "limits": (0.0, np.inf), "multiplicative": True} | options)


def number(**options: Any) -> Any:
    """Declare a parameter of either sign."""
    return _declare(options)


def _declare(options: Mapping[str, Any]) -> Any:
    return dataclasses.field(metadata={"parameter": Parameter(**options)})


@dataclass(frozen=True)
class Law:
    """A scaling law with its parameters' values; a subclass declares parameters and `formula`.

    Values may be floats (a fitted law) or arrays of shape (R, 1) (the law of R resamples at once).
    """

    name: ClassVar[str]
    variables: ClassVar[tuple[str, ...]]
    equation: ClassVar[str]
    source: ClassVar[str]
    example: ClassVar[Mapping[str, float]]  # published or illustrative values, in the units of `domain`
    domain: ClassVar[Mapping[str, tuple[float, float]]]  # a typical range of each variable
    predicts: ClassVar[str] = "loss"
    output: ClassVar[str] = ""  # column of the measured values, where that is not the loss
    unscaled: ClassVar[tuple[str, ...]] = ()  # variables (or "L") whose unit the form cannot absorb
    same_unit: ClassVar[Mapping[str, str]] = {}  # variable -> the variable whose unit it shares
    any_sign: ClassVar[tuple[str, ...]] = ()  # variables that may be zero or negative
    held: ClassVar[Mapping[str, float]] = {}  # parameters that a fit does not move, with their raw values
    raw_bounds: ClassVar[Mapping[str, tuple[float, float]]] = {}  # parameters whose coordinate is the way between these
    declared_anew: ClassVar[Mapping[str, Parameter]] = {}  # declarations in place of the law's own
    cost: ClassVar[Cost] = SIX_N_D  # cost of a run where `optimum` is given none; `under` sets the one of a law
    tried: ClassVar[tuple[float, float] | None] = None  # tokens per parameter of the runs fitted; `tried_at` sets it

    variable: str = dataclasses.field(default="", kw_only=True)  # the data's name for the x of a law of one variable

    def formula(self, *args: Any, **x: Any) -> Any:
        """Return the law's value for the named variables, in the number type of the parameters."""
        raise NotImplementedError

    @classmethod
    @functools.cache
    def declared(cls) -> dict[str, Parameter]:
        """Return the declared parameters by name, in order."""
        found = {f.name: f.metadata.get("parameter") for f in dataclasses.fields(cls)}
        return {name: cls.declared_anew.get(name, p) for name, p in found.items() if p is not None}

    @classmethod
    def unpack(cls, q: Mapping[str, Number], units: Units, /) -> dict[str, Number]:
        """Return the scaled parameters for internal coordinates q."""
        return {name: _from_coordinate(p, q[name], units) for name, p in cls.declared().items()}

    @classmethod
    def free(cls) -> tuple[str, ...]:
        """Return the names of the parameters that a fit determines: all that are not held."""
        return tuple(name for name in cls.declared() if name not in cls.held)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The variables' names in calls: x of a law of one variable under the data's name."""
        return (self.variable,) if self.variable else self.variables

    @property
    def params(self) -> dict[str, float]:
        """The parameters by the paper's symbols, in the units of the data."""
        return {name: getattr(self, name) for name in self.declared()}

    @property
    def derived(self) -> dict[str, float]:
        """Quantities that follow from the parameters, by the paper's symbols."""
        return {}

    def __call__(self, **x: ArrayLike) -> Any:
        """Return the predicted loss at x, broadcasting; ValueError names a missing or unknown variable."""
        arrays = self._bind(x)
        with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
            return self.formula(**arrays)

    def gradient(self, **x: ArrayLike) -> Array:
        """Return d loss / d parameter at n points, (n, p), exactly, in the order of `params`."""
        arrays = self._bind(x)
        values: dict[str, Any] = {n: jet.variable(i, v) for i, (n, v) in enumerate(self.params.items())}
        result = dataclasses.replace(self, **values).formula(**arrays)
        shape = np.broadcast_shapes(*(a.shape for a in arrays.values())) or (1,)
        columns = [np.broadcast_to(result.first.get(i, 0.0), shape).ravel() for i in range(len(values))]
        return np.stack(columns, axis=1)

    @property
    def rival_terms(self) -> tuple[Any, Any, Any, Any] | None:
        """A, alpha, B, beta of a sum A N^-alpha + B D^-beta with the law's optimum; None without such a sum."""
        return None

    def under(self, cost: Cost) -> Self:
        """Return the same law with an optimum under this cost, such as the cost of the runs that it was fitted to."""
        law = copy.copy(self)
        object.__setattr__(law, "cost", cost)
        return law

    def tried_at(self, tokens_per_param: tuple[float, float] | None) -> Self:
        """Return the same law with an optimum near the least and most tokens per parameter of the runs fitted.

        The search reaches REACH times beyond both. A closed form has no such bounds.
        """
        law = copy.copy(self)
        object.__setattr__(law, "tried", tokens_per_param)
        return law

    def optimum(self, C: ArrayLike, cost: Cost | None = None, **held: ArrayLike) -> Optimum:
        """Return N, D that minimise the loss where training costs C = cost.flops(N, D), other variables held.

        The cost is the law's own where none is given: C = 6 N D, or the cost that `under` gave it.
        The method is the closed form of `rival_terms` (its condition solved by Newton steps where the cost is no power
        of N), else the lowest dip of a scan of log N near the tokens per
        parameter `tried`, refined by golden section and Newton steps. Entries are nan or a limit (0, inf) where a
        resample has no interior minimum; ValueError when a single law has none, and when the law does not predict a
        loss from N and D.
        """
        if self.predicts != "loss" or not {"N", "D"} <= set(self.variables):
            raise ValueError(
                f"the law {self.name!r} predicts {self.predicts} from {', '.join(self.inputs)} and has no "
                "compute optimum: that takes a law of the loss in N and D"
            )
        cost = self.cost if cost is None else cost
        budget = np.asarray(C, dtype=float)
        if not (budget > 0).all():
            raise ValueError(f"compute must be positive FLOPs, got {C!r}")
        extra = self._held(held)
        with np.errstate(all="ignore"):
            terms = self.rival_terms
            log_N = (
                _rival_optimum(*terms, budget, cost)
                if terms
                else _minimise_on_line(
                    lambda z: self.formula(N=jet.exp(z), D=cost.tokens(budget, jet.exp(z)), **extra),
                    *self._search(np.log(budget), cost),
                )
            )
            N = np.exp(log_N)
            D = cost.tokens(budget, N)
            loss = self.formula(N=N, D=D, **extra)
        interior = np.isfinite(log_N) & (N > 0) & (D > 0)
        if not interior.any():
            raise ValueError(self._no_optimum(C, *self._search(np.log(budget), cost)))
        return Optimum(N, D, loss)

    def _search(self, log_budget: Array, cost: Cost) -> tuple[Array, Array]:
        """Log N between which an optimum is looked for: near the tokens per parameter tried, else all there are."""
        lowest, highest = np.zeros_like(log_budget), cost.log_params(log_budget)
        if self.tried is None:
            return lowest, highest
        ratios = np.log(self.tried[1] * REACH), np.log(self.tried[0] / REACH)
        least, most = (np.clip(cost.log_params(log_budget - ratio, 1.0), lowest, highest) for ratio in ratios)
        return least, most

    def _no_optimum(self, C: ArrayLike, low: Array, high: Array) -> str:
        if self.tried is None or self.rival_terms:
            return f"no interior compute optimum at C = {C!r}, a term is flat or absent: {self}"
        sizes = f"N from {np.exp(low.min()):.3g} to {np.exp(high.max()):.3g}"
        budgets = " to ".join(dict.fromkeys(f"{end:.3g}" for end in (np.min(C), np.max(C))))
        return (
            f"the law {self.name!r} has no optimum at C = {budgets} FLOPs with {sizes}, {REACH:g} times beyond the "
            f"{self.tried[0]:.3g} to {self.tried[1]:.3g} tokens per parameter tried; no run shows the law elsewhere"
        )

    def log_tokens(self, loss: ArrayLike, N: ArrayLike) -> Array:
        """Return the log of the tokens with which N parameters reach a loss, broadcasting; inf where no tokens do.

        The method is bisection to the last bit, for laws of N and D alone that fall with D.
        """
        with np.errstate(all="ignore"):
            one = np.ones(())
            shape = np.broadcast_shapes(np.shape(loss), np.shape(N), np.shape(self.formula(N=one, D=one)))
            low, high = (np.full(shape, end) for end in LOG_TOKENS)
            reached = self.formula(N=N, D=np.exp(high)) <= loss
            for _ in range(60):
                middle = 0.5 * (low + high)
                enough = self.formula(N=N, D=np.exp(middle)) <= loss
                low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        return np.where(reached, high, np.inf)

    def _held(self, held: Mapping[str, ArrayLike]) -> dict[str, Array]:
        wanted = set(self.variables) - {"N", "D"}
        if wanted != set(held):
            need = f"needs {', '.join(sorted(wanted))} held" if wanted else "takes no other variables"
            raise ValueError(f"the optimum of {self.name!r} {need}; got {', '.join(sorted(held)) or 'none'}")
        return {name: np.asarray(value, dtype=float) for name, value in held.items()}

    def _bind(self, x: Mapping[str, ArrayLike]) -> dict[str, Array]:
        if set(x) != set(self.inputs):
            raise ValueError(
                f"the law {self.name!r} takes {', '.join(self.inputs)}; got {', '.join(sorted(x)) or 'nothing'}"
            )
        return {own: np.asarray(x[given], dtype=float) for own, given in zip(self.variables, self.inputs, strict=True)}

    def __str__(self) -> str:
        values = ", ".join(f"{name} = {value:.6g}" for name, value in self.params.items())
        return f"{self.name}: {self.equation}; {values}"


def factor(unit: Mapping[str, Number], units: Units) -> Number:
    """Return the size of a parameter's unit: each variable's centre to the power the unit declares."""
    log_size: Number = 0.0
    for of, power in unit.items():
        log_size = log_size + np.log(units.loss if of == "L" else units.centre[of]) * power
    return jet.exp(log_size)


def build(cls: type[Law], params: Mapping[str, Any], variable: str = "") -> Law:
    """Return the law with these parameters; `variable` renames x in a law of one variable."""
    return cls(**params, variable=variable if variable != (cls.variables[0]) else "")


def from_columns(cls: type[Law], values: Array, variable: str = "") -> Law:
    """Return the law of R resamples at once, from values of shape (R, p)."""
    return build(cls, {name: values[:, [k]] for k, name in enumerate(cls.declared())}, variable)


def _from_coordinate(p: Parameter, q: Number, units: Units) -> Number:
    if p.kind == "plain":
        return q
    if p.kind == "log":
        return jet.exp(q)
    if p.kind == "log_place":
        return q * units.half_range[p.along] + float(np.log(units.centre[p.along]))
    if p.kind == "place":
        return jet.exp(q * units.half_range[p.along])
    assert p.kind == "rate", p.kind
    return jet.exp(q) * (1.0 / units.half_range[p.along])


def _rival_optimum(A: Any, alpha: Any, B: Any, beta: Any, budget: Array, cost: Cost) -> Any:
    """Return log N minimising A N^-alpha + B D^-beta at the budget's FLOPs, where the slopes of the terms cancel.

    Source: Hoffmann et al. 2022, eq. 4, for 6 N D.
    """
    factor, gamma = (cost.limit, 1.0) if cost.limit else (cost.k, cost.gamma)
    total = alpha + gamma * beta
    log_G = (np.log(alpha * A) - np.log(gamma * beta * B)) / total
    log_N = log_G + beta / total * np.log(budget / factor)
    if not cost.limit:
        return log_N
    closed, balance = log_N, np.log(alpha * A) - np.log(beta * B) + beta * np.log(budget)
    for _ in range(NEWTON_STEPS):
        N = jet.exp(jet.variable(0, log_N))
        at = balance - alpha * jet.log(N) - jet.log(cost.slope(N)) - beta * jet.log(cost.rate(N))
        step = at.value / at.first[0]
        log_N = log_N - step
        if jet.settled(step, log_N):
            break
    return np.where(np.isfinite(closed), log_N, closed)


def _minimise_on_line(loss: Callable[[Number], Number], log_least: Array, log_most: Array) -> Array:
    """Return log N, between log_least and log_most, of the lowest dip of the loss."""

    def plain(log_N: Array) -> Array:
        with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
            result = np.asarray(loss(log_N))
        return np.where(np.isfinite(result), result, np.inf)

    # The lowest dip counts, not the lowest value: some forms fall again towards an edge, far outside their data.
    fractions = np.linspace(0.0, 1.0, 129)
    width = log_most - log_least
    scan = np.stack([plain(log_least + f * width) for f in fractions])
    dips = (scan[1:-1] < scan[:-2]) & (scan[1:-1] <= scan[2:])
    best = 1 + np.argmin(np.where(dips, scan[1:-1], np.inf), axis=0)
    inside = dips.any(axis=0)
    low, high = log_least + fractions[best - 1] * width, log_least + fractions[best + 1] * width
    ratio = (np.sqrt(5.0) - 1.0) / 2.0
    for _ in range(40):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        lower = plain(left) < plain(right)
        low, high = np.where(lower, low, left), np.where(lower, right, high)
    middle = 0.5 * (low + high)
    for _ in range(3):
        at = loss(jet.variable(0, middle))
        assert isinstance(at, Jet)
        slope, bend = np.asarray(at.first[0]), np.asarray(at.second[0, 0])
        step = np.where(bend > 0, slope / np.where(bend > 0, bend, 1.0), 0.0)
        middle = middle - np.clip(step, low - high, high - low)
    return np.where(inside, middle, np.nan)
