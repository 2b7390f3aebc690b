"""Checkpoints written beside training: of the step that saved them, one at a time, whole at every end of a run."""

import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from scaling.model import build
from scaling.records.attempt import Attempt
from scaling.records.leftovers import newest_first
from scaling.records.life import Reporter
from scaling.train import checkpoint, checkpoint_writer
from scaling.train.checkpoint_writer import Writer
from scaling.train.run import train_run
from scaling.train.step import Stepper
from scaling.train.sums import damage, write_sums
from tests.examples import asked, runtime_in
from tests.train.test_loop import DATA, StopAt, curve, run, spec_for

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SPEC = spec_for()
LONG_S = 60.0


class Held:
    """Digests that are written once `released`, so that a write stays in flight until then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.released = threading.Event(), threading.Event()
        monkeypatch.setattr(checkpoint, "write_sums", self)

    def __call__(self, folder: Path) -> None:
        self.begun.set()
        assert self.released.wait(LONG_S)
        write_sums(folder)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    return Held(monkeypatch)


def full(*_: Any) -> None:
    raise OSError(28, "No space left on device")


def stepper() -> Stepper:
    return Stepper(build(SPEC.model, 0), SPEC.recipe, 8, CPU)


def saved(writer: Writer, attempt: Attempt, of: Stepper, step: int, *, wait: bool = False, **state: Any) -> None:
    writer.save(attempt, checkpoint.tables_of(of.model, of.optimizer), {"step": step, **state}, wait=wait)


def attempt_in(folder: Path) -> Attempt:
    (folder / "attempts" / "0001").mkdir(parents=True)
    return Attempt(folder, 1)


def steps_of(folder: Path) -> list[int]:
    return [int(path.name.partition("-")[2]) for path in newest_first(folder)]


def test_a_checkpoint_holds_its_own_step_however_late_the_thread_comes_to_its_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt, one, go = attempt_in(tmp_path), stepper(), threading.Event()
    save, rows = checkpoint.save, [1]

    def late(*given: Any) -> None:
        assert go.wait(LONG_S)
        save(*given)

    monkeypatch.setattr(checkpoint, "save", late)
    before = {name: tensor.clone() for name, tensor in one.model.state_dict().items()}
    with Writer(CPU, LONG_S) as writer:
        saved(writer, attempt, one, 1, branches={"a": rows})
        with torch.no_grad():
            for parameter in one.model.parameters():
                parameter.add_(1.0)
        rows.append(2)
        go.set()
    (path,) = newest_first(tmp_path)
    found = load_file(path / "model.safetensors")
    assert found.keys() == before.keys()
    assert all(torch.equal(found[name], before[name]) for name in before)
    assert checkpoint.read(path).state["branches"] == {"a": [1]}


def test_tensors_that_were_gathered_are_written_beside_training_without_another_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: Held
) -> None:
    attempt, one = attempt_in(tmp_path), stepper()
    monkeypatch.setattr(checkpoint_writer, "copied", None)  # no call of it is possible
    with Writer(CPU, LONG_S) as writer:
        tables = checkpoint.tables_of(one.model, one.optimizer)
        writer.save(attempt, tables, {"step": 1}, wait=False, gathered=True)
        assert held.begun.wait(LONG_S)
        assert steps_of(tmp_path) == []  # the call has returned, and the write is in flight
        held.released.set()
    assert steps_of(tmp_path) == [1]
    found = load_file(newest_first(tmp_path)[0] / "model.safetensors")
    assert all(torch.equal(found[name], value) for name, value in one.model.state_dict().items())


def test_the_older_checkpoints_stay_until_the_new_one_is_whole(tmp_path: Path, held: Held) -> None:
    attempt, one = attempt_in(tmp_path), stepper()
    with Writer(CPU, LONG_S) as writer:
        held.released.set()
        saved(writer, attempt, one, 1)
        saved(writer, attempt, one, 2)
        writer.wait()
        held.begun.clear()
        held.released.clear()
        saved(writer, attempt, one, 3)
        assert held.begun.wait(LONG_S)
        assert steps_of(tmp_path) == [2, 1]
        assert [damage(path) for path in newest_first(tmp_path)] == ["", ""]
        held.released.set()
    assert steps_of(tmp_path) == [3, 2]
    assert [damage(path) for path in newest_first(tmp_path)] == ["", ""]


def test_at_most_one_write_is_in_flight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writing, most, order = 0, 0, []

    def slow(attempt: Attempt, tables: Any, state: Any) -> None:
        nonlocal writing, most
        writing += 1
        most = max(most, writing)
        time.sleep(0.02)
        order.append(state["step"])
        writing -= 1

    monkeypatch.setattr(checkpoint, "save", slow)
    attempt, one = attempt_in(tmp_path), stepper()
    with Writer(CPU, LONG_S) as writer:
        for step in range(1, 6):
            saved(writer, attempt, one, step, wait=step == 4)
            assert step != 4 or order[-1] == 4
    assert (most, order) == (1, [1, 2, 3, 4, 5])


@pytest.mark.parametrize("wait", [False, True], ids=["beside", "at once"])
def test_an_error_of_the_writer_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait: bool) -> None:
    monkeypatch.setattr(checkpoint, "save", full)
    with pytest.raises(OSError, match="No space left"):
        run(SPEC, tmp_path, checkpoint_every_s=LONG_S if wait else 0.0)
    end = json.loads((tmp_path / "s" / SPEC.run_id / "attempts" / "0001" / "end.json").read_text())
    assert (end["status"], end["why"]) == ("failed", "OSError: [Errno 28] No space left on device")


def test_an_error_of_the_writer_is_raised_at_the_next_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "save", full)
    with Writer(CPU, LONG_S) as writer:
        saved(writer, attempt_in(tmp_path), stepper(), 1)
        time.sleep(0.1)
        with pytest.raises(OSError, match="No space left"):
            writer.due()


def test_an_error_of_the_run_is_not_hidden_by_one_of_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "save", full)

    def failing() -> None:
        with Writer(CPU, LONG_S) as writer:
            saved(writer, attempt_in(tmp_path), stepper(), 1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()


def test_a_stop_leaves_the_checkpoint_of_its_step_whole_behind_one_in_flight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(folder: Path) -> None:
        time.sleep(0.1)
        write_sums(folder)

    whole = run(SPEC, tmp_path / "whole")
    monkeypatch.setattr(checkpoint, "write_sums", slow)
    with pytest.raises(KeyboardInterrupt, match="checkpoint written") as stopped:
        train_run(asked(SPEC, DATA, runtime_in(tmp_path / "cut", checkpoint_every_s=0.05), 1e6), StopAt(20))
    run_dir = tmp_path / "cut" / "s" / SPEC.run_id
    end = json.loads((run_dir / "attempts" / "0001" / "end.json").read_text())
    assert end["status"] == "preempted"
    assert f"stopped at step {steps_of(run_dir)[0]} of 40" in str(stopped.value)
    assert [damage(path) for path in newest_first(run_dir)] == [""] * len(steps_of(run_dir))
    assert not list((run_dir / "checkpoint").glob(".*"))
    assert run(SPEC, tmp_path / "cut").weights_sha256 == whole.weights_sha256
    assert curve(tmp_path / "cut", SPEC) == curve(tmp_path / "whole", SPEC)


def test_a_run_that_diverges_with_a_write_in_flight_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(folder: Path) -> None:
        time.sleep(0.1)
        write_sums(folder)

    monkeypatch.setattr(checkpoint, "write_sums", slow)
    recipe = replace(SPEC.recipe, optimizer=replace(SPEC.recipe.optimizer, learning_rate=1e4, clip_norm=None))
    spec = replace(SPEC, recipe=recipe)
    assert run(spec, tmp_path, checkpoint_every_s=0.0).status == "diverged"
    assert not list((tmp_path / "s" / spec.run_id / "checkpoint").glob("**/.*"))


def test_a_host_without_room_for_copies_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_writer, "free_bytes", lambda _: 1e3)

    def refused(tensor: torch.Tensor) -> torch.Tensor:
        raise AssertionError("there is no room for a copy")

    monkeypatch.setattr(checkpoint_writer, "copied", refused)
    with Writer(CPU, LONG_S) as writer:
        saved(writer, attempt_in(tmp_path), stepper(), 1)
        assert steps_of(tmp_path) == [1]


@pytest.mark.parametrize(
    ("device", "asked_s", "in_flight", "then"),
    [(CUDA, 10.0, False, False), (CPU, 10.0, True, True)],
    ids=["GPU", "CPU"],
)
def test_the_next_checkpoint_of_a_gpu_is_due_thirty_times_the_last_ones_seconds_after_its_beginning(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    held: Held,
    device: torch.device,
    asked_s: float,
    in_flight: bool,
    then: bool,
) -> None:
    now = 0.0
    monkeypatch.setattr(checkpoint_writer.time, "perf_counter", lambda: now)
    monkeypatch.setattr(checkpoint_writer, "filled", lambda _: None)
    with Writer(device, asked_s) as writer:
        assert not writer.due()
        now = 10.0
        assert writer.due()
        saved(writer, attempt_in(tmp_path), stepper(), 1)
        assert held.begun.wait(LONG_S)
        now = 25.0
        assert writer.due() is in_flight
        held.released.set()
        writer.wait()
        now = 10.0 + 30 * 15.0 - 1
        assert writer.due() is then
        now += 1
        assert writer.due()


def test_every_run_is_the_same_whether_its_checkpoints_are_written_beside_it_or_not(tmp_path: Path) -> None:
    watched = run(SPEC, tmp_path / "beside", checkpoint_every_s=0.0)
    assert watched.weights_sha256 == run(SPEC, tmp_path / "plain", checkpoint_every_s=LONG_S).weights_sha256


def test_the_thread_ends_with_the_run(tmp_path: Path) -> None:
    def threads() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("checkpoint")]

    class Watching(Reporter):
        seen: list[str]

        def row(self, row: dict[str, Any]) -> None:
            self.seen = threads()

    watching = Watching()
    train_run(asked(SPEC, DATA, runtime_in(tmp_path, checkpoint_every_s=0.0), 1e6), watching)
    assert len(watching.seen) == 1
    assert threads() == []
