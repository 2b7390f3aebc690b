"""Known devices: their names, their data sheets, and the speed that plans assume of them."""

from dataclasses import replace
from pathlib import Path

import pytest

from scaling.machine.devices import DEVICES, device, known_device
from scaling.machine.speed import ASSUMED, remember, speed


@pytest.mark.parametrize(
    ("driver", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H100 NVL", "h100-nvl"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA B200", "b200"),
        ("NVIDIA GB200", "gb200"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA A100 80GB PCIe", "a100"),
        ("NVIDIA A100-PCIE-40GB", "a100-40gb"),
        ("NVIDIA A100-SXM4-40GB", "a100-40gb"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA L40", "l40"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA A10", "a10"),
        ("NVIDIA A10G", "a10g"),
        ("Tesla T4", "t4"),
        ("NVIDIA T400 4GB", None),
        ("NVIDIA A1000", None),
        ("Tesla V100-SXM2-32GB", "v100"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("NVIDIA GeForce GTX 1080", None),
    ],
)
def test_a_drivers_name_is_recognised(driver: str, name: str | None) -> None:
    assert known_device(driver) == name


@pytest.mark.parametrize("name", DEVICES)
def test_a_data_sheet_holds_together(name: str) -> None:
    known = device(name.upper())
    low = 1.9 if name in ("rtx4090", "rtx3090", "l40", "a10g") else 3  # made for graphics
    assert low < known.bf16_flops / known.fp32_flops < 35
    assert 50 < known.bf16_flops / known.bytes_per_s < 500  # FLOPs while a byte moves
    assert known.source


def test_efficiency_grows_with_the_width_and_gives_nanogpts_time_on_its_machine() -> None:
    a100 = DEVICES["a100"]
    shares = [a100.efficiency("bf16", width) for width in (64, 768, 4096)]
    assert shares == sorted(shares)
    flops_per_token = 6 * 124e6 + 12 * 12 * 768 * 1024
    days = 300e9 * flops_per_token / (8 * a100.peak_flops("bf16") * shares[1]) / 86400
    assert days == pytest.approx(4, rel=0.05)


def test_a_measured_device_replaces_the_assumption_wherever_the_cache_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow, measured = speed(tmp_path, "h100", "bf16", 128)
    assert not measured
    assert narrow.flops_per_s < speed(tmp_path, "h100", "bf16", 1024)[0].flops_per_s < DEVICES["h100"].bf16_flops
    found = replace(ASSUMED["cuda"], flops_per_s=1e14)
    remember(tmp_path, "h100", "bf16", found)
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    assert speed(tmp_path, "h100", "bf16", 128) == (found, True)
    assert not speed(tmp_path, "h200", "bf16", 128)[1]
