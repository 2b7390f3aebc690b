"""Transformers built from shapes: FAMILIES maps a shape's kind to its module."""

from typing import Any

import torch
from torch import nn

from scaling.model.decoder import Decoder
from scaling.model.encoder import Encoder
from scaling.model.encoder_decoder import EncoderDecoder
from scaling.registry import choose
from scaling.shape import TransformerShape

FAMILIES: dict[str, type[Any]] = {"decoder": Decoder, "encoder": Encoder, "encoder_decoder": EncoderDecoder}
# The ledger's group of a parameter, by a part of its name.
GROUPS = {
    "embedding": "embedding",
    "positions": "embedding",
    "relative": "embedding",
    "segments": "embedding",
    "attention": "attention",
    "cross_attention": "cross_attention",
    "mlp": "mlp",
}


def build(shape: TransformerShape, seed: int) -> nn.Module:
    """The model of this shape on the CPU in float32, its weights a function of (shape, seed) alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = choose("model kind", FAMILIES, shape.kind)(shape)
    return model


def group_of(parameter_name: str) -> str:
    """The ledger's group of a parameter, by its name."""
    parts = parameter_name.split(".")
    if any(part.endswith("norm") for part in parts):
        return "norm"
    if parts[0].startswith("head"):
        return "head"
    return next(GROUPS[part] for part in parts if part in GROUPS)


def parameters_by_group(model: nn.Module) -> dict[str, int]:
    """The built module's parameters by group, counted from its tensors."""
    counts = dict.fromkeys(("embedding", "attention", "mlp", "norm", "head"), 0)
    for name, parameter in model.named_parameters():
        group = group_of(name)
        counts[group] = counts.get(group, 0) + parameter.numel()
    return counts
