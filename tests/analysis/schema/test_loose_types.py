"""Mappings of anything are few in `analysis`, and each has a reason: else strict typing sees nothing of a document."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3] / "analysis"
MAPPINGS = {"Mapping", "MutableMapping", "dict", "Dict"}
# Where the value is anything, by module and the outermost function or name; any other place is to be typed.
ALLOWED = {
    ("figures/web.py", "Json"): "plotly's traces and layouts, of hundreds of keys",
    ("laws/expression.py", "_power"): "floats, arrays, jets or expressions in the place of numbers",
    ("laws/expression.py", "value"): "floats, arrays, jets or expressions in the place of numbers",
    ("laws/javascript.py", "body"): "expressions in the place of numbers",
    ("laws/law.py", "Law"): "jets in the place of a law's parameters",
    ("laws/law.py", "_declare"): "a parameter's keyword options",
    ("laws/law.py", "build"): "a law's keyword parameters, floats or arrays or jets",
    ("report/calculator.py", "formulas_js"): "expressions in the place of numbers",
}


def loose_places(path: Path) -> Iterator[str]:
    """The outermost function, class or name around every Mapping[…, Any] and dict[…, Any] of a module."""
    for statement in ast.parse(path.read_text()).body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "Any]" in node.value:
                yield from (_name(statement) for one in _subscripts(node.value) if _is_loose(one))
            elif _is_loose(node):
                yield _name(statement)


def _subscripts(annotation: str) -> list[ast.AST]:
    try:
        return list(ast.walk(ast.parse(annotation)))
    except SyntaxError:  # words that hold "Any]", and no annotation
        return []


def _is_loose(node: ast.AST) -> bool:
    if not (isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple) and node.slice.elts):
        return False
    name = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
    last = node.slice.elts[-1]
    return name in MAPPINGS and (getattr(last, "id", "") == "Any" or getattr(last, "attr", "") == "Any")


def _name(statement: ast.stmt) -> str:
    target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", statement)
    return str(getattr(target, "name", getattr(target, "id", "")))


def test_a_mapping_of_anything_stands_only_where_the_value_is_anything() -> None:
    found = {
        (path.relative_to(ROOT).as_posix(), place)
        for path in sorted(ROOT.rglob("*.py"))
        for place in loose_places(path)
    }
    assert found == set(ALLOWED)


def test_both_spellings_are_found_and_precise_types_are_not(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "Json = dict[str, Any]\n"
        "def one(a: 'Mapping[str, Any]') -> None: ...\n"
        "def two(a: typing.Mapping[str, typing.Any]) -> None: ...\n"
        "def three(a: dict[str, list[float]]) -> 'pd.Series[Any]': ...\n"
    )
    assert list(loose_places(path)) == ["Json", "one", "two"]
