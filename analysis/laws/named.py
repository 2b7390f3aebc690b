"""The law of a text: a name of the registry, a formula, or an own class as module:Class."""

import importlib
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from scaling.analysis.laws.formula_law import formula_law, is_formula
from scaling.analysis.laws.law import Law
from scaling.registry import choose

DOMAIN_MIXTURE = "domain_mixture"
OWN = re.compile(r"([A-Za-z_][\w.]*):([A-Za-z_]\w*)")


class Registry(dict[str, type[Law]]):
    """The shipped laws by name; a key that is a formula with its columns, or module:Class, gives that law too.

    Documents name laws by such keys, so whoever reads one needs no case of its own for laws that are not shipped.
    """

    def __missing__(self, key: str) -> type[Law]:
        try:
            return law_named(self, key, None)
        except ValueError as error:
            raise KeyError(str(error)) from None


def law_named(laws: Mapping[str, type[Law]], text: str, columns: tuple[str, ...] | None) -> type[Law]:
    """Return the law of a text; `columns` are those of the data, which a formula needs unless it lists its own.

    ValueError, in one line, names an unknown law, module or class, and a formula's fault.
    """
    if text in laws:
        return laws[text]
    name, _, shares = text.partition(":")
    if name == DOMAIN_MIXTURE:
        if not shares:
            raise ValueError(
                f"{name} takes the columns of the shares, the one of the loss's own domain first: {name}:web,code,books"
            )
        return formula_law(f"mixture({', '.join(f'`{one.strip()}`' for one in shares.split(','))})", columns)
    if is_formula(text):
        return formula_law(text, columns)
    own = OWN.fullmatch(text)
    if own is None:
        return choose("law", laws, text)
    return own_law(*own.groups())


def own_law(module: str, name: str) -> type[Law]:
    """Return a user's law, a class of a module that Python finds in the present folder or among what is installed."""
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0] and error.name != module:
            raise ValueError(f"the law {module}:{name}: {module} imports {error.name!r}, which is not there") from None
        raise ValueError(
            f"the law {module}:{name}: there is no module {module!r} in {Path.cwd()} or among the installed ones; "
            "a shipped law stands by itself, and one of one variable as power:C"
        ) from None
    law = getattr(found, name, None)
    if not (isinstance(law, type) and issubclass(law, Law)):
        own = [key for key, one in vars(found).items() if isinstance(one, type) and issubclass(one, Law)]
        mine = [key for key in own if vars(found)[key].__module__ == found.__name__] or own
        raise ValueError(f"{module} has no law {name!r}: choose from {', '.join(mine) or 'none, it defines no law'}")
    return type(law.__name__, (law,), {"name": f"{module}:{name}", "__doc__": law.__doc__})
