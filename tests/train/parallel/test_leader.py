"""A run over several processes: the same run as in one, by its record, and no process left behind, however it ends."""

import dataclasses
import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scaling.records.attempt import LostError, run_state
from scaling.records.life import Reporter
from scaling.records.record import RunRecord
from scaling.spec.run_spec import RunSpec
from scaling.train.parallel import leader
from scaling.train.run import train_run
from tests.examples import ENCODER, FAMILIES, TINY, asked, runtime_in
from tests.train.test_loop import DATA, PAIR, curve, run, spec_for

FREE = {"hardware", "versions", "started_at", "ended_at", "wall_s", "train_s", "attempts", "weights_sha256"}


def followers() -> list[int]:
    """Processes that this process started for ranks above 0."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = (path / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == os.getpid() and b"scaling.train.parallel.rank" in (path / "cmdline").read_bytes():
                found.append(int(path.name))
        except OSError:
            continue
    return found


class At(Reporter):
    """Does something to the first follower, or to this process, once the run has reported a step."""

    def __init__(self, step: int, act: Callable[[int], None], *, alone: bool = False) -> None:
        self.step, self.act, self.alone = step, act, alone

    def row(self, row: dict[str, Any]) -> None:
        if row["step"] >= self.step and (found := [os.getpid()] if self.alone else followers()):
            self.step = 10**9
            self.act(found[0])


def send(number: int) -> Callable[[int], None]:
    return lambda process: os.kill(process, number)


def train(spec: RunSpec, path: Path, devices: int, reporter: Reporter, **changes: Any) -> RunRecord:
    return train_run(asked(spec, DATA, runtime_in(path, devices_per_run=devices, **changes), 1e6), reporter)


def assert_same_run(found: RunRecord, alone: RunRecord, tolerance: float) -> None:
    ours, theirs = dataclasses.asdict(found), dataclasses.asdict(alone)
    for name in ours.keys() - FREE:
        expected = theirs[name]
        if isinstance(expected, float) or name == "val_auxiliary_nats":
            expected = pytest.approx(expected, rel=tolerance)
        assert ours[name] == expected, name


def test_a_signal_to_one_rank_stops_all_with_a_checkpoint_and_another_number_resumes(tmp_path: Path) -> None:
    model, objective = FAMILIES["encoder_decoder"]
    spec = spec_for(model=model, objective=objective)
    alone = run(spec, tmp_path / "alone")
    with pytest.raises(KeyboardInterrupt, match=r"stopped at step \d+ of 40, checkpoint written"):
        train(spec, tmp_path / "ranks", 2, At(12, send(signal.SIGUSR2)))
    assert followers() == []
    resumed = run(spec, tmp_path / "ranks")
    meta = json.loads((tmp_path / "ranks" / "s" / spec.run_id / "attempts" / "0002" / "meta.json").read_text())
    assert 12 <= meta["resumed_from_step"] <= 20
    assert_same_run(resumed, alone, 1e-6)
    for ours, theirs in zip(curve(tmp_path / "ranks", spec), curve(tmp_path / "alone", spec), strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            assert ours[name] == (value if value is None else pytest.approx(value, rel=1e-5)), name
    assert (alone.hardware["devices_per_run"], resumed.hardware["devices_per_run"]) == (1, 1)


@pytest.mark.long
@pytest.mark.parametrize("devices", [2, 4])
def test_a_run_on_several_devices_is_the_run_on_one(devices: int, tmp_path: Path) -> None:
    spec = spec_for(model=replace(ENCODER, vocab_size=40, next_sentence=True), objective=PAIR, steps=80)
    alone = run(spec, tmp_path / "alone")
    shared = train(spec, tmp_path / "ranks", devices, Reporter(), checkpoint_every_s=0.0)
    assert followers() == []
    assert shared.hardware["devices_per_run"] == devices
    assert_same_run(shared, alone, 1e-5)


@pytest.mark.long
def test_dropout_of_two_ranks_differs_and_is_the_same_in_every_attempt(tmp_path: Path) -> None:
    spec = spec_for(model=replace(TINY, dropout=0.2))
    whole = train(spec, tmp_path / "whole", 2, Reporter())
    with pytest.raises(KeyboardInterrupt):
        train(spec, tmp_path / "cut", 2, At(12, send(signal.SIGTERM)))
    assert train(spec, tmp_path / "cut", 2, Reporter()).weights_sha256 == whole.weights_sha256


@pytest.mark.long
def test_a_killed_rank_ends_the_others_and_the_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    spec = spec_for()
    alone = run(spec, tmp_path / "alone")
    with pytest.raises(LostError, match=r"rank 1 of 3 was killed \(SIGKILL\)"):
        train(spec, tmp_path / "ranks", 3, At(20, send(signal.SIGKILL)), checkpoint_every_s=0.0)
    assert followers() == []
    state = run_state(tmp_path / "ranks" / "s" / spec.run_id)
    assert (state.status, state.why) == ("lost", "LostError: rank 1 of 3 was killed (SIGKILL)")
    resumed = train(spec, tmp_path / "ranks", 2, Reporter())
    meta = json.loads((tmp_path / "ranks" / "s" / spec.run_id / "attempts" / "0002" / "meta.json").read_text())
    assert meta["resumed_from_step"] >= 20
    assert_same_run(resumed, alone, 1e-6)


@pytest.mark.long
def test_a_hanging_rank_is_noticed(tmp_path: Path) -> None:
    spec = spec_for()
    with pytest.raises(LostError, match=r"one of the ranks 1 to 1 hangs: no answer within runtime.rank_timeout_s=20"):
        train(spec, tmp_path, 2, At(8, send(signal.SIGSTOP)), rank_timeout_s=20)
    assert followers() == []


def test_the_error_of_a_rank_is_the_error_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = leader.run_values

    def damaged(asked_run: Any) -> dict[str, Any]:
        return values(asked_run) | {"init_from": str(tmp_path / "gone")}

    monkeypatch.setattr(leader, "run_values", damaged)
    spec = spec_for()
    with pytest.raises(RuntimeError, match=r"rank 1 of 2 failed: ValueError: .*gone.*; its log is .*rank-1.log"):
        train(spec, tmp_path, 2, Reporter())
    state = run_state(tmp_path / "s" / spec.run_id)
    assert state.status == "failed"
    assert "Traceback" in (tmp_path / "s" / spec.run_id / "attempts" / "0001" / "rank-1.log").read_text()
    assert followers() == []
