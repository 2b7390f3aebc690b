"""Ranks shard the steps of a run: losses, norms, noise and validation of one process, whatever each rank holds."""

from functools import cache

import pytest
import torch

from tests.train.parallel.shared_steps import STEPS, Found, cases, leading, taken
from tests.train.parallel.test_ranks import ROUNDING, TOLERANCE

QUICK = ("muon, accumulated",)
GROUPS = {  # number of ranks, number of shards of a copy, steps, and the cases whose steps they share
    "quick": (2, 2, 8, QUICK),
    "fsdp of two": (2, 2, STEPS, tuple(cases())),
    "fsdp of three": (3, 3, STEPS, tuple(cases())),
    "fsdp of four": (4, 4, STEPS, tuple(cases())),
    "hsdp of four": (4, 2, STEPS, tuple(cases())),
}
GRID = [
    pytest.param(group, name, marks=[] if group == "quick" else [pytest.mark.long])
    for group, (*_, names) in GROUPS.items()
    for name in names
]


@cache  # and no fixture, which would train a group anew wherever pytest orders tests by another parameter
def shared(group: str) -> tuple[int, dict[str, Found]]:
    count, shards, steps, names = GROUPS[group]
    with leading(count, names, shards, steps) as ranks:
        return steps, {name: taken(cases()[name], ranks, shards, steps) for name in names}


@pytest.mark.parametrize(("group", "name"), GRID)
def test_ranks_with_shards_take_the_steps_of_one_process(group: str, name: str) -> None:
    steps, found = shared(group)
    ours, alone = found[name], taken(cases()[name], None, steps=steps)
    tolerance = ROUNDING.get(name, TOLERANCE)
    assert ours.initial == alone.initial  # the same initial weights, bit for bit
    assert ours.losses == pytest.approx(alone.losses, rel=tolerance)
    assert ours.auxiliary == pytest.approx(alone.auxiliary, rel=tolerance)
    assert ours.norms == pytest.approx(alone.norms, rel=100 * tolerance)  # a mean over ranks would be a part of it
    assert ours.before == alone.before
    assert ours.after.loss_nats == pytest.approx(alone.after.loss_nats, rel=tolerance)
    assert ours.final.keys() == alone.final.keys()
    if cases()[name].unused:
        assert torch.equal(ours.final["head_unused"], alone.final["head_unused"])
        assert ours.final["head_unused"].max() < 1  # it decays
    if "accumulated" not in name:  # one process measures by a micro-batch there, and ranks by one of each
        assert ours.noise == pytest.approx(alone.noise, rel=1000 * tolerance)
