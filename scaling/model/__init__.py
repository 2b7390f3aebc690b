"""Transformer modules built from shapes: FAMILIES maps a shape's kind to its module."""

from typing import Any

import torch
from torch import Tensor, nn

from scaling.model.decoder import Decoder
from scaling.model.encoder import Encoder
from scaling.model.encoder_decoder import EncoderDecoder
from scaling.registry import choose
from scaling.shapes.shape import TransformerShape
from scaling.spec.run_spec import STANDARD, Multipliers

FAMILIES: dict[str, type[Any]] = {"decoder": Decoder, "encoder": Encoder, "encoder_decoder": EncoderDecoder}
# The group that counts a parameter, by a part of the parameter's name.
GROUPS = {
    "embedding": "embedding",
    "positions": "embedding",
    "relative": "embedding",
    "segments": "embedding",
    "attention": "attention",
    "cross_attention": "cross_attention",
    "mlp": "mlp",
    "task_head": "task_head",
}


def build(shape: TransformerShape, seed: int, multipliers: Multipliers = STANDARD) -> nn.Module:
    """The model of a shape, on the CPU in float32; its weights depend on (shape, seed, multipliers) alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = choose("model kind", FAMILIES, shape.kind)(shape, multipliers)
    return model


WITHIN = "model."  # prefix of a model's parameter names inside a classifier


def group_of(parameter_name: str) -> str:
    """The group that counts a parameter, by its name."""
    parts = parameter_name.removeprefix(WITHIN).split(".")
    if any(part.endswith("norm") for part in parts):
        return "norm"
    if parts[0].startswith("head"):
        return "head"
    return next(GROUPS[part] for part in parts if part in GROUPS)


def is_hidden(parameter_name: str, parameter: Tensor) -> bool:
    """Whether a parameter is a hidden matrix: both its sides grow with the model's width (Yang et al. 2022)."""
    part = parameter_name.removeprefix(WITHIN).partition(".")[0]
    inside = group_of(parameter_name) in ("attention", "cross_attention", "mlp")
    return parameter.ndim == 2 and (inside or part in ("head_transform", "head_pooler"))


def parameters_by_group(model: nn.Module) -> dict[str, int]:
    """Parameter counts of the built module by group, from its tensors."""
    counts = dict.fromkeys(("embedding", "attention", "mlp", "norm", "head"), 0)
    for name, parameter in model.named_parameters():
        group = group_of(name)
        counts[group] = counts.get(group, 0) + parameter.numel()
    return counts
