"""The parts of a study: each analysed by itself, compared where they compare, kept in folders.

`comparable` defines a part. The results of a single part lie in FOLDER/results.json, of several in
FOLDER/PART/results.json.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scaling.analysis.judgement.treatments import compare
from scaling.analysis.results.document import analyse, write
from scaling.analysis.runs.comparable import parts_of, why_apart
from scaling.analysis.runs.observations import Observations
from scaling.analysis.schema.document import Results
from scaling.analysis.schema.treatments import ComparisonSection

FILE = "results.json"


@np.errstate(all="ignore")  # of a comparison, as of the analysis
def analyse_parts(
    observations: Observations, *, by: Sequence[str] = (), **settings: Any
) -> tuple[dict[str, Results], list[str]]:
    """Results by the part's name ("" for a single one), and lines about the parts, such as why they are apart.

    `by` names columns whose values are analysed apart; `settings` are those of `document.analyse`. A part that cannot
    be analysed gets a line with the reason and leaves the others be; ValueError where none can.
    """
    groups = parts_of(observations, by)
    apart = why_apart(groups, by)
    lines = [*apart]
    analysed: dict[str, Results] = {}
    errors: list[ValueError] = []
    for group in groups:
        for name, part in group.items():
            try:
                analysed[name] = analyse(part, **settings)
            except ValueError as error:
                errors.append(error)
                lines.append(f"{name} was not analysed: {error}")
        comparison = compare(group, analysed)
        for name in group.keys() & analysed.keys():
            analysed[name]["comparison"] = comparison
            analysed[name]["notes"] += apart
    if not analysed:
        raise errors[0]
    return analysed, lines


def compared(analysed: Mapping[str, Results]) -> list[tuple[Results, ComparisonSection]]:
    """Every comparison that the parts hold, once, beside the results of its first part."""
    found: dict[str, tuple[Results, ComparisonSection]] = {}
    for results in analysed.values():
        if (comparison := results["comparison"]) is not None:
            found.setdefault(next(iter(comparison["treatments"])), (results, comparison))
    return list(found.values())


def write_parts(analysed: Mapping[str, Results], folder: Path) -> dict[str, Path]:
    """Write every part's results.json; returns their paths by the part's name."""
    paths = {name: folder / name / FILE for name in analysed}
    for name, path in paths.items():
        write(analysed[name], path)
    if "" not in analysed:
        (folder / FILE).unlink(missing_ok=True)  # of an earlier analysis that held these parts together
    return paths


def results_files(path: Path) -> dict[str, Path]:
    """The path itself, or, where a study's parts were fitted apart, each part's by its name."""
    found = {one.parent.name: one for one in sorted(path.parent.glob(f"*/{FILE}"))}
    return found if path.name == FILE and not path.exists() and len(found) > 1 else {"": path}
