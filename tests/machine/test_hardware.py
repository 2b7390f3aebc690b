"""Manners on a GPU, with a stand-in for torch's: shares are kept, costs are stated, and no run is held up."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from scaling.machine import hardware
from scaling.machine.devices import DEVICES
from scaling.machine.slots import CORES, GPU_SHARE
from scaling.objectives.fused_loss import is_fused

CUDA, MPS = torch.device("cuda"), torch.device("mps")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """An H100 that bounds no memory, and the bounds that it was given."""
    bounds: list[float] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", bounds.append)
    for stated_once in (hardware._keep_to_slot, hardware._state_cost_of_fp32):
        stated_once.cache_clear()
    return bounds


@pytest.fixture
def workers() -> Iterator[Any]:
    """The compiler's settings, with 32 processes."""
    from torch._inductor import config

    with config.patch(compile_threads=32):
        yield config


def test_a_slot_keeps_to_its_share_of_the_gpu_and_of_the_cores(
    gpu: list[float],
    workers: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(GPU_SHARE, "0.5")
    monkeypatch.setenv(CORES, "3")
    monkeypatch.setenv(hardware.MPS_FOLDER, str(tmp_path))
    for _ in range(2):
        assert hardware.pick_device("auto", "bf16") == CUDA
    assert gpu == [0.5]
    assert workers.compile_threads == 3
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(
        "2 slots share this GPU without MPS, so that their kernels take turns; start nvidia-cuda-mps"
    )


def test_a_slot_under_mps_says_nothing_and_a_whole_gpu_is_not_bounded(
    gpu: list[float],
    workers: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(hardware.MPS_FOLDER, str(tmp_path))
    (tmp_path / "control").touch()
    monkeypatch.delenv(GPU_SHARE, raising=False)
    hardware.pick_device("cuda", "bf16")
    assert gpu == []
    monkeypatch.setenv(GPU_SHARE, "0.25")
    hardware.pick_device("cuda", "bf16")
    assert gpu == [0.25]
    assert capsys.readouterr().out == ""


def test_float32_on_a_gpu_states_its_cost_once(
    gpu: list[float], workers: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        hardware.pick_device("cuda", "fp32")
    (line,) = capsys.readouterr().out.splitlines()
    assert "without TF32; recipe.precision=bf16 uses them, 15 times its speed by the data sheet" in line


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_gpus_peak_is_read_and_never_measured(
    precision: str, gpu: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "matmul_flops", lambda *_: pytest.fail("a run was held up"))
    hardware.peak_flops.cache_clear()
    assert hardware.peak_flops(CUDA, precision) == DEVICES["h100"].peak_flops(precision)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "a GPU of tomorrow")
    hardware.peak_flops.cache_clear()
    assert hardware.peak_flops(CUDA, precision) is None
    hardware.peak_flops.cache_clear()


def test_the_ceiling_is_measured_on_numbers_as_a_model_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers that are all alike flatter a GPU at its power limit; none of the run's own numbers are drawn."""
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(torch, "mm", lambda a, b: seen.append(a))
    state = torch.get_rng_state()
    hardware.matmul_flops(torch.device("cpu"), "fp32")
    assert seen[0].std().item() == pytest.approx(1, rel=0.01)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.fixture
def apple(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """A Mac whose system's versions are asked for, with the versions that it is at least."""
    at_least: list[tuple[int, ...]] = [(13, 0), (14, 0)]
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda *version: version in at_least)
    return at_least


def test_apples_gpu_is_taken_by_name_in_float32_and_bf16_where_its_system_has_it(apple: list[tuple[int, ...]]) -> None:
    assert hardware.pick_device("auto", "fp32").type == "cpu"
    assert [hardware.pick_device("mps", precision).type for precision in ("fp32", "bf16")] == ["mps", "mps"]
    apple.remove((14, 0))
    assert hardware.pick_device("mps", "fp32").type == "mps"
    with pytest.raises(ValueError, match="recipe.precision=bf16 on runtime.device=mps needs macOS 14.0 or newer; use"):
        hardware.pick_device("mps", "bf16")


def test_apples_gpu_that_is_not_here_is_refused() -> None:
    if not torch.backends.mps.is_available():
        with pytest.raises(ValueError, match="runtime.device=mps, but torch sees no Apple GPU here; use runtime.devic"):
            hardware.pick_device("mps", "fp32")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ((2, False, False), "runtime.devices_per_run=2: it is one device; choose runtime.devices_per_run=1"),
        ((1, True, False), "runtime.cuda_graphs=true: recorded steps are CUDA's; choose runtime.cuda_graphs=false"),
        ((1, False, True), "recipe.compile=true: torch compiles for it as a prototype alone; choose recipe.compile=f"),
    ],
)
def test_apples_gpu_refuses_what_it_has_not(settings: tuple[int, bool, bool], words: str) -> None:
    hardware.check_apple(MPS, 1, False, False)
    hardware.check_apple(CUDA, *settings)
    with pytest.raises(ValueError, match=f"runtime.device=mps and {words}"):
        hardware.check_apple(MPS, *settings)


def test_apples_gpu_states_its_memory_and_has_no_known_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[bool] = []
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 12e9)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 2e9)
    monkeypatch.setattr(torch.mps, "synchronize", lambda: waited.append(True))
    assert hardware.free_bytes(MPS) == 10e9
    hardware.peak_flops.cache_clear()
    assert hardware.peak_flops(MPS, "bf16") is None
    hardware.synchronize(MPS)
    assert waited == [True]
    assert hardware.describe(MPS)["device"] == "mps"
    assert [hardware.sums_dtype(torch.device(kind)) for kind in ("mps", "cpu")] == [torch.float32, torch.float64]
    assert not is_fused("mps")
