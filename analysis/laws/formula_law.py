"""Laws made from formulas in text: bounds, starts and units of every parameter follow from its name and its place.

| parameter | range | starts of the search |
|---|---|---|
| factor of a term, one a term | 0 and up; either sign where its name is lower-case | solved for exactly |
| other upper-case name | above 0, its logarithm is searched | 0.1, 0.35 and 1 of its unit, or along its column |
| exponent of columns behind a minus or below a bar, not in a function | 0 to 5 | 0.05 to 1.5 |
| other exponent of columns | -5 to 5 | -0.8 to 0.8 |
| exponent of a sum, or of a factor | 0.001 to 20 | 0.1 to 2 |
| lower-case summand beside log of a column | any | along the log of the column |
| other lower-case name | any | -0.3 to 1 |

The unit of a parameter (`dimensions`) is the part of it that the columns' sizes decide.
"""

import dataclasses
import functools
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Any, ClassVar, cast

import numpy as np

from scaling.analysis.laws.dimensions import LOSS, SAME, Dimensions, Power, dimensions
from scaling.analysis.laws.expression import Node, occurrences, parse, value
from scaling.analysis.laws.jet import Number
from scaling.analysis.laws.law import Law, amplitude, exponent, level, number, positive

FALLING = (0.05, 0.1, 0.2, 0.3, 0.42, 0.6, 0.9, 1.5)
EITHER = (-0.8, -0.4, -0.15, 0.0, 0.15, 0.4, 0.8)
OUTER = (0.1, 0.25, 0.5, 1.0, 2.0)
OUTER_RANGE = (1e-3, 20.0)
SHARES = (-2.3, -1.05, 0.0)  # logs
PLACES = (-0.6, -0.2, 0.2, 0.6)
SIGNED = (-0.3, 0.0, 0.3, 1.0)
FURTHEST = 60.0  # log of a coefficient over its unit
FURTHEST_PLACE = 12.0  # half ranges of a column
MOST_SOLVED = 6  # non-negative factors solved for at each start: every subset of them is tried
NAMED = re.compile(r"\s*[\w.]+\s*(:[^*^()=]*)?")  # a law's name, with its variable or its columns
LEFT = re.compile(r"^\s*(`[^`]+`|[^\W\d][\w.]*)\s*=(?!=)(.*)$", re.DOTALL)
OVER = re.compile(r"^(.*\S)\s*\[([^\[\]]*)\]\s*$", re.DOTALL)
EXAMPLE_DOMAIN = (1e6, 1e9)


class FormulaLaw(Law):
    """A law whose formula is a tree of the language of formulas."""

    tree: ClassVar[Node]

    def formula(self, **x: Any) -> Any:
        """Return the value of the tree."""
        return value(self.tree, x, {name: getattr(self, name) for name in self.declared()})


def is_formula(text: str) -> bool:
    """Whether a law's text is a formula, and no name."""
    return NAMED.fullmatch(text) is None


def split(text: str) -> tuple[str, str, tuple[str, ...] | None]:
    """Return the output's column ("" for the loss), the formula, and the columns that the text lists, if any."""
    over = OVER.match(text)
    body, listed = (over.group(1), over.group(2)) if over else (text, None)
    left = LEFT.match(body)
    output, body = (left.group(1).strip("`"), left.group(2)) if left else ("", body)
    columns = None if listed is None else tuple(one.strip().strip("`") for one in listed.split(",") if one.strip())
    return ("" if output in ("L", "loss") else output), body.strip(), columns


@functools.lru_cache(maxsize=256)
def formula_law(text: str, columns: tuple[str, ...] | None = None) -> type[FormulaLaw]:
    """Return the law of a formula over these columns; a text with its columns behind it needs none.

    The law's name is the formula with its columns in brackets, E + A*P^-a [P], which is a text for this function.
    ValueError, in one line, for a formula that cannot be read or has no parameter.
    """
    output, body, listed = split(text)
    given = listed if listed is not None else columns
    if given is None:
        raise ValueError(f"the formula {text!r} does not list its columns: write them behind it, as in E + A*P^-a [P]")
    tree = parse(body, given)
    if not tree.parameters:
        raise ValueError(f"the formula {body!r} has no parameter: nothing is to be fitted")
    left = f"{output} = " if output else ""
    law = declare(
        tree,
        name=f"{left}{body} [{', '.join(tree.columns)}]",
        equation=f"{output or 'L'} = {body}",
        source="a formula of the user's",
    )
    law.output = output
    return law


def declare(
    tree: Node,
    *,
    name: str,
    equation: str,
    source: str,
    example: Mapping[str, float] | None = None,
    domain: Mapping[str, tuple[float, float]] | None = None,
) -> type[FormulaLaw]:
    """Return the class of a law of this tree; its variables are those of the domain, else the tree's columns."""
    found = dimensions(tree)
    kinds = _Places(tree, found)
    fields = [(symbol, Any, kinds.parameter(symbol)) for symbol in tree.parameters]
    clashing = {*dir(Law), "tree"} & set(tree.parameters)
    if clashing:
        raise ValueError(f"the formula {equation!r}: {min(clashing)} cannot name a parameter; choose another name")
    space = {
        "tree": tree,
        "name": name,
        "variables": tree.columns if domain is None else tuple(domain),
        "equation": equation,
        "source": source,
        "unscaled": tuple(sorted(found.unscaled)),
        "same_unit": found.same_unit,
        "any_sign": _any_sign(tree),
        "example": dict.fromkeys(tree.parameters, 1.0) if example is None else example,
        "domain": dict.fromkeys(tree.columns, EXAMPLE_DOMAIN) if domain is None else domain,
    }
    made = dataclasses.make_dataclass("Formula", fields, bases=(FormulaLaw,), namespace=space, frozen=True)
    return cast("type[FormulaLaw]", made)


def _any_sign(tree: Node) -> tuple[str, ...]:
    """Columns that may be zero or negative: none under a logarithm, below a bar, or with a power that is not whole."""
    positive_only: set[str] = set()
    for part in tree.walk():
        if part.op in ("log", "effective"):
            positive_only |= {column for one in part.parts for column in one.columns}
        if part.op == "divide":
            positive_only |= set(part.parts[1].columns)
        if part.op == "power":
            power = part.parts[1]
            if power.op != "number" or power.leaf != int(power.leaf) or power.leaf < 1:
                positive_only |= set(part.parts[0].columns)
    return tuple(column for column in tree.columns if column not in positive_only)


class _Places:
    """The places of parameters in a tree, and the declaration that follows from each."""

    def __init__(self, tree: Node, found: Dimensions) -> None:
        """Note every parameter's places."""
        self.found, self.tree = found, tree
        self.linear = set(_factors_to_solve(tree))
        self.powers: dict[str, list[str]] = {}
        self.beside: dict[str, str] = {}
        self._note(tree, falls=False)

    def _note(self, node: Node, *, falls: bool | None) -> None:
        """Note the places below a node; `falls`: whether a bar stands above it, None inside a function."""
        if node.op == "power":
            base, power = node.parts
            bare = power.parts[0] if power.op == "negate" else power
            falling = falls is not None and falls != (power.op == "negate") and bare.op == "parameter"
            kind = "outer" if set(_amounts(base)) else "falling" if falling else "either"
            for name in power.parameters:
                self.powers.setdefault(name, []).append(kind)
            self._note(base, falls=falls)
            return
        if node.op == "add":
            terms = list(_terms(node, 1.0))
            logs = [part.parts[0].leaf for part, _ in terms if part.op == "log" and part.parts[0].op == "column"]
            for part, _ in terms:
                if part.op == "parameter" and logs:
                    self.beside[part.leaf] = logs[0]
        inside = node.op not in ("add", "multiply", "divide", "negate")
        for k, part in enumerate(node.parts):
            self._note(part, falls=None if inside or falls is None else falls != (node.op == "divide" and k == 1))

    def parameter(self, name: str) -> Any:
        """Return the declaration of a parameter."""
        unit = self.found.units.get(name, {})

        def of(p: Mapping[str, Number]) -> dict[str, Number]:
            return {symbol: power(p) for symbol, power in unit.items()}

        upper = name[0].isupper()
        if name in self.linear:
            if not upper:
                return number(linear=True, unit=of)
            return level() if set(unit) == {LOSS} else amplitude(of)
        if name in self.powers:
            return self._exponent(set(self.powers[name]))
        column = next((symbol for symbol in unit if LOSS not in unit and _is_one(unit[symbol])), None)
        if upper and column is not None:
            return positive("place", along=column, low=-FURTHEST_PLACE, high=FURTHEST_PLACE, grid=PLACES, unit=of)
        if upper:
            return positive("log", low=-FURTHEST, high=FURTHEST, grid=SHARES, unit=of)
        if name in self.beside and occurrences(self.tree, name) == 1:
            return number(kind="log_place", along=self.beside[name], grid=PLACES)
        return number(grid=SIGNED, unit=of)

    def _exponent(self, kinds: set[str]) -> Any:
        if "outer" in kinds:
            return exponent(low=OUTER_RANGE[0], high=OUTER_RANGE[1], grid=OUTER)
        if kinds == {"falling"}:
            return exponent(grid=FALLING)
        return exponent(low=-5.0, high=5.0, grid=EITHER)


def _is_one(power: Power) -> bool:
    """Whether a power is 1 whatever the parameters."""
    probes: list[dict[str, float]] = [defaultdict(lambda: 0.7), defaultdict(lambda: 1.3)]
    return all(abs(float(np.asarray(power(probe)).item()) - 1.0) < SAME for probe in probes)


def _amounts(node: Node) -> Iterator[str]:
    """Parameters of a base that are amounts: no exponents, and no constants of an effective amount."""
    if node.op == "parameter":
        yield node.leaf
    elif node.op != "effective":
        for part in node.parts[:1] if node.op == "power" else node.parts:
            yield from _amounts(part)


def _terms(node: Node, sign: float) -> Iterator[tuple[Node, float]]:
    """Terms of a sum with their signs."""
    if node.op == "add":
        for part in node.parts:
            yield from _terms(part, sign)
    elif node.op == "negate":
        yield from _terms(node.parts[0], -sign)
    else:
        yield node, sign


def _factors_to_solve(tree: Node) -> Collection[str]:
    """Parameters in which the formula is linear, all at once: at most one of each term's factors."""
    found: list[str] = []
    solved = 0
    for term, _ in _terms(tree, 1.0):
        candidates = [name for name in _plain_factors(term) if occurrences(tree, name) == 1]
        candidates.sort(key=lambda name: not name[0].isupper())
        if candidates and (not candidates[0][0].isupper() or solved < MOST_SOLVED):
            found.append(candidates[0])
            solved += candidates[0][0].isupper()
    return found


def _plain_factors(term: Node) -> Iterator[str]:
    """Parameters that are factors of a product, above its bars."""
    if term.op == "parameter":
        yield term.leaf
    elif term.op == "negate":
        yield from _plain_factors(term.parts[0])
    elif term.op == "multiply":
        yield from _plain_factors(term.parts[0])
        yield from _plain_factors(term.parts[1])
    elif term.op == "divide":
        yield from _plain_factors(term.parts[0])
