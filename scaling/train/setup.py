"""Setup of a run before its claim: its data, its device, and the micro-batch that fits there."""

from dataclasses import dataclass

import torch

from scaling.data.cache import TokenData
from scaling.data.prepare import prepare
from scaling.machine import hardware
from scaling.machine.speed import layers
from scaling.plan.run import Run
from scaling.shapes.flops import train_flops_per_step
from scaling.spec.memory import largest_micro_batch

FREE_SHARE = 0.85  # share of the free memory for a step, because the memory estimate is good to about 15%


@dataclass(frozen=True)
class Setup:
    """Data, device and micro-batch of a run."""

    tokens: TokenData
    device: torch.device
    micro_batch: int  # sequences


def set_up(run: Run, sharing: int = 1) -> Setup:
    """Prepare the run's data, device and micro-batch; ValueError for settings that the user must correct.

    `sharing` runs share the device's free memory.
    """
    runtime, spec = run.runtime, run.spec
    device = hardware.pick_device(runtime.device, spec.recipe.precision)
    tokens = prepare(run.data, spec.data, runtime.cache_dir, progress=runtime.progress)
    recorded = runtime.cuda_graphs and device.type == "cuda"
    micro_batch = runtime.micro_batch_sequences or largest_micro_batch(
        spec, FREE_SHARE * hardware.free_bytes(device) / sharing, runtime.recompute_activations, recorded
    )
    at_once = min(spec.recipe.batch_sequences, micro_batch) * sharing
    step_flops = train_flops_per_step(spec.model, at_once, spec.recipe.optimizer.kind)
    hardware.use_threads(runtime.threads, device, step_flops, layers(spec))
    return Setup(tokens, device, micro_batch)
