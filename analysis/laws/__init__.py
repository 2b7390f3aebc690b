"""Scaling laws as frozen values, and the registry of all of them.

A new law is one class: declare its parameters, write its formula, and list it in its module's tuple. Gradients, scaled
fitting, the compute optimum, printing, the report's JavaScript and tests follow from the declaration. `law_named` finds
a law of any text: a name of the registry, a formula, a family with its columns, or an own class.
"""

from scaling.analysis.laws.coupled import COUPLED
from scaling.analysis.laws.formulas import FORMULAS
from scaling.analysis.laws.law import Law
from scaling.analysis.laws.named import Registry
from scaling.analysis.laws.named import law_named as _law_named
from scaling.analysis.laws.one_variable import ONE_VARIABLE
from scaling.analysis.laws.size_and_data import SIZE_AND_DATA

LAWS: dict[str, type[Law]] = Registry({law.name: law for law in (*SIZE_AND_DATA, *COUPLED, *ONE_VARIABLE, *FORMULAS)})


def law_named(text: str, columns: tuple[str, ...] | None = None) -> type[Law]:
    """Return the law of a text (see `named.law_named`), a formula's over these columns."""
    return _law_named(LAWS, text, columns)
