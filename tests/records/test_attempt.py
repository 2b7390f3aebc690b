"""Claims: one process a run, the dead are noticed, the late are fenced off."""

import json
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from scaling.records.attempt import (
    FAILED,
    INTERRUPTED,
    KILLED,
    PENDING,
    RUNNING,
    STALE_AFTER_S,
    Heartbeat,
    RunIsLiveError,
    claim,
    run_state,
)
from scaling.records.files import write_json
from scaling.records.record import publish_record
from tests.examples import RECORD


def test_a_live_run_cannot_be_claimed_again(tmp_path: Path) -> None:
    claim(tmp_path, 0, {})
    with pytest.raises(RunIsLiveError, match=f"by process {os.getpid()}"):
        claim(tmp_path, 0, {})


def test_an_ended_attempt_frees_the_run_and_numbers_go_up(tmp_path: Path) -> None:
    first = claim(tmp_path, 0, {})
    first.end(INTERRUPTED, "stopped", 3)
    assert run_state(tmp_path).status == INTERRUPTED
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
    assert state.status == KILLED
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


def test_a_process_elsewhere_is_given_up_when_its_heartbeat_is_stale(tmp_path: Path) -> None:
    attempt = claim(tmp_path, 0, {})
    meta = json.loads((attempt.path / "meta.json").read_text())
    write_json(attempt.path / "meta.json", meta | {"host": "another-host"})
    with Heartbeat(attempt):
        pass
    assert run_state(tmp_path).status == RUNNING
    old = time.time() - STALE_AFTER_S - 1
    os.utime(attempt.path / "heartbeat.json", (old, old))
    assert run_state(tmp_path).status == KILLED


def test_states_are_told_apart(tmp_path: Path) -> None:
    assert run_state(tmp_path).status == PENDING
    attempt = claim(tmp_path, 0, {})
    attempt.end(FAILED, "ValueError: no", 7)
    state = run_state(tmp_path)
    assert (state.status, state.step, state.why) == (FAILED, 7, "ValueError: no")
    publish_record(tmp_path, RECORD)
    assert run_state(tmp_path).status == "done"
