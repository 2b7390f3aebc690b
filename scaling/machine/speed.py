"""Speed of training steps: assumed, or measured on this machine by `scaling bench`."""

import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

from scaling.machine.devices import DEVICES
from scaling.records.files import read_json, write_json
from scaling.spec.run_spec import RunSpec


@dataclass(frozen=True)
class Speed:
    """Seconds of a step before its arithmetic, seconds that each layer adds, and the speed of the arithmetic."""

    step_s: float
    layer_s: float
    flops_per_s: float

    def step(self, layers: int, step_flops: float) -> float:
        """Seconds of one training step of one run on one slot, while the other slots are busy too."""
        return self.step_s + layers * self.layer_s + step_flops / self.flops_per_s

    def run(self, spec: RunSpec, train_flops: float) -> float:
        """Seconds of a whole run's training steps."""
        steps = spec.recipe.steps
        return steps * self.step(layers(spec), train_flops / steps)


# Speeds assumed where none was measured: a core of a 2020s server CPU in float32, 40% of an H100's dense bf16 peak.
ASSUMED = {"cpu": Speed(0.3e-3, 0.4e-3, 40e9), "cuda": Speed(2e-3, 0.5e-3, 400e12)}


# Bytes/s of gradients at which the devices of a run sum them, in rings; communication does not overlap with arithmetic.
# Assumed, "cpu" included: 2 GB/s between processes of one machine, 100 GB/s between GPUs of a node with NVLink.
EXCHANGE_BYTES_PER_S = {"cpu": 2e9, "cuda": 100e9}
# As much between nodes, all devices of a node together: 400 Gb/s InfiniBand for GPUs, 10 Gb/s Ethernet for CPUs.
NODE_BYTES_PER_S = {"cpu": 1e9, "cuda": 50e9}
EXCHANGE_STEP_S = {"cpu": 1e-3, "cuda": 0.5e-3}  # seconds of a step's exchanges beside their bytes; assumed
GRADIENT_BYTES = 4  # of a parameter, in float32


def exchange_s(sent: int, devices: int, device: str, nodes: int = 1) -> float:
    """Seconds in which `devices` devices exchange a step's gradients and weights; assumed, since none was measured.

    `sent` are the bytes that the passes of a ring send, were it endless. The devices of a node are a ring, and the
    nodes a ring of their own.
    """
    if devices == 1:
        return 0.0
    kind = "cpu" if device == "cpu" else "cuda"
    within, between = (sent * (members - 1) / members for members in (devices // nodes, nodes))
    return EXCHANGE_STEP_S[kind] + within / EXCHANGE_BYTES_PER_S[kind] + between / NODE_BYTES_PER_S[kind]


def layers(spec: RunSpec) -> int:
    """Layers of all towers together."""
    return spec.model.n_layers * len(spec.model.towers())


def speed(cache_dir: Path, device: str, precision: str, width: int = 0) -> tuple[Speed, bool]:
    """The speed that plans use for "cpu" or "cuda" here or for a known device, and whether it was measured.

    The assumed speed of a known device follows the model's width.
    """
    measured = _read(_path(cache_dir)).get(_key(device, precision))
    if measured is not None:
        return Speed(**measured), True
    if device in ASSUMED:
        return ASSUMED[device], False
    known = DEVICES[device]
    reached = known.peak_flops(precision) * known.efficiency(precision, width)
    return replace(ASSUMED["cuda"], flops_per_s=reached), False


def remember(cache_dir: Path, device: str, precision: str, found: Speed) -> Path:
    """Store the speed of this machine, or of a known device, which every plan with this cache then uses."""
    path = _path(cache_dir)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {**_read(path), _key(device, precision): asdict(found)})
    _read.cache_clear()
    return path


def fit_speed(samples: Sequence[tuple[int, float, float]]) -> Speed:
    """The speed fitted to measured steps (layers, FLOPs of a step, seconds), by least squares of relative errors.

    ValueError for fewer than three samples, which do not determine three costs.
    """
    import numpy as np
    from scipy.optimize import nnls

    if len(samples) < 3:
        raise ValueError(f"{len(samples)} measured shapes do not determine a speed; measure at least 3")
    layers_n, flops_n, seconds_n = np.array(samples, dtype=float).T
    design = np.stack((np.ones_like(seconds_n), layers_n, flops_n / 1e9), axis=1) / seconds_n[:, None]
    (step, layer, per_gflop), _ = nnls(design, np.ones_like(seconds_n))
    if per_gflop == 0:
        raise ValueError("the measured steps do not grow with their arithmetic; measure larger shapes")
    return Speed(float(step), float(layer), float(1e9 / per_gflop))


def _path(cache_dir: Path) -> Path:
    return cache_dir / "speed.json"


def _key(device: str, precision: str) -> str:
    here = f"{socket.gethostname()} " if device in ASSUMED else ""  # a known device is the same everywhere
    return f"{here}{device} {precision}"


@cache
def _read(path: Path) -> dict[str, dict[str, float]]:
    return read_json(path) or {}
