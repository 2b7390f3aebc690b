"""JavaScript of a law, written from its one formula: the formula is evaluated over expressions in place of numbers.

numpy hands every operator, ufunc and `numpy.where` on an `Expression` to that expression, which records it in
JavaScript. Formulas and `jet` therefore hold no code for this type, and fits do not slow down.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from scaling.analysis.laws.law import Law, build

# Texts of operations hold no "<", so that no formula can end the script element around it: a < b reads b > a.
OPERATIONS: dict[Any, str] = {
    np.negative: "(-{0})",
    np.add: "({0} + {1})",
    np.subtract: "({0} - {1})",
    np.multiply: "({0} * {1})",
    np.divide: "({0} / {1})",
    np.power: "({0} ** {1})",
    np.greater: "({0} > {1})",
    np.greater_equal: "({0} >= {1})",
    np.less: "({1} > {0})",
    np.less_equal: "({1} >= {0})",
    np.where: "({0} ? {1} : {2})",
    np.absolute: "Math.abs({0})",
    np.maximum: "Math.max({0}, {1})",
    np.exp: "Math.exp({0})",
    np.log: "Math.log({0})",
    np.log1p: "Math.log1p({0})",
}


@dataclass(frozen=True, eq=False)
class Expression(NDArrayOperatorsMixin):
    """A recorded operation: its JavaScript with {0}, {1}, ... where the operands stand, and these operands.

    Operands may be plain numbers. TypeError: the operation has no text in `OPERATIONS`, or Python would branch on it.
    """

    text: str
    operands: tuple["Expression", ...] = ()

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *operands: Any, **options: Any) -> Any:
        if ufunc is np.logaddexp and method == "__call__":
            a, b = operands
            return np.maximum(a, b) + np.log1p(np.exp(-abs(a - b)))
        return _record(ufunc if method == "__call__" and not options else None, ufunc.__name__, operands)

    def __array_function__(self, function: Any, _types: Any, operands: Any, options: Any) -> "Expression":
        return _record(function if not options else None, function.__name__, operands)

    def __bool__(self) -> bool:
        raise TypeError("a formula cannot branch in Python on a recorded number; use jet.where(condition, yes, no)")


def javascript(law: type[Law]) -> str:
    """Return the body of a JavaScript function of p, the law's parameters by name, and x, its variables by name."""
    return body(lambda p, x: build(law, p).formula(**x), law.declared(), law.variables)


def body(formula: Callable[[dict[str, Any], dict[str, Any]], Any], p: Iterable[str], x: Iterable[str]) -> str:
    """Return the body of a JavaScript function of p and x that equals the formula over the named parts of each.

    Parentheses enclose every operation. A constant t0, t1, ... holds each result that the formula uses more than once.
    Limit: 1 ** Infinity and 1 ** NaN are 1 in Python and NaN in JavaScript.
    """
    result = _expression(formula({n: Expression(f"p.{n}") for n in p}, {n: Expression(f"x.{n}") for n in x}))
    order = _operands_first(result)
    uses = Counter(id(operand) for one in order for operand in one.operands)
    lines: list[str] = []
    texts: dict[int, str] = {}
    for one in order:
        text = one.text.format(*(texts[id(operand)] for operand in one.operands))
        if one.operands and uses[id(one)] > 1:
            name = f"t{len(lines)}"
            lines.append(f"const {name} = {text};")
            text = name
        texts[id(one)] = text
    return "\n".join([*lines, f"return {texts[id(result)]};"])


def _record(operation: Any, name: str, operands: Iterable[Any]) -> Expression:
    if operation not in OPERATIONS:
        known = ", ".join(known.__name__ for known in OPERATIONS)
        raise TypeError(
            f"numpy.{name} as a formula uses it has no JavaScript; choose from {known}, logaddexp, or add its text to "
            "scaling.analysis.laws.javascript.OPERATIONS"
        )
    return Expression(OPERATIONS[operation], tuple(_expression(operand) for operand in operands))


def _expression(number: Any) -> Expression:
    """Return the number as an expression: a plain one as its shortest exact decimal."""
    if isinstance(number, Expression):
        return number
    text = repr(float(number)).replace("inf", "Infinity").replace("nan", "NaN")
    return Expression(f"({text})" if text.startswith("-") else text)


def _operands_first(result: Expression) -> list[Expression]:
    """Return all expressions that a result rests on, each once and after its operands; by loop, however deep."""
    done: dict[int, Expression] = {}
    stack = [result]
    while stack:
        waiting = [operand for operand in stack[-1].operands if id(operand) not in done]
        if waiting:
            stack.extend(waiting)
        else:
            last = stack.pop()
            done[id(last)] = last
    return list(done.values())
