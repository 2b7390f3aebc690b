"""The queue of a worker: which planned run it takes next, and when it ends."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from scaling.launch.jobs import Job
from scaling.launch.planned_queue import PlannedJob, PlannedQueue
from scaling.plan.work import read_work
from scaling.records.attempt import FAILED, LOST
from scaling.records.files import write_json
from scaling.records.orders import cancel
from scaling.records.record import DONE, publish_record
from scaling.spec.run_spec import to_dict
from tests.examples import RECORD
from tests.launch.test_worker import STUDY, planned


def id_of(job: Job | None) -> str | None:
    return None if job is None else job.payload.spec.run_id


def beat(run_id: str, beats: int) -> None:
    """A heartbeat of a process on another machine."""
    attempt = STUDY / run_id / "attempts" / "0001"
    attempt.mkdir(parents=True, exist_ok=True)
    write_json(attempt / "meta.json", {"host": "elsewhere", "boot": "b", "pid": 1, "process_started": 1})
    write_json(attempt / "heartbeat.json", {"beats": beats, "step": 1})


def end(job: Job | None, status: str) -> None:
    assert isinstance(job, PlannedJob)
    job.status, job.why, job.ended = status, "why", 1.0


def test_a_run_elsewhere_is_waited_for_until_its_heart_was_seen_to_beat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run_id,) = planned(tmp_path, monkeypatch, "budget.flops=2e8")
    beat(run_id, 1)
    queue = PlannedQueue(read_work(STUDY))
    assert queue.next() is None
    assert queue  # the process may be dead: another one was here before
    beat(run_id, 2)
    assert queue.next() is None
    assert not queue
    assert queue.left() == 1


def test_cancelled_and_broken_runs_are_passed_over_with_their_reasons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = planned(tmp_path, monkeypatch, "budget.flops=4e8,2e8", "seed=0,1")
    cancel(STUDY / ids[0], "too dear")
    queue = PlannedQueue(read_work(STUDY))
    first = queue.next()
    assert id_of(first) == ids[1]
    end(first, FAILED)  # before its claim: nothing in the store states so
    second = queue.next()
    assert id_of(second) == ids[2]
    end(second, LOST)
    again = queue.next()
    assert id_of(again) == ids[2]
    assert queue.given_up() == {ids[0]: "cancelled: too dear", ids[1]: "why"}
    assert queue.left() == 2


def test_the_longest_run_that_the_time_left_is_enough_for_is_taken_at_the_measured_pace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = planned(tmp_path, monkeypatch, "budget.flops=4e11,2e11,1e8")
    work = read_work(STUDY)
    seconds = [line["estimated_s"] for line in work.lines]
    assert seconds[0] > 10 * seconds[2]
    queue = PlannedQueue(work, ends=time.time() + 5 + (seconds[0] + seconds[1]) / 2)
    first = queue.next()
    assert id_of(first) == ids[1]
    end(first, DONE)
    (STUDY / ids[1]).mkdir()
    publish_record(STUDY / ids[1], replace(RECORD, run_id=ids[1], status=DONE, wall_s=100 * seconds[1]))
    assert queue.next() is None or id_of(queue.jobs[-1]) == ids[2]
    assert queue.pace() == pytest.approx(100)
    assert ids[0] not in [job.run_id for job in queue.jobs]


def test_a_run_on_more_devices_than_there_are_is_left_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = ("runtime.devices_per_run=2", "model.context=32", "recipe.batch_tokens=64")
    ids = planned(tmp_path, monkeypatch, "budget.flops=4e8,2e8", *shared)
    work = read_work(STUDY)
    assert work.widest == 2
    narrow, wide = PlannedQueue(work, widest=1), PlannedQueue(work, widest=2)
    assert (narrow.next(), narrow.too_wide, narrow.left()) == (None, 2, 0)
    job = wide.next()
    assert job is not None
    assert (id_of(job), job.slots, wide.too_wide) == (ids[0], 2, 0)


def test_a_run_over_more_nodes_than_there_are_is_left_to_others_and_takes_all_slots_of_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over_nodes = ("runtime.devices_per_run=4", "runtime.nodes_per_run=2", "model.context=32", "recipe.batch_tokens=128")
    ids = planned(tmp_path, monkeypatch, "budget.flops=8e8,4e8", *over_nodes)
    work = read_work(STUDY)
    assert (work.widest, work.most_nodes, work.fewest_nodes) == (2, 2, 2)
    here, there = PlannedQueue(work, widest=2), PlannedQueue(work, widest=3, nodes=2)
    assert (here.next(), here.too_wide) == (None, 2)
    assert PlannedQueue(work, widest=1, nodes=2).too_wide == 2
    job = there.next()
    assert job is not None
    assert (id_of(job), job.slots, there.too_wide) == (ids[0], 3, 0)
    assert work.run(ids[0]).runtime.devices_per_node == 2


def test_runs_beyond_the_cap_are_left_out_and_what_runs_hold_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = planned(tmp_path, monkeypatch, "budget.flops=2e8", "seed=0,1,2", "budget.total_flops=6.1e8")
    flops = {line["run_id"]: line["paid_flops"] for line in read_work(STUDY).lines}
    wasted = STUDY / ids[0] / "attempts" / "0001"
    wasted.mkdir(parents=True)
    write_json(STUDY / ids[0] / "spec.json", to_dict(read_work(STUDY).run(ids[0]).spec))
    write_json(wasted / "meta.json", {"start_step": 0})
    write_json(wasted / "heartbeat.json", {"taken": 10, "step": 10})
    write_json(wasted / "end.json", {"status": "preempted", "why": "w", "step": 10, "ended_at": None})
    queue = PlannedQueue(read_work(STUDY))
    taken = [id_of(queue.next()), id_of(queue.next())]
    assert None not in taken
    assert queue.next() is None
    (left,) = queue.unaffordable
    assert {left, *taken} == set(ids)
    assert "more than budget.total_flops=6.1e+08" in queue.unaffordable[left]
    assert queue.left() == 2
    assert sum(flops.values()) <= 6.1e8  # without the wasted steps all three would fit
