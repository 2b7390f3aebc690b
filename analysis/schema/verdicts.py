"""Verdicts: whether the runs reject a law, and the tests behind that."""

from typing import Annotated, Literal, TypeAlias, TypedDict

Tested: TypeAlias = Literal["repeats", "minima", "order", "params", "loss"]


class TestEntry(TypedDict):
    """One test of a law."""

    of: Annotated[
        Tested,
        "F against repeats, or of level and tilt at the minima; order of residuals; power law of N* or of L*",
    ]
    along: Annotated[str, "variable that the residuals are ordered by; empty of other tests"]
    probability: Annotated[float, "probability under the law of a statistic as large, not corrected"]
    words: Annotated[str, "finding, in words"]


class VerdictEntry(TypedDict):
    """The verdict on a law: rejected below a probability of .001, corrected for the number of its tests."""

    rejected: Annotated[bool, "whether the runs reject the law"]
    probability: Annotated[float | None, "least probability times the number of tests, at most 1; null without any"]
    tests: Annotated[list[TestEntry], "tests, in order"]
    words: Annotated[str, "verdict in words"]


def is_rejected(verdict: VerdictEntry | None) -> bool:
    """Whether the runs reject a law or forecaster by its verdict; False without one, as in older files."""
    return verdict is not None and verdict["rejected"]
