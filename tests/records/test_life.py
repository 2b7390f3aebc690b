"""The one life of a run: what is claimed, heard, written down and published, however the run is trained."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scaling import trackers
from scaling.records.attempt import Attempt, RunIsLiveError, claim, run_state
from scaling.records.files import read_json
from scaling.records.life import Life, Reporter, claim_run, live
from scaling.records.record import publish_record, read_metrics, read_record
from scaling.spec.run_spec import from_dict
from scaling.trackers.tracker import TrackedRun
from tests.examples import RECORD, SPEC, SilentTracker, runtime_in

ROW = {"step": 3, "train_loss": 2.5, "tokens_per_s": 7.0, "val_loss": None}


class Recording(SilentTracker):
    """Keeps all that it hears."""

    heard: list[tuple[str, Any]]

    settings = ("mode",)
    where = "https://tracker/run"

    def __init__(self, run: TrackedRun, settings: Mapping[str, Any]) -> None:
        Recording.heard = [("start", (run, dict(settings)))]

    def log(self, row: Mapping[str, Any]) -> None:
        self.heard.append(("row", dict(row)))

    def finish(self, status: str, summary: Mapping[str, Any]) -> None:
        self.heard.append((status, dict(summary)))


class Listening(Reporter):
    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def row(self, row: dict[str, Any]) -> None:
        self.rows.append(row)


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> type[Recording]:
    monkeypatch.setitem(trackers.TRACKERS, "wandb", Recording)
    return Recording


def claimed(path: Path, **changes: Any) -> Attempt:
    attempt = claim_run(SPEC, runtime_in(path, **changes), 0, {"hardware": {"name": "cpu"}})
    assert isinstance(attempt, Attempt)
    return attempt


def test_a_claim_writes_the_spec_and_keeps_others_out(tmp_path: Path) -> None:
    attempt = claimed(tmp_path)
    run_dir = tmp_path / "s" / SPEC.run_id
    assert attempt.run_dir == run_dir
    assert from_dict(json.loads((run_dir / "spec.json").read_text())) == SPEC
    meta = read_json(attempt.path / "meta.json")
    assert meta is not None
    assert meta["hardware"] == {"name": "cpu"}
    with pytest.raises(RunIsLiveError):
        claim_run(SPEC, runtime_in(tmp_path), 0, {})


def test_a_claim_of_a_finished_run_gives_its_record(tmp_path: Path) -> None:
    first = claimed(tmp_path)
    publish_record(first.run_dir, RECORD)
    first.end("done", "", RECORD.steps)
    assert claim_run(SPEC, runtime_in(tmp_path), 0, {}) == RECORD
    assert [path.name for path in (first.run_dir / "attempts").iterdir()] == ["0001"]


def test_a_run_that_is_finished_during_its_claim_gives_its_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def claim_late(run_dir: Path, *more: Any) -> Attempt:
        publish_record(run_dir, RECORD)  # by the process that held the run until now
        return claim(run_dir, *more)

    monkeypatch.setattr("scaling.records.life.claim", claim_late)
    runtime = runtime_in(tmp_path)
    assert claim_run(SPEC, runtime, 0, {}) == RECORD
    end = read_json(runtime.run_dir(SPEC.run_id) / "attempts" / "0001" / "end.json")
    assert end is not None
    assert (end["status"], end["why"]) == (RECORD.status, "finished by an earlier attempt")


def test_a_row_is_written_finite_and_heard_by_everybody(tmp_path: Path, recording: type[Recording]) -> None:
    runtime, reporter = runtime_in(tmp_path, trackers=("wandb",), tracker_settings={"mode": "offline"}), Listening()
    attempt = claimed(tmp_path)
    with live(attempt, SPEC, runtime, 1e6, reporter) as life:
        life.repeat({"step": 1, "train_loss": 9.0})
        life.log({**ROW, "grad_norm": math.inf}, 10, mfu=0.5)
        assert life.heartbeat.report == {"step": 3, "steps": 10, "loss_nats": 2.5, "tokens_per_s": 7.0}
        life.publish(RECORD)
    assert read_metrics(attempt.run_dir) == [{"step": 1, "train_loss": 9.0}, {**ROW, "grad_norm": None}]
    assert reporter.rows == [{**ROW, "grad_norm": math.inf, "mfu": 0.5}]
    (start, (run, settings)), first, second, (status, summary) = recording.heard
    assert (start, run.run_id, run.study, settings) == ("start", SPEC.run_id, "s", {"mode": "offline"})
    assert run.config["budget_flops"] == 1e6
    assert run.config["n_params"]["total"] > run.config["n_params"]["non_embedding"] > 0
    assert (first, second) == (("row", {"step": 1, "train_loss": 9.0}), ("row", reporter.rows[0]))
    assert (status, summary["val_loss_nats"], summary["n_params"]["total"]) == ("done", RECORD.val_loss_nats, 3)


def test_a_published_record_ends_the_attempt(tmp_path: Path) -> None:
    attempt = claimed(tmp_path)
    diverged = replace(RECORD, status="diverged", why="loss inf")
    with live(attempt, SPEC, runtime_in(tmp_path), None, Reporter()) as life:
        assert life.publish(diverged)
    assert read_record(attempt.run_dir) == diverged
    assert read_json(attempt.path / "end.json") is not None
    assert run_state(attempt.run_dir).why == "loss inf"


@pytest.mark.parametrize("how", ["a later attempt", "a record"])
def test_an_attempt_that_was_overtaken_publishes_nothing(how: str, tmp_path: Path, recording: type[Recording]) -> None:
    attempt = claimed(tmp_path)
    with live(attempt, SPEC, runtime_in(tmp_path, trackers=("wandb",)), None, Reporter()) as life:
        if how == "a record":
            publish_record(attempt.run_dir, replace(RECORD, why="theirs"))
        else:
            (attempt.path.parent / "0002").mkdir()
        assert not life.publish(replace(RECORD, why="ours"))
    record = read_record(attempt.run_dir)
    assert record is None or record.why == "theirs"
    end = read_json(attempt.path / "end.json")
    assert end is not None
    assert "overtaken" in end["why"]
    assert recording.heard[-1] == ("done", {})


@pytest.mark.parametrize(
    ("error", "status", "why"),
    [
        (KeyboardInterrupt("stopped at step 3"), "preempted", "KeyboardInterrupt: stopped at step 3"),
        (KeyboardInterrupt(), "preempted", "KeyboardInterrupt"),
        (OSError("no space left"), "failed", "OSError: no space left"),
    ],
)
def test_an_early_end_is_written_down_and_raised(
    error: BaseException, status: str, why: str, tmp_path: Path, recording: type[Recording]
) -> None:
    attempt = claimed(tmp_path)

    def lives(life: Life) -> None:
        life.log(ROW, 10)
        raise error

    with (
        pytest.raises(type(error)),
        live(attempt, SPEC, runtime_in(tmp_path, trackers=("wandb",)), None, Reporter()) as life,
    ):
        lives(life)
    state = run_state(attempt.run_dir)
    assert (state.status, state.why, state.step) == (status, why, 3)
    assert recording.heard[-1] == (status, {})


def test_a_tracker_that_cannot_start_fails_the_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(SilentTracker):
        def __init__(self, *_: object) -> None:
            raise ConnectionError("no account")

    monkeypatch.setitem(trackers.TRACKERS, "wandb", Refusing)
    attempt = claimed(tmp_path)
    with (
        pytest.raises(ConnectionError),
        live(attempt, SPEC, runtime_in(tmp_path, trackers=("wandb",)), None, Reporter()),
    ):
        pytest.fail("the attempt lives without its tracker")
    assert run_state(attempt.run_dir).why == "ConnectionError: no account"
