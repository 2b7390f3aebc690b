"""A study in the parts that are fitted by themselves: analysed one by one, compared where they can be, kept in folders.

`comparable` says what a part is. The results of a single one lie in FOLDER/results.json, of several in
FOLDER/PART/results.json.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.judgement.treatments import compare
from analysis.results.document import analyse, write
from analysis.results.sections import plain
from analysis.runs.comparable import parts_of, why_apart
from analysis.runs.observations import Observations

Results = Mapping[str, Any]
Json = dict[str, Any]

FILE = "results.json"


def analyse_parts(observations: Observations, **settings: Any) -> tuple[dict[str, Json], list[str]]:
    """Results by the part's name ("" for a single one), and what to say of the parts, a line each.

    `settings` are those of `results.analyse`. Of several parts one that cannot be analysed is said, with the reason,
    and leaves the others be; ValueError where none can.
    """
    groups = parts_of(observations)
    apart = why_apart(groups)
    said = [*apart]
    analysed: dict[str, Json] = {}
    errors: list[ValueError] = []
    for group in groups:
        for name, part in group.items():
            try:
                analysed[name] = analyse(part, **settings)
            except ValueError as error:
                errors.append(error)
                said.append(f"{name} was not analysed: {error}")
        comparison = plain(compare(group, analysed))
        for name in group.keys() & analysed.keys():
            analysed[name]["comparison"] = comparison
            analysed[name]["notes"] += apart
    if not analysed:
        raise errors[0]
    return analysed, said


def compared(analysed: Mapping[str, Results]) -> list[Results]:
    """The first part's results of every comparison that the parts' hold."""
    found: dict[str, Results] = {}
    for results in analysed.values():
        if results["comparison"] is not None:
            found.setdefault(next(iter(results["comparison"]["treatments"])), results)
    return list(found.values())


def write_parts(analysed: Mapping[str, Json], folder: Path) -> dict[str, Path]:
    """Write every part's results.json; returns their paths by the part's name."""
    paths = {name: folder / name / FILE for name in analysed}
    for name, path in paths.items():
        write(analysed[name], path)
    if "" not in analysed:
        (folder / FILE).unlink(missing_ok=True)  # of an earlier analysis that did not tell these apart
    return paths


def results_files(path: Path) -> dict[str, Path]:
    """The path itself, or, where a study's parts were fitted apart, each part's by its name."""
    found = {one.parent.name: one for one in sorted(path.parent.glob(f"*/{FILE}"))}
    return found if path.name == FILE and not path.exists() and len(found) > 1 else {"": path}
