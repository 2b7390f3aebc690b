"""Conversion of weights between our layout and Hugging Face's, bit for bit: new names, joins, cuts, orders."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from scaling.hf.architecture import Architecture
from scaling.shapes.shape import TransformerShape

Tensors = Mapping[str, Tensor]
# The axis of the residual stream's channels in a module's weight, and in its bias.
READS, WRITES = (1, None), (0, 0)
RESIDUAL_AXES = {"embedding": READS, "qkv": READS, "q": READS, "kv": READS, "up": READS, "out": WRITES, "down": WRITES}
COMPUTED = "embed_positions.weight"  # Marian's sinusoids, which are no parameters here


def to_ours(theirs: Tensors, architecture: Architecture, ours: Tensors, shape: TransformerShape) -> dict[str, Tensor]:
    """Hugging Face's weights as ours; `ours` gives names and shapes. ValueError names weights that do not fit."""
    made = {}
    for name, like in ours.items():
        tensor = torch.cat([_turned(theirs[part], name, architecture) for part in _names(name, architecture)])
        if tensor.numel() != like.numel():
            raise ValueError(
                f"{' + '.join(_names(name, architecture))} has shape {tuple(tensor.shape)}, but the configuration says "
                f"{tuple(like.shape)}; the weights are another model's"
            )
        tensor = _regrouped(tensor.reshape(like.shape), name, architecture, (shape.n_heads, 3))
        made[name] = _reordered(tensor, name, architecture, back=False).contiguous()
    return made


def to_theirs(ours: Tensors, architecture: Architecture, theirs: Tensors, shape: TransformerShape) -> dict[str, Tensor]:
    """Our weights as Hugging Face's; `theirs` gives names and shapes. A bias that ours lack is zero."""
    made: dict[str, Tensor] = {}
    for name, tensor in ours.items():
        names = _names(name, architecture)
        tensor = _regrouped(tensor, name, architecture, (3, shape.n_heads))
        tensor = _reordered(tensor, name, architecture, back=True)
        kv, cut = shape.kv_width, len(tensor) // len(names)
        parts = torch.split(tensor, [shape.d_model, kv, kv] if len(names) == 3 else [cut] * len(names))
        for their, part in zip(names, parts, strict=True):
            made[their] = _turned(part, name, architecture).reshape(theirs[their].shape).contiguous()
    for their, like in theirs.items():
        if their in architecture.aliases:
            made.setdefault(their, made.get(architecture.aliases[their], torch.zeros_like(like)))
        elif their not in made and their.endswith("bias"):
            made[their] = torch.zeros_like(like)
        elif their.endswith(COMPUTED):
            made[their] = like
    assert made.keys() == theirs.keys(), made.keys() ^ theirs.keys()
    return made


def _names(ours: str, architecture: Architecture) -> tuple[str, ...]:
    """Hugging Face's names of one of our tensors."""
    layer = re.search(r"\.blocks\.(\d+)\.", ours)
    general = re.sub(r"\.blocks\.\d+\.", ".blocks.{i}.", ours)
    module, _, leaf = general.rpartition(".")
    if general in architecture.weights:
        named, ending = architecture.weights[general], ""
    else:
        named, ending = architecture.weights[module], f".{leaf}"
    parts = (named,) if isinstance(named, str) else named
    return tuple(part.replace("{i}", layer[1] if layer else "") + ending for part in parts)


def _turned(tensor: Tensor, ours: str, architecture: Architecture) -> Tensor:
    module = ours.rpartition(".")[0].rpartition(".")[2]
    return tensor.T if tensor.ndim == 2 and module in architecture.transposed else tensor


def _regrouped(tensor: Tensor, ours: str, architecture: Architecture, order: tuple[int, int]) -> Tensor:
    """Swap the two levels of outputs laid out as `order`: heads, and query, key and value."""
    if not architecture.qkv_by_head or ".qkv." not in ours:
        return tensor
    return tensor.reshape(*order, -1, *tensor.shape[1:]).transpose(0, 1).reshape(tensor.shape)


def _reordered(tensor: Tensor, ours: str, architecture: Architecture, back: bool) -> Tensor:
    """Reorder the residual stream's channels to the order of our sinusoids, or `back` to theirs."""
    module, _, leaf = ours.rpartition(".")
    module = module.rpartition(".")[2]
    axes = WRITES if module.endswith("norm") else RESIDUAL_AXES.get(module)
    if not architecture.sines_first or axes is None or (axis := axes[leaf == "bias"]) is None:
        return tensor
    order = torch.arange(tensor.shape[axis]).view(2, -1).T.flatten()
    return tensor.index_select(axis, order.argsort() if back else order)
