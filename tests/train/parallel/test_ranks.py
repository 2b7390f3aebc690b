"""Ranks share the steps of a run: the losses, gradients and validation of one process, by any number of them."""

from functools import cache

import pytest

from tests.train.parallel.shared_steps import Found, cases, leading, taken

TOLERANCE = 1e-5  # relative, of a loss: what summing in another order does in float32 over so many steps
ROUNDING = {"bf16": 1e-2, "bf16, recomputed": 1e-2}  # a bfloat16 rounds at its third digit


QUICK = ("whole words", "next sentence")
GROUPS = {  # number of ranks, and the cases whose steps they share
    "quick": (2, QUICK),
    "two": (2, tuple(name for name in cases() if name not in QUICK)),
    "three": (3, tuple(cases())),
    "four": (4, tuple(cases())),
}
GRID = [
    pytest.param(group, name, marks=[] if group == "quick" else [pytest.mark.long])
    for group, (_, names) in GROUPS.items()
    for name in names
]


@cache  # and no fixture, which would train a group anew wherever pytest orders tests by another parameter
def shared(group: str) -> tuple[int, dict[str, Found]]:
    count, names = GROUPS[group]
    with leading(count, names) as ranks:
        return count, {name: taken(cases()[name], ranks) for name in names}


@pytest.mark.parametrize(("group", "name"), GRID)
def test_ranks_take_the_steps_of_one_process(group: str, name: str) -> None:
    count, found = shared(group)
    ours, alone = found[name], taken(cases()[name], None)
    tolerance = ROUNDING.get(name, TOLERANCE)
    assert ours.losses == pytest.approx(alone.losses, rel=tolerance)
    assert ours.auxiliary == pytest.approx(alone.auxiliary, rel=tolerance)
    assert ours.norms == pytest.approx(alone.norms, rel=100 * tolerance)
    assert ours.before == alone.before  # of the same weights, bit for bit
    assert ours.after.loss_nats == pytest.approx(alone.after.loss_nats, rel=tolerance)
    if count == 2 and "accumulated" not in name:  # the first rank's half is the half that one process measures by
        assert ours.noise == pytest.approx(alone.noise, rel=1000 * tolerance)
