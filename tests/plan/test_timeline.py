"""The timeline of a plan: no slot trains two runs at once, and no order ends before the bound."""

import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.cli import main
from scaling.plan.timeline import in_lines, slots_of, timeline


def plan_of(*seconds: float, trunk: str | None = None, devices: int = 1) -> Any:
    """A plan of runs of these seconds, the longest first; the first of a trunk pays its steps."""
    runs = [
        SimpleNamespace(
            run_id=f"{i:012x}", estimated_s=s, trunk=trunk, paid_flops=s, devices_per_run=devices, slot_s=s * devices
        )
        for i, s in enumerate(sorted(seconds, reverse=True))
    ]
    return SimpleNamespace(missing=runs)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.1, 1e5), min_size=1, max_size=30), st.integers(1, 6), st.booleans())
def test_slots_train_one_run_at_a_time_and_the_bound_holds(seconds: list[float], slots: int, trunk: bool) -> None:
    found = timeline(plan_of(*seconds, trunk="t" if trunk else None), slots)
    assert len(found.stays) == len(seconds)
    for slot in range(slots):
        own = sorted((stay.start_s, stay.end_s) for stay in found.stays if stay.slot == slot)
        assert all(first[1] <= second[0] for first, second in itertools.pairwise(own))
    assert found.lower_bound_s <= found.makespan_s * (1 + 1e-9)
    if not trunk:  # of any order without idle slots (Graham 1966)
        assert found.makespan_s <= (sum(seconds) / slots + max(seconds)) * (1 + 1e-9)
    lines = in_lines(found)
    assert max(map(len, lines)) <= 80


def test_a_run_of_two_devices_stays_on_two_slots() -> None:
    found = timeline(plan_of(4.0, 3.0, 2.0, devices=2), 3)
    assert [(stay.start_s, stay.end_s) for stay in found.stays] == [(0, 4), (0, 4), (4, 7), (4, 7), (7, 9), (7, 9)]
    assert all(first.slot != second.slot for first, second in zip(found.stays[::2], found.stays[1::2], strict=True))
    assert (found.makespan_s, found.lower_bound_s) == (9.0, 6.0)


def test_branches_start_where_their_trunk_has_ended() -> None:
    found = timeline(plan_of(10.0, 4.0, 4.0, trunk="t"), 3)
    assert [(stay.start_s, stay.end_s) for stay in found.stays] == [(0.0, 10.0), (10.0, 14.0), (10.0, 14.0)]
    assert (found.makespan_s, found.lower_bound_s) == (14.0, 14.0)


def test_the_makespan_stands_against_the_bound() -> None:
    head = in_lines(timeline(plan_of(3.0, 3.0, 2.0, 2.0, 2.0), 2))[0]
    assert head == "timeline on 2 slots: 7.0 s; no order takes less than 6.0 s (+17%)"
    assert in_lines(timeline(plan_of(), 2)) == []


def test_slots_follow_the_launcher() -> None:
    assert slots_of({"name": "in_process"}, 9, use_gpus=False) == 1
    assert slots_of({"name": "local", "slots": 3, "threads_per_slot": None}, 9, use_gpus=False) == 3
    assert slots_of({"name": "slurm", "array_parallel": 2, "gpus": 4}, 9, use_gpus=False) == 8
    assert slots_of({"name": "slurm", "array_parallel": None, "gpus": 0}, 9, use_gpus=False) == 9
    assert slots_of({"name": "slurm", "array_parallel": 2, "gpus": 8, "nodes": 2}, 99, use_gpus=False) == 32
    assert slots_of({"name": "ray", "slots": 3, "gpus": 2}, 99, use_gpus=False) == 6
    here = slots_of({"name": "local", "slots": None, "threads_per_slot": None}, 99, use_gpus=False)
    assert slots_of({"name": "ray", "slots": None, "gpus": 2}, 99, use_gpus=False) == here


def test_the_plan_prints_and_states_its_timeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ["plan", "data=synthetic", "model.d_model=64,128,256", "budget.flops=1e14", "hydra.launcher.slots=2"]
    assert main([*asked, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)["timeline"]
    assert document["slots"] == 2
    assert {stay["slot"] for stay in document["runs"]} == {0, 1}
    assert main(asked) == 0
    printed = capsys.readouterr().out
    assert "timeline on 2 slots: " in printed
    assert all(
        any(line.startswith(stay["run_id"]) and "█" in line for line in printed.splitlines())
        for stay in document["runs"]
    )
    assert main([*asked, "--on", "h100", "--count", "3"]) == 0
    assert "timeline on 3 slots: " in capsys.readouterr().out
