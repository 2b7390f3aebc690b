"""The coordinate check: how large activations are, and how far a few steps move them, as a model grows.

Yang et al. 2022, appendix D.1: where a parametrization is right, neither depends on width (or depth). Each size is
resolved from the configuration as a plan would, trained for a few steps at its peak learning rate on the same batches,
and probed on one batch before and after.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from scaling.config.config import compose, to_run
from scaling.config.grid import cell_runs
from scaling.data.chunks import TrainingChunks
from scaling.data.prepare import TokenData, prepare
from scaling.data.token_text import TokenText
from scaling.model import build, is_hidden
from scaling.model.layers import Attention, split_heads
from scaling.objectives.batch import Batch
from scaling.objectives.losses import logits_of
from scaling.objectives.objectives import training_batch
from scaling.spec.parametrization import TRANSFERS
from scaling.spec.run_spec import RunSpec
from scaling.train.step import Stepper

SEQUENCES = 8  # of a batch, whatever the recipe's
STANDARD = "standard"


@dataclass(frozen=True)
class CheckedModel:
    """One model of the check: a dimension of the base model, times a factor."""

    parametrization: str
    axis: str  # "width" or "depth"
    factor: int


@dataclass(frozen=True)
class Measurement:
    """Root mean squares of one trained cell, by quantity."""

    cell: CheckedModel
    seed: int
    size: dict[str, float]  # at the start
    change: dict[str, float]  # by the steps


def measurements(
    overrides: Sequence[str], widths: Sequence[int], depths: Sequence[int], steps: int, seeds: int
) -> tuple[int, Iterator[Measurement]]:
    """How many measurements there will be, and each as it is made: standard first, then what the recipe says.

    `widths` and `depths` are factors of the recipe's base model. ValueError for a recipe that promises no transfer.
    """
    master = compose(overrides)
    kind = master.recipe.parametrization
    axes = TRANSFERS.get(kind, ())
    if not axes:
        raise ValueError(f"recipe.parametrization={kind} promises no transfer to check; add recipe=mup or completep")
    to_run(master)  # refuses a recipe whose base is not said, before that is multiplied
    factors = {"width": widths, "depth": depths}
    for axis in axes:
        if len(set(factors[axis])) < 2:
            raise ValueError(f"--{axis}s {','.join(map(str, factors[axis]))}: a slope takes at least two, e.g. 1,4")
    cells = [CheckedModel(name, axis, factor) for name in (STANDARD, kind) for axis in axes for factor in factors[axis]]
    rows = [_overrides(cell, master.recipe) for cell in cells]
    runs = cell_runs(master, rows, lambda row: compose([*overrides, *row]))
    run = runs[0]
    tokens = prepare(run.data, run.spec.data, run.runtime.cache_dir, progress=run.runtime.progress)
    tasks = [(cell, run, seed) for cell, run in zip(cells, runs, strict=True) for seed in range(seeds)]
    return len(tasks), (measure(cell, run.spec, tokens, steps, seed) for cell, run, seed in tasks)


def _overrides(cell: CheckedModel, recipe: Any) -> tuple[str, ...]:
    """The cell's model, its heads growing wider with it, and its parametrization."""
    width = cell.factor if cell.axis == "width" else 1
    depth = cell.factor if cell.axis == "depth" else 1
    return (
        f"model.d_model={recipe.base_d_model * width}",
        f"model.n_layers={recipe.base_n_layers * depth}",
        f"model.n_heads={recipe.base_d_model // recipe.base_head_width}",
        f"recipe.parametrization={cell.parametrization}",
    )


def measure(cell: CheckedModel, spec: RunSpec, tokens: TokenData, steps: int, seed: int) -> Measurement:
    """Train the cell's model for so many steps on the CPU, and probe it before and after."""
    recipe = replace(spec.recipe, batch_sequences=SEQUENCES)
    spec = replace(spec, recipe=recipe, seed=seed)
    text = TokenText.of(tokens.tokenizer()) if spec.objective.needs_text() else None
    batches = TrainingChunks(tokens.train, spec.lengths.text, SEQUENCES, seed)
    model = build(spec.model, seed, recipe.multipliers)
    stepper = Stepper(model, replace(recipe, precision="fp32", compile=False), SEQUENCES, torch.device("cpu"))
    probe = training_batch(spec, batches.batch(0), 1, text)
    before = probed(model, probe)
    for step in range(1, steps + 1):
        stepper.take(training_batch(spec, batches.batch(step), step, text), 1.0)
    after = probed(model, probe)
    size = {name: _rms(tensors) for name, tensors in before.items()}
    change = {name: _rms([b - a for a, b in zip(before[name], after[name], strict=True)]) for name in before}
    return Measurement(cell, seed, size, change)


@torch.no_grad()
def probed(model: nn.Module, example: Batch) -> dict[str, list[Tensor]]:
    """What one batch meets in the model: of the last tower's last block where there are several.

    `scores` are queries with keys before the softmax, positions aside; `weights` are all hidden matrices times their
    fan-in, which is how far such a matrix can move one of its outputs.
    """
    towers = [getattr(model, name) for name in ("source", "target") if hasattr(model, name)]
    block: Any = towers[-1].blocks[-1]
    found: dict[str, list[Tensor]] = {}

    def keep(name: str, of: Callable[[Tensor], Tensor] = Tensor.clone) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            found.setdefault(name, [of(output)])

        return hook

    hooks = [
        model.get_submodule("embedding").register_forward_hook(keep("embedding")),
        block.attention.qkv.register_forward_hook(keep("scores", lambda qkv: _scores(block.attention, qkv))),
        block.attention.register_forward_hook(keep("attention")),
        block.mlp.register_forward_hook(keep("mlp")),
        block.register_forward_hook(keep("stream")),
    ]
    found_logits = logits_of(model(*example.inputs))
    for hook in hooks:
        hook.remove()
    found["logits"] = [found_logits]
    hidden = [p.detach() * p.shape[1] for name, p in model.named_parameters() if is_hidden(name, p)]
    return found | {"weights": [w.clone() for w in hidden]}


def _scores(attention: Attention, qkv_BTD: Tensor) -> Tensor:
    qkv_BHTK = split_heads(qkv_BTD, attention.head_width)
    q_BHTK, k_BGTK, _ = torch.split(qkv_BHTK, [attention.heads, attention.kv_heads, attention.kv_heads], dim=1)
    k_BHTK = k_BGTK.repeat_interleave(attention.heads // attention.kv_heads, dim=1)
    scale = attention.head_width**-0.5 if attention.scale is None else attention.scale
    return q_BHTK @ k_BHTK.transpose(-2, -1) * scale


def _rms(tensors: Sequence[Tensor]) -> float:
    squares = sum(float(tensor.double().square().sum()) for tensor in tensors)
    return float((squares / sum(tensor.numel() for tensor in tensors)) ** 0.5)
