"""The pool: jobs fail, vanish and stop without taking others along."""

import multiprocessing
import os
import signal
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from scaling.launch.hanging import Watch
from scaling.launch.jobs import MOST_NEWS, Channel, Job, Outbox
from scaling.launch.pool import Pool
from scaling.machine import hardware
from scaling.machine.slots import CORES, GPU_SHARE, slots
from scaling.records.attempt import FAILED, LOST, PREEMPTED, Heartbeat, claim, is_trained_now
from scaling.records.files import write_json
from scaling.records.liveness import HEARTBEAT
from scaling.records.process import start_ticks
from scaling.records.record import DONE, publish_record
from tests.examples import RECORD

PRELOAD = ["tests.launch.test_pool"]  # torch is imported once, not in each process


def work(payload: Any, channel: Channel) -> Any:
    """What a test's job does, by the name in its payload."""
    kind, value = payload
    channel.report(pid=os.getpid())
    if kind == "fail":
        print("about to fail")
        raise ValueError(f"no {value}")
    if kind == "vanish":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "exit":
        os._exit(3)
    if kind == "until stopped":
        stopped: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
        Path(value).touch()
        while not stopped:
            time.sleep(0.01)
        raise KeyboardInterrupt("checkpoint written")
    if kind == "kill the fork server":
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(0.5)
    if kind == "save slowly":
        channel.report(log=value / "log.txt")
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (value / "flag").touch()
        time.sleep(2)
        raise KeyboardInterrupt("checkpoint written")
    if kind == "share":
        return share(*value)
    if kind == "sleep":
        time.sleep(value)
    if kind == "environment":
        return {name: os.environ.get(name) for name in value}
    return value


def share(run_dir: Path, launcher: str) -> int:
    """Train a run in a fraction of a second, as a run is trained: claimed, and recorded once.

    The first run waits for the other launcher's first process: either may be slow to start.
    """
    started = run_dir.parent / "started"
    (started / launcher).mkdir(parents=True, exist_ok=True)
    while len(list(started.iterdir())) < 2:
        time.sleep(0.01)
    if (run_dir / "record.json").exists():
        return 0
    attempt = claim(run_dir, 0, {})
    with Heartbeat(attempt):
        time.sleep(0.4)
        publish_record(run_dir, RECORD)
        attempt.end(DONE, "", 1)
    return 1


def run(payloads: list[tuple[str, Any]], log_dir: Path, at_once: int = 2) -> list[Job]:
    jobs = [Job(str(index), payload) for index, payload in enumerate(payloads)]
    Pool(slots(at_once, 1, use_gpus=False), work, log_dir, preload=PRELOAD).run(jobs)
    return jobs


def test_failed_and_killed_jobs_lose_no_other(tmp_path: Path) -> None:
    jobs = run([("give", 1), ("fail", "luck"), ("vanish", 0), ("exit", 0), ("give", 2)], tmp_path)
    assert [job.status for job in jobs] == [DONE, FAILED, LOST, LOST, DONE]
    assert [jobs[0].result, jobs[4].result] == [1, 2]
    assert jobs[1].why == "ValueError: no luck"
    assert jobs[1].log is not None
    log = jobs[1].log.read_text()
    assert "about to fail" in log
    assert "Traceback" in log
    assert jobs[2].why == "the process died (SIGKILL); out of memory?"
    assert jobs[3].why == "the process died (exit code 3)"


def test_logs_of_jobs_that_went_well_are_not_left_lying_about(tmp_path: Path) -> None:
    run([("give", 1), ("give", 2)], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_each_job_has_a_process_of_its_own(tmp_path: Path) -> None:
    jobs = run([("give", 0)] * 4, tmp_path)
    assert len({job.latest["pid"] for job in jobs} | {os.getpid()}) == 5


def test_jobs_get_the_allocators_settings_and_this_process_keeps_its_own(tmp_path: Path) -> None:
    before = dict(os.environ)
    (job,) = run([("environment", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES", "CUDA_VISIBLE_DEVICES"])], tmp_path)
    assert job.result["CUDA_VISIBLE_DEVICES"] == ""
    assert job.result["MALLOC_TRIM_THRESHOLD_"] == "-1"
    assert dict(os.environ) == before


def test_ctrl_c_stops_every_job_once_and_cleanly(tmp_path: Path) -> None:
    flags = [tmp_path / "a", tmp_path / "b"]

    def interrupt() -> None:
        while not all(flag.exists() for flag in flags):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    jobs = run([("until stopped", flags[0]), ("until stopped", flags[1]), ("give", 1)], tmp_path / "logs")
    assert [job.status for job in jobs] == [PREEMPTED] * 3
    assert [job.why for job in jobs] == ["checkpoint written", "checkpoint written", "not started"]


def test_news_to_a_pool_that_is_gone_do_not_stop_a_run_short_of_its_checkpoint(tmp_path: Path) -> None:
    pools, runs = multiprocessing.Pipe()
    pools.close()
    channel = Channel(runs.send, tmp_path / "log.txt", threads=1)
    for _ in range(2):
        channel.report(step=1)


def test_a_message_that_nobody_reads_holds_no_run_up() -> None:
    sent, blocked = [], threading.Event()

    def send(message: Any) -> None:
        blocked.wait(60)
        sent.append(message)

    outbox = Outbox(send)
    begun = time.monotonic()
    for step in range(5 * MOST_NEWS):
        outbox.put(("news", {"step": step}))
    assert time.monotonic() - begun < 5
    blocked.set()
    outbox.close((DONE, ("", 1)))
    assert sent[-1] == (DONE, ("", 1))
    assert len(sent) <= MOST_NEWS + 2


def test_an_error_of_the_display_ends_every_process_before_it_is_raised(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    jobs = [Job("a", ("until stopped", flag)), Job("b", ("give", 1))]

    def show() -> None:
        if flag.exists():
            raise RuntimeError("the terminal is gone")

    with pytest.raises(RuntimeError, match="the terminal is gone"):
        Pool(slots(1, 1, use_gpus=False), work, tmp_path / "logs", preload=PRELOAD).run(jobs, show)
    assert [(job.status, job.why) for job in jobs] == [
        (PREEMPTED, "checkpoint written"),
        (PREEMPTED, "not started"),
    ]
    assert start_ticks(jobs[0].latest["pid"]) is None


def test_a_killed_fork_server_costs_no_job(tmp_path: Path) -> None:
    jobs = run([("kill the fork server", 1), ("give", 2), ("kill the fork server", 3), ("give", 4)], tmp_path, 1)
    assert [(job.status, job.result) for job in jobs] == [(DONE, 1), (DONE, 2), (DONE, 3), (DONE, 4)]


def test_launchers_of_one_study_share_its_runs(tmp_path: Path) -> None:
    folders = [tmp_path / str(index) for index in range(8)]
    pools = [
        [Job(folder.name, ("share", (folder, launcher)), is_busy=partial(is_trained_now, folder)) for folder in folders]
        for launcher in ("a", "b")
    ]
    threads = [
        threading.Thread(
            target=Pool(slots(1, 1, use_gpus=False), work, tmp_path / "logs", PRELOAD).run,
            args=(jobs,),
        )
        for jobs in pools
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(job.status == DONE for jobs in pools for job in jobs)
    trained = [sum(job.result for job in jobs) for jobs in pools]
    assert sum(trained) == 8  # each once
    assert min(trained) >= 1  # neither waits for the other's runs
    assert all((folder / "record.json").exists() for folder in folders)


class Clock:
    """A clock that tests set."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> str:
    """Why a process counts as hanging that stepped once a second for 100 s, and then stood still for 3,100 s."""
    clock, beat = Clock(), {"beats": 0, "taken": 0, "activity": ""}
    monkeypatch.setattr("scaling.launch.hanging.time", clock)
    watch, job = Watch(), Job("a", None, log=tmp_path / "log.txt")
    for second in range(0, 3200, 10):
        clock.now = float(second)
        beat["beats"] = second if changes.get("beats", True) or second < 100 else 100
        beat["taken"] = min(second, 100)
        beat["activity"] = changes.get("activity", "") if second >= 100 else ""
        write_json(tmp_path / HEARTBEAT, beat)
        if why := watch.why_hanging(job):
            return f"{second}: {why}"
    return ""


def test_a_process_without_steps_or_without_a_heart_is_hanging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert watched(tmp_path, monkeypatch) == "710: hung: no step for 10.2 min, at step 100"
    assert watched(tmp_path, monkeypatch, beats=False).startswith("230: hung: no heartbeat for")
    assert watched(tmp_path, monkeypatch, activity="saving") == ""  # a large checkpoint on a slow disk


def test_a_job_that_hangs_is_killed_and_started_again_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hung = "hung: no step for 10 min"
    monkeypatch.setattr(Watch, "why_hanging", lambda watch, job: hung if "pid" in job.latest else "")
    (job,) = run([("until stopped", tmp_path / "flag")], tmp_path / "logs")
    assert (job.status, job.why, job.tries) == (LOST, hung, 2)


def test_a_process_that_writes_its_checkpoint_is_not_killed_at_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scaling.launch.pool.STOP_WITHIN_S", 0.5)
    write_json(tmp_path / HEARTBEAT, {"activity": "saving"})
    job = Job("a", ("save slowly", tmp_path))

    def show() -> None:
        if (tmp_path / "flag").exists():
            (tmp_path / "flag").unlink()
            os.kill(os.getpid(), signal.SIGINT)

    Pool(slots(1, 1, use_gpus=False), work, tmp_path / "logs", preload=PRELOAD).run([job], show)
    assert (job.status, job.why) == (PREEMPTED, "checkpoint written")


def test_slots_share_the_cores_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scaling.machine.slots.cpu_cores", lambda: 8)
    assert [slot.threads for slot in slots(None, None, use_gpus=False)] == [1] * 8
    assert [slot.threads for slot in slots(2, None, use_gpus=False)] == [4, 4]
    assert [slot.threads for slot in slots(None, 4, use_gpus=False)] == [4, 4]


def test_one_slot_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scaling.machine.slots.cpu_cores", lambda: 16)
    monkeypatch.setattr("scaling.machine.slots.gpu_ids", lambda: ("0", "3"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    got = slots(None, None, use_gpus=True)
    common = {GPU_SHARE: "1", CORES: "8"}
    by_bus = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert [slot.environment for slot in got] == [
        {"CUDA_VISIBLE_DEVICES": "0"} | common | by_bus,
        {"CUDA_VISIBLE_DEVICES": "3"} | common | by_bus,
    ]
    assert [slot.threads for slot in got] == [8, 8]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")  # numbers of the user's own order
    assert [slot.environment for slot in slots(None, None, use_gpus=True)] == [
        {"CUDA_VISIBLE_DEVICES": "0"} | common,
        {"CUDA_VISIBLE_DEVICES": "3"} | common,
    ]


def test_more_slots_than_gpus_share_these_and_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scaling.machine.slots.cpu_cores", lambda: 16)
    monkeypatch.setattr("scaling.machine.slots.gpu_ids", lambda: ("0", "3"))
    got = slots(5, None, use_gpus=True)
    assert [slot.name for slot in got] == ["gpu 0.0", "gpu 3.0", "gpu 0.1", "gpu 3.1", "gpu 0.2"]
    assert {slot.environment[GPU_SHARE] for slot in got} == {"0.333333"}
    assert [slot.threads for slot in got] == [3] * 5
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (80e9, 90e9))
    monkeypatch.setenv(GPU_SHARE, got[0].environment[GPU_SHARE])
    assert hardware.free_bytes(torch.device("cuda")) == pytest.approx(30e9, rel=1e-5)


def test_impossible_slots_are_refused() -> None:
    with pytest.raises(ValueError, match=r"hydra\.launcher\.slots=0: must be at least 1, or null"):
        slots(0, None, use_gpus=False)


def test_a_job_of_several_slots_waits_for_them_before_any_other_starts(tmp_path: Path) -> None:
    jobs = [Job("a", ("sleep", 0.4)), Job("b", ("environment", [CORES]), slots=2), Job("c", ("give", 1))]
    Pool(slots(2, 1, use_gpus=False), work, tmp_path, preload=PRELOAD).run(jobs)
    a, b, c = jobs
    assert [job.status for job in jobs] == [DONE] * 3
    assert None not in (a.ended, b.started, b.ended, c.started)
    assert a.ended <= b.started <= b.ended <= c.started  # type: ignore[operator]
    assert b.result == {CORES: "2"}
    assert sorted(b.slot) == sorted("cpu 0+1")


def test_a_job_that_waits_for_slots_is_not_started_after_a_stop(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    jobs = [Job("a", ("until stopped", flag)), Job("b", ("give", 1), slots=2)]

    def show() -> None:
        if flag.exists():
            flag.unlink()
            raise KeyboardInterrupt

    Pool(slots(2, 1, use_gpus=False), work, tmp_path / "logs", preload=PRELOAD).run(jobs, show)
    assert [(job.status, job.why) for job in jobs] == [(PREEMPTED, "checkpoint written"), (PREEMPTED, "not started")]


def test_work_without_steps_that_a_stop_ends_was_preempted_not_lost(tmp_path: Path) -> None:
    def show() -> None:
        if jobs[0].started is not None:
            time.sleep(0.2)
            raise KeyboardInterrupt

    jobs = [Job("a", ("sleep", 60))]
    Pool(slots(1, 1, use_gpus=False), work, tmp_path / "logs", preload=PRELOAD).run(jobs, show)
    assert (jobs[0].status, jobs[0].why) == (PREEMPTED, "stopped")
