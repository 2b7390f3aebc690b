"""Threads follow the size of a step and the cores that are idle, and wait passively."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from scaling.machine import hardware, threads
from scaling.machine.slots import CORES, slots
from scaling.machine.threads import LAYER_FLOPS_PER_THREAD, idle_cores, threads_for

SMALL, LARGE = 0.5 * LAYER_FLOPS_PER_THREAD, 100 * LAYER_FLOPS_PER_THREAD


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CORES, raising=False)
    monkeypatch.setattr(threads, "cpu_cores", lambda: 8)
    monkeypatch.setattr(threads, "idle_cores", lambda: 8)


def stat(monkeypatch: pytest.MonkeyPatch, *readings: tuple[int, int] | None) -> None:
    """Let the system report these ticks, idle and all, one reading after the other."""
    left = list(readings)
    monkeypatch.setattr(threads, "_idle_and_all", lambda: left.pop(0))
    monkeypatch.setattr(threads, "cpu_cores", lambda: 4)
    monkeypatch.setattr(time, "sleep", lambda _: None)


@pytest.mark.usefixtures("eight_cores")
def test_threads_follow_the_work_of_a_layer() -> None:
    assert threads_for(SMALL, 1) == threads_for(3 * SMALL, 1) == 1
    assert threads_for(4 * SMALL, 1) == 2
    assert threads_for(4 * SMALL, 2) == 1  # the same step in twice the layers
    assert threads_for(LARGE, 1) == 8


def test_threads_are_never_more_than_idle_cores_or_the_slots(
    eight_cores: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "idle_cores", lambda: 3)
    assert threads_for(LARGE, 1) == 3
    monkeypatch.setenv(CORES, "2")
    assert threads_for(LARGE, 1) == 2


@pytest.mark.usefixtures("eight_cores")
def test_a_small_step_does_not_wait_for_a_count_of_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "idle_cores", lambda: pytest.fail("counted"))
    assert threads_for(SMALL, 1) == 1


@pytest.mark.parametrize(("idle", "cores"), [(80, 4), (76, 4), (60, 3), (40, 2), (20, 1), (0, 1)])
def test_idle_cores_are_those_that_nothing_used(monkeypatch: pytest.MonkeyPatch, idle: int, cores: int) -> None:
    stat(monkeypatch, (100, 1000), (100 + idle, 1080))
    assert idle_cores() == cores


def test_the_load_counts_where_the_system_reports_no_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (3.2, 0.0, 0.0))
    stat(monkeypatch, None)
    assert idle_cores() == 1
    stat(monkeypatch, (0, 0), (0, 0))  # a sandbox whose ticks stand still
    monkeypatch.setattr(os, "getloadavg", lambda: (0.3, 0.0, 0.0))
    assert idle_cores() == 4


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="the system reports no ticks")
def test_a_busy_core_is_not_idle() -> None:
    cores = threads.cpu_cores()
    spin = [sys.executable, "-c", "while True: pass"]
    busy = [subprocess.Popen(spin) for _ in range(cores)]
    try:
        time.sleep(0.1)
        assert idle_cores() == 1
    finally:
        for process in busy:
            process.kill()
            process.wait()


def test_a_thread_count_asked_for_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", used.append)
    monkeypatch.setattr(hardware, "threads_for", lambda flops, layers: 5)
    hardware.use_threads(3, torch.device("cpu"), LARGE, 1)
    hardware.use_threads(None, torch.device("cpu"), LARGE, 1)
    hardware.use_threads(None, torch.device("cuda"), LARGE, 1)
    assert used == [3, 5]


def test_a_slot_bounds_the_threads_and_fixes_only_those_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scaling.machine.slots.cpu_cores", lambda: 8)
    (one,) = slots(1, None, use_gpus=False)
    assert (one.asked_threads, one.threads, one.environment[CORES]) == (None, 8, "8")
    (asked,) = slots(1, 2, use_gpus=False)
    assert (asked.asked_threads, asked.environment[CORES]) == (2, "2")
    assert {slot.environment[CORES] for slot in slots(None, None, use_gpus=False)} == {"1"}


def test_threads_wait_passively_unless_the_user_chose() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in threads.PASSIVE}

    def policy(**chosen: str) -> str:
        code = (
            "import os\nfrom scaling.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
            "print(os.environ['OMP_WAIT_POLICY'])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment | chosen, capture_output=True, text=True, check=True
        )
        return done.stdout.split()[-1]

    assert policy() == "PASSIVE"
    assert policy(OMP_WAIT_POLICY="ACTIVE") == "ACTIVE"
