"""Checkpoints of sharded runs are those of one device: any number of ranks and kind of parallelism resumes them."""

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from scaling.records.attempt import Attempt, LostError, run_state
from scaling.records.life import Reporter
from scaling.train import checkpoint
from scaling.train.checkpoint import Checkpoint
from scaling.train.parallel.ranks import Ranks, meeting_place
from scaling.train.parallel.sharded_step import ShardedStepper
from scaling.train.step import Stepper
from tests.examples import FAMILIES
from tests.train.parallel.shared_steps import CPU, SEQUENCES, batch_of, cases
from tests.train.parallel.test_leader import At, assert_same_run, followers, send, train
from tests.train.test_loop import curve, run, spec_for


@pytest.fixture
def one() -> Iterator[Ranks]:
    """A world of one rank."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    ranks = Ranks(0, 1, meeting_place("127.0.0.1", 0, 60.0, opened=True), CPU, 60.0)
    yield ranks
    ranks.close()


def saved(stepper: Stepper, path: Path) -> Checkpoint:
    """A checkpoint of the stepper's model and optimizer."""
    path.mkdir()
    checkpoint.save(Attempt(path, 1), checkpoint.tables_of(*stepper.whole()), {"step": 3})
    found = checkpoint.latest(path).checkpoint
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["mup", "muon"])
def test_a_sharded_model_reads_and_writes_the_checkpoint_of_one_device(name: str, one: Ranks, tmp_path: Path) -> None:
    case = cases()[name]
    recipe = case.spec.recipe
    plain = Stepper(case.model(), recipe, SEQUENCES, CPU)
    for step in (1, 2, 3):
        plain.take(batch_of(case.spec, step), 1.0)
    first = saved(plain, tmp_path / "plain")
    sharded = ShardedStepper(case.model(), recipe, SEQUENCES, one, 1, case.model)
    sharded.restore(first)
    second = saved(sharded, tmp_path / "sharded")
    for file in ("model", "optimizer"):
        ours, theirs = (load_file(found.path / f"{file}.safetensors") for found in (second, first))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], tensor) for key, tensor in theirs.items())
    for step in (4, 5, 6):
        losses = [float(stepper.take(batch_of(case.spec, step), 1.0).loss) for stepper in (plain, sharded)]
        assert losses[1] == pytest.approx(losses[0], rel=1e-6)


def test_the_state_of_another_optimizer_is_refused(one: Ranks, tmp_path: Path) -> None:
    muon, adamw = cases()["muon"], cases()["decoder"]
    stepper = Stepper(muon.model(), muon.spec.recipe, SEQUENCES, CPU)
    stepper.take(batch_of(muon.spec, 1), 1.0)
    sharded = ShardedStepper(adamw.model(), adamw.spec.recipe, SEQUENCES, one, 1, adamw.model)
    with pytest.raises(ValueError, match="was written by another version of this program"):
        sharded.restore(saved(stepper, tmp_path / "r"))


@pytest.mark.long
@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_run_goes_on_over_kinds_of_parallelism(kind: str, tmp_path: Path) -> None:
    model, objective = FAMILIES["encoder_decoder"]
    spec = spec_for(model=model, objective=objective)
    spec = replace(spec, recipe=replace(spec.recipe, optimizer=replace(spec.recipe.optimizer, kind=kind)))
    alone = run(spec, tmp_path / "alone")
    path = tmp_path / "ranks"
    with pytest.raises(KeyboardInterrupt, match=r"stopped at step \d+ of 40, checkpoint written"):
        train(spec, path, 2, At(8, send(signal.SIGUSR2)), parallel="fsdp")
    assert followers() == []
    with pytest.raises(KeyboardInterrupt):
        train(spec, path, 1, At(20, send(signal.SIGUSR2), alone=True))
    resumed = train(spec, path, 4, Reporter(), parallel="ddp")
    files = [path / "s" / spec.run_id / "attempts" / name / "meta.json" for name in ("0002", "0003")]
    steps = [json.loads(file.read_text())["resumed_from_step"] for file in files]
    assert 8 <= steps[0] < 20 <= steps[1] < 40
    assert_same_run(resumed, alone, 1e-6)
    for ours, theirs in zip(curve(path, spec), curve(tmp_path / "alone", spec), strict=True):
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-5)


@pytest.mark.long
def test_a_killed_rank_of_a_sharded_run_ends_the_others_and_the_run_goes_on(tmp_path: Path) -> None:
    spec = spec_for()
    alone = run(spec, tmp_path / "alone")
    with pytest.raises(LostError, match=r"rank 1 of 3 was killed \(SIGKILL\)"):
        train(spec, tmp_path / "ranks", 3, At(20, send(signal.SIGKILL)), parallel="fsdp", checkpoint_every_s=0.0)
    assert followers() == []
    assert run_state(tmp_path / "ranks" / "s" / spec.run_id).status == "lost"
    resumed = train(spec, tmp_path / "ranks", 4, Reporter(), parallel="hsdp")
    meta = json.loads((tmp_path / "ranks" / "s" / spec.run_id / "attempts" / "0002" / "meta.json").read_text())
    assert meta["resumed_from_step"] >= 20
    assert resumed.hardware["parallel"] == "hsdp"
    assert_same_run(resumed, alone, 1e-6)


@pytest.mark.long
def test_a_hanging_rank_of_a_sharded_run_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(LostError, match=r"one of the ranks 1 to 1 hangs: no answer within runtime.rank_timeout_s=20"):
        train(spec_for(), tmp_path, 2, At(8, send(signal.SIGSTOP)), rank_timeout_s=20, parallel="fsdp")
    assert followers() == []


def test_a_sharded_run_measures_gradient_noise_where_one_process_does(tmp_path: Path) -> None:
    spec = spec_for(steps=66)
    alone = run(spec, tmp_path / "alone")
    ours = train(spec, tmp_path / "ranks", 2, Reporter(), parallel="fsdp", rank_timeout_s=60.0)
    assert_same_run(ours, alone, 1e-6)
    measured = [row for row in curve(tmp_path / "alone", spec) if row.get("noise_steps")]
    assert measured
    rows = [row for row in curve(tmp_path / "ranks", spec) if row.get("noise_steps")]
    assert [row["step"] for row in rows] == [row["step"] for row in measured]
    for found, expected in zip(rows, measured, strict=True):
        assert found["grad_square"] == pytest.approx(expected["grad_square"], rel=1e-3)
        assert found["grad_trace"] == pytest.approx(expected["grad_trace"], rel=1e-3)
