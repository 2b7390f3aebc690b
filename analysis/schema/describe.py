"""docs/results.md, written from the types: every document, type by type, field by field.

python -m scaling.analysis.schema.describe > docs/results.md
"""

import inspect
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

from scaling.analysis.schema import document, finetuning, forecast, proposal, registered, tuning, whole_curves

WORDS = {bool: "true or false", int: "integer", float: "number", str: "text", type(None): "null"}
HEAD = """# Documents of the analysis

`python -m scaling.analysis.schema.describe > docs/results.md` writes this page from the types in `analysis/schema`.

[x] is a list of x, {key: x} an object with an x for every key. A field that may be absent says so beside its type."""


@dataclass(frozen=True)
class Document:
    """A file or an answer in JSON: its name, words about it, and the types at its top."""

    name: str
    about: str
    roots: tuple[Any, ...]


DOCUMENTS = (
    Document("results.json", inspect.getdoc(document) or "", (document.Results,)),
    Document("scaling predict --json", inspect.getdoc(forecast) or "", get_args(forecast.Prediction)),
    Document("scaling predict --serve --json", "", (forecast.ServedPrediction,)),
    Document("predictions/HASH.json", inspect.getdoc(registered) or "", (registered.RegisteredForecast,)),
    Document("scaling next --json", inspect.getdoc(proposal) or "", (proposal.Proposal,)),
    Document("scaling predict --run --json", inspect.getdoc(whole_curves) or "", (whole_curves.RunForecast,)),
    Document("curves.json", "", (whole_curves.CurveStudy,)),
    Document("finetune.json", inspect.getdoc(finetuning) or "", (finetuning.TunedResults,)),
    Document("tune.json", inspect.getdoc(tuning) or "", (tuning.TuneResults,)),
)


@dataclass(frozen=True)
class Field:
    """A field of a type: its name, its type, its meaning in words, and whether it may be absent."""

    name: str
    type: Any
    meaning: str
    optional: bool


def fields(cls: Any) -> list[Field]:
    """The fields of a TypedDict in order, inherited ones first."""
    found = []
    for name, hint in get_type_hints(cls, include_extras=True).items():
        inner = get_args(hint)[0] if get_origin(hint) is NotRequired else hint
        bare, meaning = get_args(inner)[:2] if get_origin(inner) is Annotated else (inner, "")
        found.append(Field(name, bare, meaning, name in cls.__optional_keys__))
    return found


def types_below(hint: Any) -> Iterator[Any]:
    """The TypedDicts that a type names, itself among them, but not those within their fields."""
    if is_typeddict(hint):
        yield hint
    for inner in get_args(hint) if get_origin(hint) is not Literal else ():
        yield from types_below(inner)


def types_of(roots: tuple[Any, ...]) -> list[Any]:
    """Every TypedDict of a document, the top first, each before the types of its fields."""
    found: list[Any] = []

    def visit(cls: Any) -> None:
        if cls not in found:
            found.append(cls)
            for field in fields(cls):
                for inner in types_below(field.type):
                    visit(inner)

    for root in roots:
        visit(root)
    return found


def words(hint: Any) -> str:
    """A type in words, the types of this page as links."""
    origin, arguments = get_origin(hint), get_args(hint)
    if is_typeddict(hint):
        return f"[{hint.__name__}](#{hint.__name__.lower()})"
    if origin is Literal:
        return _either([f'`"{one}"`' if isinstance(one, str) else f"`{one}`" for one in arguments])
    if origin in (Union, types.UnionType):
        return _either([words(one) for one in arguments])
    if origin is list:
        return f"[{words(arguments[0])}]"
    if origin is dict:
        key, value = arguments
        return f"{{{'name' if key is str else words(key)}: {words(value)}}}"
    return WORDS[hint]


def _either(choices: list[str]) -> str:
    *first, last = choices
    return f"{', '.join(first)} or {last}" if first else last


def page() -> str:
    """The whole page as Markdown."""
    lines: list[str] = [HEAD]
    written: set[Any] = set()
    for one in DOCUMENTS:
        lines += ["", f"## {one.name}", *([""] if one.about else []), *one.about.splitlines()]
        for cls in types_of(one.roots):
            if cls not in written:
                written.add(cls)
                lines += ["", f"### {cls.__name__}", "", _escaped(inspect.getdoc(cls) or ""), "", *_table(cls)]
    return "\n".join(lines) + "\n"


def _table(cls: Any) -> list[str]:
    rows = [
        f"| `{field.name}` | {words(field.type)}{', may be absent' if field.optional else ''} "
        f"| {_escaped(field.meaning)} |"
        for field in fields(cls)
    ]
    return ["| field | type | meaning |", "|---|---|---|", *rows]


def _escaped(text: str) -> str:
    """Text of which no sign is Markdown's, but for backticks."""
    return text.replace("*", "\\*")


if __name__ == "__main__":
    print(page(), end="")
