"""Formulas in text, such as E + A*P^-a + B*V^-b, read into trees of a small language; nothing is ever executed.

The language has numbers, names, + - * / ^ (or **), brackets and the FUNCTIONS. A name is a column where the table has
one, else a parameter; a column whose name is no word stands in backticks. Python's own parser reads the text, and
every node that is not of the language is refused by name. Legend: x values of columns, p values of parameters.
"""

import ast
import difflib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from scaling.analysis.laws import jet
from scaling.analysis.laws.coupled import effective

LONGEST = 4_000  # characters of a formula
DEEPEST = 60  # operations inside each other
SMALL_POWER = 6  # whole powers up to this one are products, which take bases of either sign
NEAR = 0.8  # likeness of a parameter's name to a column's, beyond which the name is a slip of the pen
LEAST_NEAR = 3  # letters that such a name has at least
BACKTICKS = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Node:
    """A part of a formula: its operation, its operands, and the number or the name of a leaf.

    op: "number", "column", "parameter", "add", "multiply", "divide", "negate", "power" or a function of one number.
    """

    op: str
    parts: tuple["Node", ...] = ()
    leaf: Any = None

    def walk(self) -> Iterator["Node"]:
        """Every node, the whole first."""
        yield self
        for part in self.parts:
            yield from part.walk()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns by their first appearance."""
        return tuple(dict.fromkeys(node.leaf for node in self.walk() if node.op == "column"))

    @property
    def parameters(self) -> tuple[str, ...]:
        """The parameters by their first appearance."""
        return tuple(dict.fromkeys(node.leaf for node in self.walk() if node.op == "parameter"))


def number(value: float) -> Node:
    """A number as a node."""
    return Node("number", leaf=value)


def _qmean(x: Node, y: Node, q: Node) -> Node:
    one = Node("divide", (number(1.0), q))
    return Node("power", (Node("add", (Node("power", (x, q)), Node("power", (y, q)))), one))


def _valley(x: Node, best: Node) -> Node:
    return Node("power", (Node("log", (Node("divide", (x, best)),)), number(2.0)))


def _mixture(*shares: Node) -> Node:
    own, *others = shares
    weighed = [Node("multiply", (Node("parameter", leaf=f"t_{k}"), part)) for k, part in enumerate(others, 2)]
    effective = Node("add", (own, *weighed)) if weighed else own
    power = Node("power", (effective, Node("negate", (Node("parameter", leaf="alpha"),))))
    return Node("add", (Node("parameter", leaf="E"), Node("multiply", (Node("parameter", leaf="A"), power))))


def _fixed(name: str, count: int) -> tuple[int, int, Callable[..., Node]]:
    return count, count, lambda *parts: Node(name, parts)


# Function -> least and most operands (0: any number), and the node of its operands.
FUNCTIONS: Mapping[str, tuple[int, int, Callable[..., Node]]] = {
    "exp": _fixed("exp", 1),
    "log": _fixed("log", 1),
    "softplus": _fixed("softplus", 1),
    "sqrt": (1, 1, lambda x: Node("power", (x, number(0.5)))),
    "min": _fixed("min", 2),
    "max": _fixed("max", 2),
    "qmean": (3, 3, _qmean),
    "valley": (2, 2, _valley),
    "effective": _fixed("effective", 3),
    "mixture": (2, 0, _mixture),
}
BINARY = {ast.Add: "add", ast.Sub: "subtract", ast.Mult: "multiply", ast.Div: "divide", ast.Pow: "power"}


def parse(text: str, columns: Collection[str]) -> Node:
    """Read a formula over these columns; ValueError, in one line, names the token, the columns and the nearest name."""
    if len(text) > LONGEST:
        raise ValueError(f"the formula has {len(text):,} characters, more than {LONGEST:,}: give a shorter one")
    names: dict[str, str] = {}

    def plain(found: re.Match[str]) -> str:
        names[f"_column_{len(names)}_"] = found.group(1)
        return f" _column_{len(names) - 1}_ "

    source = BACKTICKS.sub(plain, text).replace("^", "**").strip()
    try:
        tree = ast.parse(source, mode="eval").body
    except (SyntaxError, RecursionError, MemoryError, ValueError) as error:
        raise ValueError(f"the formula {text!r} cannot be read{_where(error, source)}") from None
    node = _Reader(text, tuple(columns), names).read(tree, 0)
    _refuse_slips(node, text, tuple(columns))
    return node


def _where(error: Exception, source: str) -> str:
    """The place of a fault, with the token there."""
    if not isinstance(error, SyntaxError) or error.offset is None:
        return ": too many brackets inside each other"
    rest = source[error.offset - 1 :].strip()
    token = re.match(r"\w+|.", rest)
    near = repr(token.group()) if token else "its end"
    word = "; lambda is a word of Python: write lam" if re.search(r"\blambda\b", source) else ""
    return f" at {near}: operations are + - * / ^ and a product is written A*P{word}"


@dataclass(frozen=True)
class _Reader:
    """The reading of one text: its columns, and the columns that stand for backticked names."""

    text: str
    columns: tuple[str, ...]
    ticked: Mapping[str, str]

    def read(self, tree: ast.expr, depth: int) -> Node:
        """Return the node of a tree; ValueError for one that the language does not have."""
        if depth > DEEPEST:
            raise ValueError(f"the formula {self.text!r} nests more than {DEEPEST} operations: give a shorter one")
        if isinstance(tree, ast.Constant) and isinstance(tree.value, int | float) and not isinstance(tree.value, bool):
            return self._number(tree.value)
        if isinstance(tree, ast.Name | ast.Attribute):
            return self._name(tree)
        if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub | ast.UAdd):
            inner = self.read(tree.operand, depth + 1)
            return Node("negate", (inner,)) if isinstance(tree.op, ast.USub) else inner
        if isinstance(tree, ast.BinOp) and type(tree.op) in BINARY:
            op = BINARY[type(tree.op)]
            left, right = self.read(tree.left, depth + 1), self.read(tree.right, depth + 1)
            return Node("add", (left, Node("negate", (right,)))) if op == "subtract" else Node(op, (left, right))
        if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and not tree.keywords:
            return self._call(tree.func.id, tree.args, depth)
        raise ValueError(
            f"the formula {self.text!r} holds {ast.unparse(tree)!r}, which is no part of the language: it has numbers, "
            f"names, + - * / ^, brackets and {', '.join(FUNCTIONS)}"
        )

    def _number(self, value: int | float) -> Node:
        try:
            return number(float(value))
        except OverflowError:
            raise ValueError(f"the formula {self.text!r} holds a number beyond all floats") from None

    def _name(self, tree: ast.Name | ast.Attribute) -> Node:
        name = ast.unparse(tree)
        name = self.ticked.get(name, name)
        if name in self.columns:
            return Node("column", leaf=name)
        if isinstance(tree, ast.Attribute) or name in self.ticked.values():
            raise ValueError(f"the formula {self.text!r}: {name!r} is no column{_choices(name, self.columns)}")
        if name in FUNCTIONS:
            raise ValueError(f"the formula {self.text!r}: {name} is a function, whose operands stand in brackets")
        return Node("parameter", leaf=name)

    def _call(self, name: str, operands: list[ast.expr], depth: int) -> Node:
        if name not in FUNCTIONS:
            near = difflib.get_close_matches(name, FUNCTIONS, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ValueError(
                f"the formula {self.text!r}: unknown function {name!r}: {hint}choose from {', '.join(FUNCTIONS)}, and "
                "write a product with *"
            )
        least, most, make = FUNCTIONS[name]
        if len(operands) < least or (most and len(operands) > most):
            wanted = f"{least}" if least == most else f"{least} or more"
            raise ValueError(
                f"the formula {self.text!r}: {name} takes {wanted} operand{'s' if wanted != '1' else ''}, "
                f"got {len(operands)}"
            )
        parts = [self.read(one, depth + 1) for one in operands]
        if name == "mixture" and any(part.op != "column" for part in parts):
            wrong = next(part for part in parts if part.op != "column")
            raise ValueError(
                f"the formula {self.text!r}: mixture takes columns, the share of the loss's own domain first; "
                f"{wrong.leaf!r} is none{_choices(str(wrong.leaf), self.columns)}"
            )
        return make(*parts)


def _choices(name: str, columns: tuple[str, ...]) -> str:
    """The columns in words, the nearest to a name first."""
    lower = {column.lower(): column for column in columns}
    near = difflib.get_close_matches(name.lower(), lower, n=1)
    hint = f", did you mean {lower[near[0]]!r}?" if near else ";"
    return f"{hint} the columns are {', '.join(columns) or 'none'}"


def _refuse_slips(node: Node, text: str, columns: tuple[str, ...]) -> None:
    """ValueError for a formula without columns, and for parameters that can only be columns written otherwise."""
    for part in node.walk():
        base, exponent = part.parts if part.op == "power" else (part, part)
        if part.op == "power" and exponent.parameters and base.parameters and not part.columns:
            name = base.parameters[0]
            if not any(occurrences(node, one) > 1 for one in exponent.parameters):  # as the q of E^q in a power mean
                raise ValueError(
                    f"the formula {text!r}: the power of {name} holds no column, {name!r} being "
                    f"none{_choices(name, columns)}"
                )
        if part.op == "log" and not part.columns:
            name = part.parameters[0] if part.parameters else "a number"
            raise ValueError(
                f"the formula {text!r}: log of {name} holds no column, {name!r} being none{_choices(name, columns)}"
            )
    lower = {column.lower(): column for column in columns if len(column) >= LEAST_NEAR}
    for name in node.parameters:
        near = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=NEAR)
        if near and len(name) >= LEAST_NEAR:
            raise ValueError(
                f"the formula {text!r}: {name!r} is no column, and as a parameter too like one{_choices(name, columns)}"
            )
    if not node.columns:
        name = node.parameters[0] if node.parameters else text
        raise ValueError(f"the formula {text!r} holds no column{_choices(name, columns)}")


def occurrences(node: Node, parameter: str) -> int:
    """How often a parameter stands in a formula."""
    return sum(part.op == "parameter" and part.leaf == parameter for part in node.walk())


def value(node: Node, x: Mapping[str, Any], p: Mapping[str, Any]) -> Any:
    """Return the formula's value over floats, arrays, jets or recorded expressions."""
    if node.op in ("number", "column", "parameter"):
        return np.float64(node.leaf) if node.op == "number" else (x if node.op == "column" else p)[node.leaf]
    if node.op == "power":
        return _power(node, x, p)
    return OPERATIONS[node.op](*(value(part, x, p) for part in node.parts))


def _power(node: Node, x: Mapping[str, Any], p: Mapping[str, Any]) -> Any:
    """Return a power; a small whole one as products, since the base may be negative."""
    base, exponent = node.parts
    sign, bare = (-1.0, exponent.parts[0]) if exponent.op == "negate" else (1.0, exponent)
    whole = bare.leaf if bare.op == "number" else 0.5
    root = value(base, x, p)
    if whole != int(whole) or not 1 <= whole <= SMALL_POWER:
        return root ** value(exponent, x, p)
    product = root
    for _ in range(int(whole) - 1):
        product = product * root
    return product if sign > 0 else 1.0 / product


def _lesser(one: Any, two: Any) -> Any:
    return jet.where(np.less(jet.value(one), jet.value(two)), one, two)


def _greater(one: Any, two: Any) -> Any:
    return jet.where(np.less(jet.value(one), jet.value(two)), two, one)


def _sum(first: Any, *others: Any) -> Any:
    for other in others:
        first = first + other
    return first


OPERATIONS: Mapping[str, Callable[..., Any]] = {
    "add": _sum,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "negate": lambda a: -a,
    "exp": jet.exp,
    "log": jet.log,
    "softplus": jet.softplus,
    "min": _lesser,
    "max": _greater,
    "effective": lambda total, unique, R: effective(total, _lesser(total, unique), R),
}
