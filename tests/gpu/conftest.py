"""The devices of these tests: a GPU, and the CPU with the same code at the same sizes.

`python -m pytest tests/gpu -k cuda` tests a GPU alone, in under 3 minutes. Commands that other tests run on the CPU
run here only on a GPU, and on the CPU with SCALING_GPU_COMMANDS_ON_CPU=1.
"""

import os
from collections.abc import Iterator

import pytest
import torch

from scaling.machine.hardware import pick_device

CPU_COMMANDS = "SCALING_GPU_COMMANDS_ON_CPU"


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch sees no GPU here")
    found = pick_device(request.param, "bf16")
    # Compiling takes long; on the CPU the tests of the rooms do.
    with torch.compiler.set_stance("force_eager" if found.type == "cpu" else "default"):
        yield found


@pytest.fixture
def command_device(device: torch.device) -> str:
    if device.type == "cpu" and CPU_COMMANDS not in os.environ:
        pytest.skip(f"other tests run these commands on the CPU; {CPU_COMMANDS}=1 runs them here too")
    return device.type
