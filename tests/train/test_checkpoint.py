"""Checkpoints read back: each kind of damage is named and never blocks its run, and the result stays bit for bit."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from scaling.cli import main
from scaling.records.leftovers import SUMS
from scaling.records.record import RunRecord
from scaling.train import checkpoint
from scaling.train.run import train_run
from scaling.train.sums import damage, write_sums
from tests.damage import DAMAGE, flip
from tests.examples import asked, runtime_in
from tests.train.test_loop import DATA, StopAt, run, spec_for

FILES = ("model.safetensors", "optimizer.safetensors", "state.json", SUMS)
SPEC = spec_for()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    return run(SPEC, tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose run was stopped twice, about step 10 and about step 22, and has a checkpoint of each."""
    path = tmp_path_factory.mktemp("stopped")
    for stop_at in (8, 20):
        with pytest.raises(KeyboardInterrupt):
            train_run(asked(SPEC, DATA, runtime_in(path), 1e6), StopAt(stop_at))
    return path


@pytest.fixture
def study(stopped: Path, tmp_path: Path) -> Path:
    return shutil.copytree(stopped, tmp_path / "study")


def checkpoints(study: Path) -> list[Path]:
    """The checkpoints of the study's run, the newest first."""
    found = sorted((study / "s" / SPEC.run_id / "checkpoint").glob("[0-9]*"), reverse=True)
    assert len(found) == 2
    return found


def start_of(study: Path) -> int:
    """The step that the third attempt started from."""
    meta = json.loads((study / "s" / SPEC.run_id / "attempts" / "0003" / "meta.json").read_text())
    return int(meta["resumed_from_step"])


def step_of(path: Path) -> int:
    return int(path.name.partition("-")[2])


def make_old(path: Path) -> None:
    """Make a checkpoint one of those from before digests."""
    (path / SUMS).unlink()
    state = json.loads((path / "state.json").read_text())
    del state[checkpoint.DIGESTS]
    (path / "state.json").write_text(json.dumps(state))


@pytest.mark.parametrize("harm", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("file", FILES)
def test_every_damage_to_every_file_is_seen_and_leads_to_the_checkpoint_before(
    study: Path, file: str, harm: Callable[[Path], None]
) -> None:
    newest, before = checkpoints(study)
    harm(newest / file)
    start = checkpoint.latest(study / "s" / SPEC.run_id)
    assert start.checkpoint is not None
    assert (start.checkpoint.path, start.damaged, len(start.warnings)) == (before, (newest,), 1)
    assert newest.exists()  # until the run is claimed, the process that trains it may be another


@pytest.mark.parametrize(("file", "harm"), [("optimizer.safetensors", "flip"), ("state.json", "null")])
def test_a_damaged_checkpoint_is_named_once_and_the_run_goes_on_from_the_one_before(
    study: Path, whole: RunRecord, file: str, harm: str, capfd: pytest.CaptureFixture[str]
) -> None:
    newest, before = checkpoints(study)
    DAMAGE[harm](newest / file)
    record = run(SPEC, study)
    assert (record.attempts, start_of(study)) == (3, step_of(before))
    assert record.weights_sha256 == whole.weights_sha256
    assert record.val_loss_nats == whole.val_loss_nats
    (warning,) = capfd.readouterr().err.splitlines()
    assert warning.startswith(f"warning: {newest} is damaged: ")
    assert warning.endswith(f"the run resumes from step {step_of(before)}, {before.name}")
    assert not list(newest.parent.glob(".*"))


def test_a_run_whose_checkpoints_are_all_damaged_starts_anew(
    study: Path, whole: RunRecord, capfd: pytest.CaptureFixture[str]
) -> None:
    for path in checkpoints(study):
        flip(path / "optimizer.safetensors")
    record = run(SPEC, study)
    assert (record.attempts, start_of(study)) == (3, 0)
    assert record.weights_sha256 == whole.weights_sha256
    warnings = capfd.readouterr().err.splitlines()
    assert len(warnings) == 2
    assert all("optimizer.safetensors has the sha256" in warning for warning in warnings)
    assert all(warning.endswith("the run starts anew") for warning in warnings)
    assert main(["status", str(study / "s")]) == 0
    assert capfd.readouterr().out.count("is damaged: optimizer.safetensors") == 2


def test_a_checkpoint_without_damage_is_used_without_a_word(study: Path, capfd: pytest.CaptureFixture[str]) -> None:
    newest, _ = checkpoints(study)
    assert run(SPEC, study).attempts == 3
    assert start_of(study) == step_of(newest)
    assert capfd.readouterr().err == ""


def test_a_checkpoint_from_before_digests_is_used_and_named(
    study: Path, whole: RunRecord, capfd: pytest.CaptureFixture[str]
) -> None:
    newest, _ = checkpoints(study)
    make_old(newest)
    assert run(SPEC, study).weights_sha256 == whole.weights_sha256
    assert start_of(study) == step_of(newest)
    (warning,) = capfd.readouterr().err.splitlines()
    assert warning == f"warning: {newest} is from before checkpoints had digests: damage to its numbers cannot be seen"


@pytest.mark.parametrize("harm", ["truncate", "zero", "null", "unlink"])
@pytest.mark.parametrize("file", FILES[:3])
def test_a_checkpoint_from_before_digests_with_a_broken_file_blocks_no_run(study: Path, file: str, harm: str) -> None:
    newest, before = checkpoints(study)
    for path in (newest, before):
        make_old(path)
    DAMAGE[harm](newest / file)
    start = checkpoint.latest(study / "s" / SPEC.run_id)
    assert start.checkpoint is not None
    assert start.checkpoint.path == before


def test_a_damaged_checkpoint_counts_as_none_when_old_ones_are_removed(study: Path) -> None:
    """Otherwise one whole checkpoint would be left, and a second damage would cost the run all its steps."""
    newest, before = checkpoints(study)
    flip(newest / "model.safetensors")
    with pytest.raises(KeyboardInterrupt):
        train_run(asked(SPEC, DATA, runtime_in(study, checkpoint_every_s=0.0), 1e6), StopAt(step_of(before) + 1))
    assert [damage(path) for path in checkpoints(study)] == ["", ""]


def test_sums_are_those_of_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    write_sums(tmp_path)
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert (tmp_path / SUMS).read_text() == f"{digest}  a\n"
    assert damage(tmp_path) == ""
    (tmp_path / "b").touch()
    assert damage(tmp_path) == "SHA256SUMS does not list b"


@pytest.mark.parametrize("harm", ["flip", "truncate", "zero"])
def test_damaged_final_weights_are_refused_with_both_digests_and_a_remedy(
    tmp_path: Path, harm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    record = run(SPEC, tmp_path)
    run_dir = tmp_path / "s" / SPEC.run_id
    assert checkpoint.weights_digest(checkpoint.final_weights(run_dir, record.weights_sha256)) == record.weights_sha256
    (file,) = run_dir.glob("checkpoint/*/model.safetensors")
    DAMAGE[harm](file)
    with pytest.raises(ValueError, match=f"(not|sha256) {record.weights_sha256[:12]}.*put back a whole copy") as error:
        checkpoint.final_weights(run_dir, record.weights_sha256)
    assert str(error.value).startswith(str(file))
    if harm == "flip":
        assert checkpoint.weights_digest(load_file(file))[:12] in str(error.value)
    for command in (["profile", str(run_dir)], ["export", str(run_dir), "--out", str(tmp_path / "out")]):
        assert main(command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert record.weights_sha256[:12] in line


def test_a_gpu_waits_for_checkpoints_for_a_thirtieth_of_its_time_at_most() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert checkpoint.pause_s(60, 1, cuda) == checkpoint.pause_s(60, 20, cpu) == 60
    assert checkpoint.pause_s(60, 20, cuda) == 600
