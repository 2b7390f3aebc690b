"""Scaling laws as frozen values, and the registry of all of them.

A new law is one class: declare its parameters, write its formula, and list it in its module's tuple. Gradients, scaled
fitting, the compute optimum, printing, the report's JavaScript and tests follow from the declaration.
"""

from scaling.analysis.laws.coupled import COUPLED
from scaling.analysis.laws.law import Law
from scaling.analysis.laws.one_variable import ONE_VARIABLE
from scaling.analysis.laws.size_and_data import SIZE_AND_DATA

LAWS: dict[str, type[Law]] = {law.name: law for law in (*SIZE_AND_DATA, *COUPLED, *ONE_VARIABLE)}
