"""The coordinate check: sizes of activations, and their changes by a few steps, as a model grows.

Yang et al. 2022, appendix D.1: under a correct parametrization neither depends on width (or depth). The configuration
resolves each model as in a plan; the model trains for a few steps at its peak learning rate, on the same batches as the
others, and is probed on one batch before and after.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from scaling.config.config import compose, to_run
from scaling.config.grid import cell_runs
from scaling.config.sections import Rows
from scaling.data.cache import TokenData
from scaling.data.chunks import TrainingChunks
from scaling.data.prepare import prepare
from scaling.machine import hardware
from scaling.machine.speed import layers
from scaling.model import build, is_hidden
from scaling.model.layers import Attention, split_heads
from scaling.objectives.batch import Batch
from scaling.objectives.losses import logits_of
from scaling.objectives.objectives import training_batch
from scaling.shapes.flops import train_flops_per_step
from scaling.spec.parametrization import TRANSFERS
from scaling.spec.run_spec import RunSpec
from scaling.train.setup import text_of
from scaling.train.step import Stepper

SEQUENCES = 8  # sequences of a batch, in place of the recipe's number
STANDARD = "standard"


@dataclass(frozen=True)
class CheckedModel:
    """A model of the check: the base model with one dimension times a factor."""

    parametrization: str
    axis: str  # "width" or "depth"
    factor: int


@dataclass(frozen=True)
class Measurement:
    """Root mean squares of one trained model's activations, by quantity."""

    cell: CheckedModel
    seed: int
    size: dict[str, float]  # before the steps
    change: dict[str, float]  # caused by the steps


def measurements(
    overrides: Sequence[str], widths: Sequence[int], depths: Sequence[int], steps: int, seeds: int
) -> tuple[int, Iterator[Measurement]]:
    """The number of measurements, and an iterator that makes them: standard first, then the recipe's parametrization.

    `widths` and `depths` are factors of the recipe's base model. Raises ValueError for a recipe without transfer.
    """
    master = compose(overrides)
    kind = master.recipe.parametrization
    axes = TRANSFERS.get(kind, ())
    if not axes:
        raise ValueError(f"recipe.parametrization={kind} promises no transfer to check; add recipe=mup or completep")
    to_run(master)  # refuses a recipe without a base model, before the base is multiplied
    factors = {"width": widths, "depth": depths}
    for axis in axes:
        if len(set(factors[axis])) < 2:
            raise ValueError(f"--{axis}s {','.join(map(str, factors[axis]))}: a slope takes at least two, e.g. 1,4")
    cells = [CheckedModel(name, axis, factor) for name in (STANDARD, kind) for axis in axes for factor in factors[axis]]
    rows = [_overrides(cell, master.recipe) for cell in cells]
    runs = cell_runs(Rows(master, lambda row: compose([*overrides, *row])), rows)
    run = runs[0]
    tokens = prepare(run.data, run.spec.data, run.runtime.cache_dir, progress=run.runtime.progress)
    tasks = [(cell, run, seed) for cell, run in zip(cells, runs, strict=True) for seed in range(seeds)]
    return len(tasks), (measure(cell, run.spec, tokens, steps, seed, run.runtime.threads) for cell, run, seed in tasks)


def _overrides(cell: CheckedModel, recipe: Any) -> tuple[str, ...]:
    """Overrides of the cell's model, whose heads widen with it, and of its parametrization."""
    width = cell.factor if cell.axis == "width" else 1
    depth = cell.factor if cell.axis == "depth" else 1
    return (
        f"model.d_model={recipe.base_d_model * width}",
        f"model.n_layers={recipe.base_n_layers * depth}",
        f"model.n_heads={recipe.base_d_model // recipe.base_head_width}",
        f"recipe.parametrization={cell.parametrization}",
    )


def measure(
    cell: CheckedModel, spec: RunSpec, tokens: TokenData, steps: int, seed: int, threads: int | None = None
) -> Measurement:
    """Train the cell's model for `steps` steps on the CPU, and probe it before and after.

    `threads` of None are as many as a step can use here.
    """
    recipe = replace(spec.recipe, batch_sequences=SEQUENCES)
    spec = replace(spec, recipe=recipe, seed=seed)
    text = text_of(spec, tokens)
    batches = TrainingChunks(tokens.train, spec.lengths.text, SEQUENCES, seed, aligned=spec.lengths.aligned)
    model = build(spec.model, seed, recipe.multipliers)
    stepper = Stepper(model, replace(recipe, precision="fp32", compile=False), SEQUENCES, torch.device("cpu"))
    probe = training_batch(spec, batches.batch(0), 1, text)
    step_flops = train_flops_per_step(spec.model, SEQUENCES, recipe.optimizer.kind)
    hardware.use_threads(threads, torch.device("cpu"), step_flops, layers(spec))
    before = probed(model, probe)
    for step in range(1, steps + 1):
        stepper.take(training_batch(spec, batches.batch(step), step, text), 1.0)
    after = probed(model, probe)
    size = {name: _rms(tensors) for name, tensors in before.items()}
    change = {name: _rms([b - a for a, b in zip(before[name], after[name], strict=True)]) for name in before}
    return Measurement(cell, seed, size, change)


@torch.no_grad()
def probed(model: nn.Module, example: Batch) -> dict[str, list[Tensor]]:
    """Activations of one batch by quantity, in the last block of the last tower.

    `scores` are the products of queries and keys before the softmax, without positions; `weights` are all hidden
    matrices times their fan-in, the most by which a matrix can move one of its outputs.
    """
    towers = [getattr(model, name) for name in ("source", "target") if hasattr(model, name)]
    block: Any = towers[-1].blocks[-1]
    activations: dict[str, list[Tensor]] = {}

    def keep(name: str, of: Callable[[Tensor], Tensor] = Tensor.clone) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            activations.setdefault(name, [of(output)])

        return hook

    hooks = [
        model.get_submodule("embedding").register_forward_hook(keep("embedding")),
        block.attention.qkv.register_forward_hook(keep("scores", lambda qkv: _scores(block.attention, qkv))),
        block.attention.register_forward_hook(keep("attention")),
        block.mlp.register_forward_hook(keep("mlp")),
        block.register_forward_hook(keep("stream")),
    ]
    logits = logits_of(model(*example.inputs))
    for hook in hooks:
        hook.remove()
    activations["logits"] = [logits]
    hidden = [p.detach() * p.shape[1] for name, p in model.named_parameters() if is_hidden(name, p)]
    return activations | {"weights": [w.clone() for w in hidden]}


def _scores(attention: Attention, qkv_BTD: Tensor) -> Tensor:
    qkv_BHTK = split_heads(qkv_BTD, attention.head_width)
    q_BHTK, k_BGTK, _ = torch.split(qkv_BHTK, [attention.heads, attention.kv_heads, attention.kv_heads], dim=1)
    k_BHTK = k_BGTK.repeat_interleave(attention.heads // attention.kv_heads, dim=1)
    scale = attention.head_width**-0.5 if attention.scale is None else attention.scale
    return q_BHTK @ k_BHTK.transpose(-2, -1) * scale


def _rms(tensors: Sequence[Tensor]) -> float:
    squares = sum(float(tensor.cpu().double().square().sum()) for tensor in tensors)
    return float((squares / sum(tensor.numel() for tensor in tensors)) ** 0.5)
