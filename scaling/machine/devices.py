"""Known GPUs: peak speed, memory and power by their data sheets, and the share of the peak that training reaches."""

import re
from dataclasses import dataclass

from scaling.registry import choose


@dataclass(frozen=True)
class Device:
    """A GPU: dense peaks in FLOP/s, memory in bytes and bytes/s, power in watts, and the source of these numbers."""

    title: str
    names: tuple[str, ...]  # whole words of the names that the driver gives it
    bf16_flops: float  # tensor cores, without sparsity
    fp32_flops: float  # outside tensor cores, as torch multiplies float32 by default
    bytes_per_s: float
    memory_bytes: float
    watts: float  # the board's limit
    source: str

    def peak_flops(self, precision: str) -> float:
        """FLOP/s of the data sheet for "bf16" or "fp32"."""
        return self.bf16_flops if precision == "bf16" else self.fp32_flops

    def efficiency(self, precision: str, width: int) -> float:
        """The share of the peak that arithmetic reaches in training a model of this width; assumed, see LARGE, HALF."""
        element_bytes = 2 if precision == "bf16" else 4
        half = HALF * self.peak_flops(precision) / self.bytes_per_s * element_bytes / 2
        return LARGE * width / (width + half)


# Assumed: the arithmetic of a matmul over its traffic grows with its width, so that a width of HALF times the FLOPs a
# device does while a byte moves reaches half of LARGE. HALF makes GPT-2 small reach 30% on an A100, the time that
# nanoGPT's README states (300e9 tokens in about 4 days on 8); LARGE is common for models of billions of parameters.
LARGE, HALF = 0.4, 1.57

# Words that other words of a name make more exact stand after these.
DEVICES = {
    "gb200": Device(
        "NVIDIA GB200", ("GB200",), 2500e12, 80e12, 8e12, 186e9, 1200, "NVIDIA GB200 NVL72 data sheet, a 72nd"
    ),
    "b200": Device(
        "NVIDIA B200 SXM",
        ("B200",),
        2250e12,
        75e12,
        8e12,
        180e9,
        1000,
        "NVIDIA HGX B200 data sheet, an eighth",
    ),
    "h200": Device("NVIDIA H200 SXM", ("H200",), 989e12, 67e12, 4.8e12, 141e9, 700, "NVIDIA H200 data sheet"),
    "h100-pcie": Device("NVIDIA H100 PCIe", ("H100 PCIe",), 756e12, 51e12, 2.0e12, 80e9, 350, "NVIDIA H100 data sheet"),
    "h100-nvl": Device("NVIDIA H100 NVL", ("H100 NVL",), 835e12, 60e12, 3.9e12, 94e9, 400, "NVIDIA H100 data sheet"),
    "h100": Device("NVIDIA H100 SXM", ("H100",), 989e12, 67e12, 3.35e12, 80e9, 700, "NVIDIA H100 data sheet"),
    "a100-40gb": Device(
        "NVIDIA A100 SXM 40 GB",
        ("A100-SXM4-40GB", "A100-PCIE-40GB"),
        312e12,
        19.5e12,
        1.555e12,
        40e9,
        400,
        "NVIDIA A100 data sheet",
    ),
    "a100": Device("NVIDIA A100 SXM 80 GB", ("A100",), 312e12, 19.5e12, 2.039e12, 80e9, 400, "NVIDIA A100 data sheet"),
    "l40s": Device("NVIDIA L40S", ("L40S",), 362e12, 91.6e12, 0.864e12, 48e9, 350, "NVIDIA L40S data sheet"),
    "l40": Device("NVIDIA L40", ("L40",), 181e12, 90.5e12, 0.864e12, 48e9, 300, "NVIDIA L40 data sheet"),
    "a10g": Device("NVIDIA A10G", ("A10G",), 70e12, 35e12, 0.6e12, 24e9, 300, "NVIDIA A10G data sheet"),
    "a10": Device("NVIDIA A10", ("A10",), 125e12, 31.2e12, 0.6e12, 24e9, 150, "NVIDIA A10 data sheet"),
    "t4": Device("NVIDIA T4", ("T4",), 65e12, 8.1e12, 0.3e12, 16e9, 70, "NVIDIA T4 data sheet, float16 for bf16"),
    "l4": Device("NVIDIA L4", ("L4",), 121e12, 30.3e12, 0.3e12, 24e9, 72, "NVIDIA L4 data sheet"),
    "v100": Device(
        "NVIDIA V100 SXM2",
        ("V100",),
        125e12,
        15.7e12,
        0.9e12,
        32e9,
        300,
        "NVIDIA V100 data sheet, float16 for bf16",
    ),
    "rtx4090": Device(
        "NVIDIA RTX 4090", ("4090",), 165e12, 82.6e12, 1.008e12, 24e9, 450, "NVIDIA Ada architecture white paper"
    ),
    "rtx3090": Device(
        "NVIDIA RTX 3090", ("3090",), 71e12, 35.6e12, 0.936e12, 24e9, 350, "NVIDIA Ampere GA102 white paper"
    ),
    "mi300x": Device(
        "AMD Instinct MI300X", ("MI300X",), 1307e12, 163e12, 5.3e12, 192e9, 750, "AMD Instinct MI300X data sheet"
    ),
}


def device(name: str) -> Device:
    """The device of a command line's name; ValueError lists the devices."""
    return choose("device", DEVICES, name.lower())


def known_device(driver_name: str) -> str | None:
    """The name in DEVICES of a GPU that the driver names so; None for an unknown one."""

    def matches(name: str) -> bool:
        return re.search(rf"(?<![A-Za-z0-9]){name}(?![A-Za-z0-9])", driver_name) is not None

    return next((key for key, known in DEVICES.items() if any(map(matches, known.names))), None)
