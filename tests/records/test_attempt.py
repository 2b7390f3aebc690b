"""Claims: one process a run, the dead are noticed, the late are fenced off."""

import json
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import pytest

from scaling.records import liveness
from scaling.records.attempt import (
    FAILED,
    LOST,
    PLANNED,
    PREEMPTED,
    RUNNING,
    Attempt,
    Heartbeat,
    RunIsLiveError,
    claim,
    run_state,
)
from scaling.records.files import write_json
from scaling.records.liveness import STALE_AFTER_S, is_live
from scaling.records.record import publish_record
from tests.examples import RECORD


def test_a_live_run_cannot_be_claimed_again(tmp_path: Path) -> None:
    claim(tmp_path, 0, {})
    with pytest.raises(RunIsLiveError, match=f"by process {os.getpid()}"):
        claim(tmp_path, 0, {})


def test_an_ended_attempt_frees_the_run_and_numbers_go_up(tmp_path: Path) -> None:
    first = claim(tmp_path, 0, {})
    first.end(PREEMPTED, "stopped", 3)
    assert run_state(tmp_path).status == PREEMPTED
    second = claim(tmp_path, 3, {})
    assert (first.number, second.number) == (1, 2)
    assert second.is_current()
    assert not first.is_current()  # the fence: a late first attempt must not publish


def claim_and_hold(run_dir: Path, ready: Path) -> None:
    claim(run_dir, 0, {})
    ready.touch()
    time.sleep(60)


def test_a_killed_process_is_noticed_at_once(tmp_path: Path) -> None:
    holder = multiprocessing.get_context("fork").Process(
        target=claim_and_hold, args=(tmp_path / "run", tmp_path / "ready")
    )
    holder.start()
    while not (tmp_path / "ready").exists():
        assert holder.is_alive()
        time.sleep(0.01)
    assert run_state(tmp_path / "run").status == RUNNING
    with pytest.raises(RunIsLiveError):
        claim(tmp_path / "run", 0, {})
    holder.kill()
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # dead, but nobody has collected it yet
    state = run_state(tmp_path / "run")
    assert state.status == LOST
    assert "vanished" in state.why
    assert claim(tmp_path / "run", 0, {}).number == 2
    holder.join()


def test_exactly_one_of_many_racing_processes_wins(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    racers = 8
    start, won = context.Barrier(racers), context.Queue()

    def run() -> None:
        start.wait()
        try:
            claim(tmp_path, 0, {})
            won.put(os.getpid())
        except RunIsLiveError:
            won.put(None)
        time.sleep(1)

    processes = [context.Process(target=run) for _ in range(racers)]
    for process in processes:
        process.start()
    results = [won.get(timeout=30) for _ in processes]
    for process in processes:
        process.join()
    assert sum(result is not None for result in results) == 1
    assert [p.name for p in sorted((tmp_path / "attempts").iterdir())] == ["0001"]


def elsewhere(attempt: Attempt, **changes: Any) -> None:
    """Let the attempt look as if another place had claimed it."""
    meta = json.loads((attempt.path / "meta.json").read_text())
    write_json(attempt.path / "meta.json", meta | changes)


@pytest.mark.parametrize(
    "place", [{"host": "another-host"}, {"pid_namespace": "pid:[1]"}, {"boot": "another boot"}], ids=str
)
def test_a_process_of_another_place_is_judged_by_its_heartbeat_alone(place: dict[str, str], tmp_path: Path) -> None:
    attempt = claim(tmp_path, 0, {})
    elsewhere(attempt, **place, pid=2**22 + 1, process_started=7)  # a pid that is nobody's here
    with Heartbeat(attempt):
        pass
    assert run_state(tmp_path).status == RUNNING
    with pytest.raises(RunIsLiveError):
        claim(tmp_path, 0, {})
    old = time.time() - STALE_AFTER_S - 1
    os.utime(attempt.path / "heartbeat.json", (old, old))
    assert run_state(tmp_path).status == LOST


def test_a_heartbeat_from_the_future_is_judged_by_its_counter_on_the_observers_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = claim(tmp_path, 0, {})
    elsewhere(attempt, host="another-host")
    beat, clock = attempt.path / "heartbeat.json", [0.0]
    monkeypatch.setattr(liveness.time, "monotonic", lambda: clock[0])

    def beats(count: int) -> None:
        write_json(beat, {"beats": count, "step": 1})
        os.utime(beat, (time.time() + 1e6,) * 2)

    beats(1)
    assert is_live(attempt.path)
    clock[0] = STALE_AFTER_S - 1
    assert is_live(attempt.path)
    beats(2)  # its heart beats: the watch begins anew
    assert is_live(attempt.path)
    clock[0] += STALE_AFTER_S - 1
    assert is_live(attempt.path)
    clock[0] += 2
    assert not is_live(attempt.path)
    assert claim(tmp_path, 0, {}).number == 2


def test_a_process_that_hangs_is_given_up_though_it_exists(tmp_path: Path) -> None:
    attempt = claim(tmp_path, 0, {})
    with Heartbeat(attempt):
        pass
    assert is_live(attempt.path)
    old = time.time() - STALE_AFTER_S - 1
    os.utime(attempt.path / "heartbeat.json", (old, old))
    assert not is_live(attempt.path)


def test_the_heart_beats_on_while_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = claim(tmp_path, 0, {})

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with Heartbeat(attempt) as heartbeat:
        monkeypatch.setattr("scaling.records.attempt.write_json", full)
        time.sleep(0.1)
        heartbeat.report = {"step": 5}
        monkeypatch.undo()
    assert json.loads((attempt.path / "heartbeat.json").read_text())["step"] == 5


def test_names_beside_the_attempts_are_ignored(tmp_path: Path) -> None:
    attempt = claim(tmp_path, 0, {})
    for stray in ("0001.bak", "9999 copy", "notes", "12"):
        (tmp_path / "attempts" / stray).mkdir()
    (tmp_path / "attempts" / ".claim-old").touch()
    assert attempt.is_current()
    attempt.end(FAILED, "ValueError: no", 7)
    assert claim(tmp_path, 0, {}).number == 2


@pytest.mark.parametrize("content", ["{}", "null", "", "\0\0\0", '{"status": "fai'])
def test_a_damaged_end_is_named_and_the_run_can_be_claimed(content: str, tmp_path: Path) -> None:
    attempt = claim(tmp_path, 0, {})
    (attempt.path / "end.json").write_text(content)
    state = run_state(tmp_path)
    assert state.status == FAILED
    assert f"{attempt.path / 'end.json'} is damaged" in state.why
    assert claim(tmp_path, 0, {}).number == 2


@pytest.mark.parametrize("content", ["{}", "null", "\0"])
def test_a_damaged_meta_leaves_the_heartbeat_to_decide(content: str, tmp_path: Path) -> None:
    attempt = claim(tmp_path, 0, {})
    with Heartbeat(attempt):
        (attempt.path / "meta.json").write_text(content)
        assert run_state(tmp_path).status == RUNNING
        with pytest.raises(
            RunIsLiveError, match=r"its damaged .*meta\.json does not name; without a heartbeat for 120 s"
        ):
            claim(tmp_path, 0, {})


def test_a_damaged_record_is_a_failure_that_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text("{}")
    state = run_state(tmp_path)
    assert (state.status, "record.json is not a run record" in state.why) == (FAILED, True)


def test_states_are_told_apart(tmp_path: Path) -> None:
    assert run_state(tmp_path).status == PLANNED
    attempt = claim(tmp_path, 0, {})
    attempt.end(FAILED, "ValueError: no", 7)
    state = run_state(tmp_path)
    assert (state.status, state.step, state.why) == (FAILED, 7, "ValueError: no")
    publish_record(tmp_path, RECORD)
    assert run_state(tmp_path).status == "done"
