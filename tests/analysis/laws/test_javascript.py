"""Every law's emitted JavaScript equals the law; operations keep their operands, order and sharing."""

import itertools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.analysis.laws import LAWS, javascript, jet
from scaling.analysis.laws.law import Law, build
from tests.analysis.node import evaluate, needs_node

EVERY = pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
FORBIDDEN = set("<&\u2028\u2029")  # of a script element; see scaling.analysis.report.page.script_json
OFTEN = settings(max_examples=15, deadline=None)  # an example is one run of node


def by_javascript(body: str, cases: list[tuple[dict[str, float], dict[str, float]]]) -> np.ndarray:
    """The function's value for each case (p, x), not finite ones included."""
    code = "given.cases.map(([p, x]) => String(((p, x) => {" + body + "})(p, x)))"
    return np.array(evaluate(code, cases=cases), dtype=float)


def grid(law: type[Law], per_axis: int = 12) -> list[dict[str, float]]:
    """Points of the law's domain, evenly spaced in log."""
    axes = (np.geomspace(*ends, per_axis).tolist() for ends in law.domain.values())
    return [dict(zip(law.domain, point, strict=True)) for point in itertools.product(*axes)]


def by_python(law: Law, points: list[dict[str, float]]) -> np.ndarray:
    return np.asarray(law(**{name: [point[name] for point in points] for name in law.variables}))


@needs_node
@EVERY
def test_the_javascript_of_a_law_is_the_law(law: type[Law]) -> None:
    example, points = build(law, law.example), grid(law)
    found = by_javascript(javascript.javascript(law), [(example.params, x) for x in points])
    np.testing.assert_allclose(found, by_python(example, points), rtol=1e-12)


@needs_node
@pytest.mark.parametrize("name", ["chinchilla", "kaplan", "power_mean", "farseer", "data_constrained", "m4"])
@OFTEN
@given(st.data())
def test_the_javascript_of_a_law_is_the_law_at_any_parameters(name: str, data: st.DataObject) -> None:
    law = LAWS[name]
    factors = data.draw(st.lists(st.tuples(*[st.floats(0.7, 1.4)] * len(law.example)), min_size=1, max_size=20))
    values = [np.array(list(law.example.values())) * factor for factor in factors]
    laws = [build(law, dict(zip(law.example, own.tolist(), strict=True))) for own in values]
    points = grid(law, per_axis=4)
    found = by_javascript(javascript.javascript(law), [(one.params, x) for one in laws for x in points])
    expected = np.concatenate([by_python(one, points) for one in laws])
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@EVERY
def test_no_formula_can_end_the_script_around_it(law: type[Law]) -> None:
    assert not set(javascript.javascript(law)) & FORBIDDEN


@pytest.mark.parametrize("name", sorted(LAWS))
def test_a_law_reads_its_own_parameters_and_variables_alone(name: str) -> None:
    read = set(re.findall(r"\b([px])\.(\w+)", javascript.javascript(LAWS[name])))
    assert read == {("p", one) for one in LAWS[name].declared()} | {("x", one) for one in LAWS[name].variables}


# Each formula of three numbers holds a trap: order, signs, plain numbers on either side, or a function of jet or numpy.
FORMULAS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "power of a negative": lambda a, b, c: (-a) ** c,
    "negative of a power": lambda a, b, c: -(a**c),
    "negative exponent": lambda a, b, c: a**-b,
    "power of a power": lambda a, b, c: (a**b) ** c,
    "power to a power": lambda a, b, c: a ** (b**c),
    "differences": lambda a, b, c: a - b - c - (a - (b - c)),
    "quotients": lambda a, b, c: a / b / c + a / (b / c),
    "sums of products": lambda a, b, c: (a + b) * c - a * (b - c),
    "integers": lambda a, b, c: 2 * a + 3 - (7 - b) / 2 + (1 / c) ** 2 + 2**c,
    "negative integers": lambda a, b, c: -2 * a - -3 + (-2) ** c + a**-2,
    "a large integer": lambda a, b, c: 10**22 * a,
    "floats": lambda a, b, c: 0.1 * a + 1e-30 / b - 1e300 * c + 1.7976931348623157e308 / a,
    "float exponents": lambda a, b, c: a**2.0 + b**-1.0 + a**0.5,
    "numpy numbers": lambda a, b, c: np.float64(0.1) * a + np.array(0.3) / b - np.int64(4) ** c,
    "infinity": lambda a, b, c: np.inf * a - b,
    "no number": lambda a, b, c: np.nan * a,
    "exp": lambda a, b, c: jet.exp(-a / b),
    "log": lambda a, b, c: jet.log(a * b),
    "reciprocal": lambda a, b, c: jet.reciprocal(a - b / 3.0),
    "softplus": lambda a, b, c: jet.softplus(a - b) + jet.softplus(-400.0 * a) + jet.softplus(400.0 * b),
    "less": lambda a, b, c: jet.where(np.less(jet.value(a), jet.value(b)), a, c),
    "greater": lambda a, b, c: jet.where(a > b, a, c),
    "at most": lambda a, b, c: jet.where(a <= b, a, 1.0),
    "at least": lambda a, b, c: jet.where(a >= b, 2, c),
    "absolute": lambda a, b, c: abs(a - b) + np.abs(c),
    "maximum": lambda a, b, c: np.maximum(a, b) + np.maximum(0, c),
    "log1p": lambda a, b, c: np.log1p(a * 1e-9),
    "a constant": lambda a, b, c: 4,
}
TRIPLES = [(3.0, 5.0, 2.0), (2.5, 2.5, -3.0), (7.0, 0.5, 3.0)]


@needs_node
@pytest.mark.parametrize("formula", FORMULAS.values(), ids=FORMULAS)
def test_every_operation_keeps_its_operands_and_order(formula: Callable[[Any, Any, Any], Any]) -> None:
    body = javascript.body(lambda _, x: formula(x["a"], x["b"], x["c"]), [], "abc")
    found = by_javascript(body, [({}, dict(zip("abc", triple, strict=True))) for triple in TRIPLES])
    with np.errstate(all="ignore"):
        expected = [float(formula(*map(np.float64, triple))) for triple in TRIPLES]
    np.testing.assert_allclose(found, expected, rtol=1e-14)


OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "negative": lambda a, b: -a - b,
    "less": lambda a, b: jet.where(np.less(a, b), a, b * b),
}
CONSTANTS = st.integers(-9, 9) | st.floats(-1e9, 1e9)
TREES: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from("abc"),
    lambda trees: st.tuples(st.sampled_from(sorted(OPERATORS)), trees, trees | CONSTANTS, st.booleans()),
)


def grown(tree: Any, named: dict[str, Any]) -> Any:
    """The value of a tree: a name, a constant, or (operator, left, right, whether these are swapped)."""
    if not isinstance(tree, tuple):
        return named.get(tree, tree)
    name, left, right, swapped = tree
    sides = [grown(left, named), grown(right, named)]
    return OPERATORS[name](*(sides[::-1] if swapped else sides))


@needs_node
@OFTEN
@given(st.lists(TREES, min_size=1, max_size=20), st.tuples(*[st.floats(-1e3, 1e3)] * 3))
def test_arithmetic_is_the_same_to_the_last_bit(trees: list[Any], values: tuple[float, ...]) -> None:
    bodies = [javascript.body(lambda _, x, tree=tree: grown(tree, x), [], "abc") for tree in trees]
    calls = ", ".join(f"((x) => {{{body}}})(given.x)" for body in bodies)
    found = np.array(evaluate(f"[{calls}].map(String)", x=dict(zip("abc", values, strict=True))), dtype=float)
    with np.errstate(all="ignore"):
        named = dict(zip("abc", map(np.float64, values), strict=True))
        np.testing.assert_array_equal(found, [float(grown(tree, named)) for tree in trees])


@needs_node
def test_a_result_used_twice_is_written_once() -> None:
    def formula(_: dict[str, Any], x: dict[str, Any]) -> Any:
        y = x["a"]
        for _step in range(16):  # 2^16 divisions where no result is shared
            y = y / 2 + y / 2
        return y

    body = javascript.body(formula, [], ["a"])
    assert len(body) < 1000
    assert by_javascript(body, [({}, {"a": 3.7})]) == [3.7]


def test_a_formula_that_javascript_cannot_follow_is_refused() -> None:
    with pytest.raises(TypeError, match=r"cannot branch.*use jet\.where"):
        javascript.body(lambda p, x: x["N"] if x["N"] > p["E"] else p["E"], ["E"], ["N"])
    for formula, name in ((np.sin, "sin"), (np.add.accumulate, "add"), (np.sum, "sum"), (lambda z: z // 2, "floor")):
        with pytest.raises(TypeError, match=rf"numpy\.{name}.*choose from .*exp, log"):
            javascript.body(lambda _, x, formula=formula: formula(x["N"]), [], ["N"])
