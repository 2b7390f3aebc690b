"""The units of a formula's parameters, found from the formula: every term of a sum has the unit of the whole.

A coefficient takes the unit that makes its term one of the loss; exponents and operands of exp and log have none. A
column, or the loss, that this leaves without a balance keeps its own unit in the fit (it is *unscaled*), as N in
log(N). Powers of units are functions of the parameters, since exponents are parameters.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from scaling.analysis.laws.expression import Node, value
from scaling.analysis.laws.jet import Number

Power = Callable[[Mapping[str, Number]], Number]  # of a unit, given the parameters
Unit = dict[str, Power]
LOSS = "L"
SAME = 1e-9  # difference of two powers, at probed parameters, that rounding explains
PROBES = (np.random.default_rng(0).uniform(0.3, 2.0, 400), np.random.default_rng(1).uniform(0.3, 2.0, 400))


class Clash(Exception):
    """Symbols whose units do not balance, so that their own unit must stay."""

    def __init__(self, symbols: Iterable[str]) -> None:
        """Name the symbols."""
        self.symbols = set(symbols)
        super().__init__(", ".join(sorted(self.symbols)))


@dataclass
class Dimensions:
    """The unit of every parameter, the symbols that keep their own, and columns that share another column's unit."""

    units: dict[str, Unit] = field(default_factory=dict)
    unscaled: set[str] = field(default_factory=set)
    same_unit: dict[str, str] = field(default_factory=dict)


def dimensions(node: Node) -> Dimensions:
    """Return the units of a formula of the loss."""
    found = Dimensions(same_unit=_shared(node))
    while True:
        found.units = {}
        walk = _Balance(found, node.parameters)
        try:
            walk.assign(node, {} if LOSS in found.unscaled else {LOSS: _one})
        except Clash as clash:
            found.unscaled |= clash.symbols
            continue
        break
    found.same_unit = {own: of for own, of in found.same_unit.items() if of not in found.unscaled}
    return found


def _one(_: Mapping[str, Number]) -> Number:
    return 1.0


def _shared(node: Node) -> dict[str, str]:
    """Columns of unique amounts, which share the unit of the amounts."""
    pairs = [part.parts[:2] for part in node.walk() if part.op == "effective"]
    return {unique.leaf: total.leaf for total, unique in pairs if (total.op, unique.op) == ("column", "column")}


@dataclass
class _Balance:
    """One attempt to balance a formula under the symbols that are unscaled so far."""

    found: Dimensions
    names: tuple[str, ...]

    def assign(self, node: Node, unit: Unit) -> None:
        """Give a node the unit; Clash names the symbols for which that is not possible."""
        if node.op == "parameter" and node.leaf not in self.found.units:
            self.found.units[node.leaf] = unit
        elif node.op in ("number", "column", "parameter"):
            self._require(self.natural(node), unit)
        elif node.op in ("add", "min", "max"):
            for part in node.parts:
                self.assign(part, unit)
        elif node.op == "negate":
            self.assign(node.parts[0], unit)
        elif node.op in ("multiply", "divide"):
            self._product(node, unit)
        elif node.op == "power":
            base, exponent = node.parts
            power = self._exponent(exponent, [*unit, *self._own(base)])
            self.assign(base, {symbol: _ratio(of, power) for symbol, of in unit.items()})
        elif node.op == "effective":
            self._effective(node, unit)
        else:  # a function of a number without unit
            self._require({}, unit)
            self.assign(node.parts[0], {})

    def natural(self, node: Node) -> Unit:
        """Return the unit that a node has by itself, and give it to its parts."""
        if node.op == "number":
            return {}
        if node.op == "column":
            symbol = self.found.same_unit.get(node.leaf, node.leaf)
            return {} if symbol in self.found.unscaled else {symbol: _one}
        if node.op == "parameter":
            return self.found.units.setdefault(node.leaf, {})
        if node.op == "negate":
            return self.natural(node.parts[0])
        if node.op in ("multiply", "divide"):
            left, right = map(self.natural, node.parts)
            return _combined(left, right, 1.0 if node.op == "multiply" else -1.0)
        if node.op == "power":
            base, exponent = node.parts
            own = self.natural(base)
            power = self._exponent(exponent, own)
            return {symbol: _product(of, power) for symbol, of in own.items()}
        if node.op in ("add", "min", "max"):
            known = next((part for part in node.parts if not self._absorbs(part)), node.parts[0])
            own = self.natural(known)
            for part in node.parts:
                self.assign(part, own)
            return own
        if node.op == "effective":
            own = self.natural(node.parts[0])
            self._effective(node, own)
            return own
        self.assign(node.parts[0], {})
        return {}

    def _effective(self, node: Node, unit: Unit) -> None:
        total, unique, constant = node.parts
        self.assign(total, unit)
        self.assign(unique, unit)
        self.assign(constant, {})

    def _product(self, node: Node, unit: Unit) -> None:
        """Give the factor that has no unit yet the one that the other factors leave."""
        factors = list(_factors(node, 1.0))
        free = [k for k, (part, _) in enumerate(factors) if self._absorbs(part)]
        leaves = [k for k in free if factors[k][0].op == "parameter"]
        chosen = next(iter([*leaves, *free]), None)
        rest: Unit = {}
        for k, (part, sign) in enumerate(factors):
            if k != chosen:
                rest = _combined(rest, self.natural(part), sign)
        if chosen is None:
            self._require(rest, unit)
            return
        part, sign = factors[chosen]
        left = _combined(unit, rest, -1.0)
        self.assign(part, left if sign > 0 else _combined({}, left, -1.0))

    def _absorbs(self, node: Node) -> bool:
        """Whether a node can take any unit, through a parameter that has none yet."""
        if node.op == "parameter":
            return node.leaf not in self.found.units
        if node.op in ("add", "min", "max"):
            return all(map(self._absorbs, node.parts))
        if node.op in ("multiply", "divide"):
            return any(map(self._absorbs, node.parts))
        return node.op in ("negate", "power") and self._absorbs(node.parts[0])

    def _exponent(self, exponent: Node, concerned: Iterable[str]) -> Power:
        """Return an exponent as a function of the parameters; Clash where it holds columns."""
        self.assign(exponent, {})
        if exponent.columns:
            symbols = set(concerned)
            if symbols:
                raise Clash(symbols)
            return _one
        return lambda p: value(exponent, {}, p)

    def _own(self, node: Node) -> list[str]:
        named = (self.found.same_unit.get(name, name) for name in node.columns)
        return [name for name in named if name not in self.found.unscaled]

    def _require(self, own: Unit, unit: Unit) -> None:
        """Clash names the symbols in which two units differ."""
        differing = []
        for symbol in {**own, **unit}:
            powers = [
                [np.asarray(of[symbol](probe) if symbol in of else 0.0) for of in (own, unit)]
                for probe in self._probes()
            ]
            if any(abs(one - two) > SAME for one, two in powers):
                differing.append(symbol)
        if differing:
            raise Clash(differing)

    def _probes(self) -> list[dict[str, Number]]:
        return [dict(zip(self.names, values, strict=False)) for values in PROBES]


def _factors(node: Node, sign: float) -> Iterable[tuple[Node, float]]:
    """Factors of a product with the sign of their power."""
    if node.op == "multiply":
        yield from _factors(node.parts[0], sign)
        yield from _factors(node.parts[1], sign)
    elif node.op == "divide":
        yield from _factors(node.parts[0], sign)
        yield from _factors(node.parts[1], -sign)
    elif node.op == "negate":
        yield from _factors(node.parts[0], sign)
    else:
        yield node, sign


def _combined(one: Unit, two: Unit, sign: float) -> Unit:
    """The unit of one x two^sign."""
    joined = dict(one)
    for symbol, power in two.items():
        joined[symbol] = _plus(joined[symbol], power, sign) if symbol in joined else _product(power, lambda _: sign)
    return joined


def _plus(one: Power, two: Power, sign: float) -> Power:
    return lambda p: one(p) + two(p) * sign


def _product(one: Power, two: Power) -> Power:
    return lambda p: one(p) * two(p)


def _ratio(one: Power, two: Power) -> Power:
    return lambda p: one(p) / two(p)
