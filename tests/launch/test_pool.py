"""The pool: jobs fail, vanish and stop without taking others along."""

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from scaling.launch.jobs import Channel, Job
from scaling.launch.pool import Pool
from scaling.machine import hardware
from scaling.machine.slots import GPU_SHARE, slots
from scaling.records.attempt import FAILED, INTERRUPTED, KILLED
from scaling.records.record import DONE


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
    if kind == "environment":
        return {name: os.environ.get(name) for name in value}
    return value


def run(payloads: list[tuple[str, Any]], log_dir: Path, at_once: int = 2) -> list[Job]:
    jobs = [Job(str(index), payload) for index, payload in enumerate(payloads)]
    Pool(slots(at_once, 1, use_gpus=False), work, log_dir, preload=[]).run(jobs)
    return jobs


def test_failed_and_killed_jobs_lose_no_other(tmp_path: Path) -> None:
    jobs = run([("give", 1), ("fail", "luck"), ("vanish", 0), ("exit", 0), ("give", 2)], tmp_path)
    assert [job.status for job in jobs] == [DONE, FAILED, KILLED, KILLED, DONE]
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
    assert [job.status for job in jobs] == [INTERRUPTED] * 3
    assert [job.why for job in jobs] == ["checkpoint written", "checkpoint written", "not started"]


def test_news_to_a_pool_that_is_gone_do_not_stop_a_run_short_of_its_checkpoint(tmp_path: Path) -> None:
    pools, runs = multiprocessing.Pipe()
    pools.close()
    channel = Channel(runs.send, tmp_path / "log.txt", threads=1)
    for _ in range(2):
        channel.report(step=1)


def test_slots_share_the_cores_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scaling.machine.slots.cpu_cores", lambda: 8)
    assert [slot.threads for slot in slots(None, None, use_gpus=False)] == [1] * 8
    assert [slot.threads for slot in slots(2, None, use_gpus=False)] == [4, 4]
    assert [slot.threads for slot in slots(None, 4, use_gpus=False)] == [4, 4]


def test_one_slot_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scaling.machine.slots.cpu_cores", lambda: 16)
    monkeypatch.setattr("scaling.machine.slots.gpu_ids", lambda: ("0", "3"))
    got = slots(None, None, use_gpus=True)
    assert [slot.environment for slot in got] == [
        {"CUDA_VISIBLE_DEVICES": "0", GPU_SHARE: "1"},
        {"CUDA_VISIBLE_DEVICES": "3", GPU_SHARE: "1"},
    ]
    assert [slot.threads for slot in got] == [8, 8]


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
