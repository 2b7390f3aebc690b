"""From runs, or anybody's table of runs, to fitted scaling laws with honest intervals.

The package is imported as `scaling.analysis`, which no folder `analysis` of a user's own can hide.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scaling.analysis.figures import draw as draw
    from scaling.analysis.fitting.fit_runs import fit as fit
    from scaling.analysis.judgement.forecast import predict as predict
    from scaling.analysis.laws import LAWS as LAWS
    from scaling.analysis.results.document import analyse as analyse
    from scaling.analysis.results.document import read as read
    from scaling.analysis.runs.observations import load as load

# The first things that a notebook needs, by the module of each; a name is imported when it is first used.
_MODULES = {
    "LAWS": "laws",
    "analyse": "results.document",
    "draw": "figures",
    "fit": "fitting.fit_runs",
    "load": "runs.observations",
    "predict": "judgement.forecast",
    "read": "results.document",
}
__all__ = ["LAWS", "analyse", "draw", "fit", "load", "predict", "read"]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"scaling.analysis.{_MODULES[name]}"), name)


if __name__ == "analysis":  # imported as the folder of a checkout, by its name up to 0.2
    from scaling.analysis.old_name import install

    install()
    sys.modules[__name__] = importlib.import_module("scaling.analysis")
