"""Whether JSON conforms to the types that describe it, and `analyse` with its document checked so."""

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

from scaling.analysis.results import document
from scaling.analysis.runs.observations import Observations
from scaling.analysis.schema.document import Results

SIMPLE = {bool: (bool,), int: (int,), float: (float, int), str: (str,), type(None): (type(None),)}


def misfits(value: Any, hint: Any, at: str = "") -> Iterator[str]:
    """The places at which a value is not of its type, and their contents, a line each."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Annotated, NotRequired):
        yield from misfits(value, arguments[0], at)
    elif is_typeddict(hint):
        yield from _of_fields(value, hint, at)
    elif origin in (Union, types.UnionType):
        found = [list(misfits(value, one, at)) for one in arguments]
        if all(found):
            yield from min(found, key=len)
    elif origin is Literal:
        if not any(value == one and type(value) is type(one) for one in arguments):
            yield f"{at}: {value!r} is none of {arguments}"
    elif origin is list:
        if not isinstance(value, list):
            yield f"{at}: {value!r:.80} is no list"
            return
        for k, one in enumerate(value):
            yield from misfits(one, arguments[0], f"{at}[{k}]")
    elif origin is dict:
        if not isinstance(value, dict):
            yield f"{at}: {value!r:.80} is no object"
            return
        for name, one in value.items():
            yield from misfits(name, arguments[0], f"{at}.{name} (its name)")
            yield from misfits(one, arguments[1], f"{at}.{name}")
    elif not isinstance(value, SIMPLE[hint]) or (isinstance(value, bool) and hint is not bool):
        yield f"{at}: {value!r:.80} is no {hint.__name__}"


def _of_fields(value: Any, cls: Any, at: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{at}: {value!r:.80} is no {cls.__name__}"
        return
    hints = get_type_hints(cls, include_extras=True)
    yield from (f"{at}.{name} is missing from {cls.__name__}" for name in sorted(cls.__required_keys__ - set(value)))
    for name, one in value.items():
        if name in hints:
            yield from misfits(one, hints[name], f"{at}.{name}")
        else:
            yield f"{at}.{name} is not a field of {cls.__name__}"


def assert_conforms(value: Any, hint: Any) -> None:
    """Fail with the first places at which the value is not of its type."""
    found = list(misfits(value, hint))
    assert not found, "\n".join(found[:10])


def analyse(observations: Observations, **settings: Any) -> Any:
    """The results of an analysis, which conform to their types."""
    results = document.analyse(observations, **settings)
    assert_conforms(results, Results)
    return results
