"""Setup of a run: its data, device and micro-batch before its claim, then its batches and its model."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from scaling.data.cache import TokenData
from scaling.data.chunks import TrainingChunks
from scaling.data.prepare import prepare
from scaling.data.token_text import TokenText
from scaling.machine import hardware
from scaling.machine.speed import layers
from scaling.model import build
from scaling.model.tower import recompute_activations
from scaling.objectives.batch import Batch
from scaling.objectives.fused_loss import is_fused
from scaling.objectives.objectives import training_batch
from scaling.plan.run import Run
from scaling.shapes.flops import train_flops_per_step
from scaling.spec.memory import FREE_SHARE, MOST_TOKENS, chosen, largest_micro_batch
from scaling.spec.parallel import DDP, shards_of
from scaling.spec.run_spec import RunSpec
from scaling.train import checkpoint
from scaling.train.cuda_graph import graph_for
from scaling.train.step import Stepper


@dataclass(frozen=True)
class Setup:
    """Data, device and micro-batch of a run."""

    tokens: TokenData
    device: torch.device
    micro_batch: int  # sequences
    share: float = 1.0  # share of the device that the run has
    parallel: str = DDP  # the kind of parallelism of a run over several devices


Prepare = Callable[[Run, Setup, checkpoint.Checkpoint | None], Stepper]


def set_up(run: Run, sharing: int = 1) -> Setup:
    """Prepare the run's data, device and micro-batch; ValueError for settings that the user must correct.

    `sharing` runs share the device's free memory. Ranks of a node share its memory and its cores on the CPU.
    """
    runtime, spec = run.runtime, run.spec
    ranks, here = runtime.devices_per_run, runtime.devices_per_node
    device = hardware.pick_device(runtime.device, spec.recipe.precision)
    hardware.check_apple(device, ranks, runtime.cuda_graphs, spec.recipe.compile)
    tokens = prepare(run.data, spec.data, runtime.cache_dir, progress=runtime.progress)
    recorded = runtime.cuda_graphs and device.type == "cuda" and ranks == 1
    free_bytes = hardware.free_bytes(device) / (sharing * (here if device.type == "cpu" else 1))
    available = FREE_SHARE * free_bytes
    parallel = chosen(spec, runtime.parallel, ranks, available, runtime.recompute_activations)
    micro_batch = runtime.micro_batch_sequences or largest_micro_batch(
        spec,
        available,
        runtime.recompute_activations,
        recorded,
        is_fused(device.type),
        MOST_TOKENS.get(device.type, math.inf),
        shards_of(parallel, ranks),
    )
    at_once = min(-(-spec.recipe.batch_sequences // ranks), micro_batch) * sharing
    step_flops = train_flops_per_step(spec.model, at_once, spec.recipe.optimizer.kind)
    hardware.use_threads(runtime.threads, device, step_flops, layers(spec), here)
    return Setup(tokens, device, micro_batch, hardware.gpu_share() / sharing, parallel)


def text_of(spec: RunSpec, tokens: TokenData) -> TokenText | None:
    """The text behind the tokens, for objectives that need its words; None for the others."""
    return TokenText.of(tokens.tokenizer()) if spec.objective.needs_text() else None


def batches_of(spec: RunSpec, tokens: TokenData, text: TokenText | None) -> Callable[[int], Batch]:
    """The batch of each step, counted from 1: a function of (seed, step)."""
    lengths, sequences = spec.lengths, spec.recipe.batch_sequences
    chunks = TrainingChunks(tokens.train, lengths.text, sequences, spec.seed, aligned=lengths.aligned)
    return lambda step: training_batch(spec, chunks.batch(step - 1), step, text)


def initial_model(run: Run, resume_from: checkpoint.Checkpoint | None) -> nn.Module:
    """The run's model on the host: with its initial weights, its parent's where a run without checkpoint has one."""
    spec = run.spec
    model = build(spec.model, spec.seed, spec.recipe.multipliers)
    if run.parent is not None and resume_from is None:
        model.load_state_dict(checkpoint.final_weights(run.parent.folder, run.parent.weights_sha256))
    if run.runtime.recompute_activations:
        recompute_activations(model)
    return model


def stepper_of(run: Run, setup: Setup, resume_from: checkpoint.Checkpoint | None) -> Stepper:
    """The stepper of the run's model at its beginning, or as the checkpoint left it with its optimizer."""
    spec, runtime = run.spec, run.runtime
    model = initial_model(run, resume_from).to(setup.device)
    new_graph = (
        graph_for(spec, setup.micro_batch, setup.device, runtime.devices_per_run) if runtime.cuda_graphs else None
    )
    stepper = Stepper(model, spec.recipe, setup.micro_batch, setup.device, new_graph)
    if resume_from is not None:
        checkpoint.restore(resume_from, model, stepper.optimizer)
    return stepper
