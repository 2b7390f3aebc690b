"""Parametrizations: how initial weights, forward multipliers and step sizes follow width and depth, as numbers.

A parametrization leaves its base model exactly as it is and gives a larger model factors of the standard quantities.
Constants that the papers leave open are those of the authors' reference implementation, EleutherAI/nanoGPT-mup (branch
completep). Initial weights here are scaled by fan-in already, so hidden matrices need no factor for width.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from scaling.registry import choose
from scaling.shapes.shape import TransformerShape
from scaling.spec.run_spec import Multipliers, OptimizerSpec, ParametrizationSpec

Resolved = tuple[OptimizerSpec, ParametrizationSpec | None]


@dataclass(frozen=True)
class Base:
    """The base model, whose numbers the recipe states; its d_ff is assumed to grow with d_model."""

    d_model: int | None
    n_layers: int | None
    head_width: int | None


@dataclass(frozen=True)
class Growth:
    """A model's dimensions over those of the base model."""

    width: float
    depth: float
    head: float


def standard(growth: Growth, optimizer: OptimizerSpec) -> Resolved:
    """The standard parametrization: no quantity follows size but by the laws of the recipe."""
    return optimizer, None


def mup(growth: Growth, optimizer: OptimizerSpec) -> Resolved:
    """Maximal update parametrization for AdamW (Yang et al. 2022, table 8): transfers across width.

    The learning rate of hidden matrices falls as 1/width, logits are multiplied by 1/width, initial output weights keep
    their size, and scores are divided by the head's width instead of its root. Embeddings, vectors and the head learn
    at the base model's rate.
    """
    multipliers = Multipliers(
        residual=1.0,
        residual_init=1.0,
        head_init=math.sqrt(growth.width),
        scores=1 / math.sqrt(growth.head),
        logits=1 / growth.width,
    )
    rate = optimizer.learning_rate / growth.width
    return optimizer, ParametrizationSpec("mup", multipliers, rate, optimizer.weight_decay)


def completep(growth: Growth, optimizer: OptimizerSpec) -> Resolved:
    """CompleteP with alpha = 1 (Dey et al. 2025, table 1): muP that also transfers across depth.

    Sublayers are multiplied by 1/depth instead of GPT-2's smaller initial weights; with alpha = 1 no learning rate
    follows depth. Epsilon falls with the gradients, as 1/(width * depth). The decay of hidden matrices grows with
    width, so that a step decays them by the same share.
    """
    optimizer, parametrization = mup(growth, replace(optimizer, eps=optimizer.eps / (growth.width * growth.depth)))
    assert parametrization is not None
    multipliers = replace(parametrization.multipliers, residual=1 / growth.depth, residual_init=math.sqrt(growth.depth))
    decay = optimizer.weight_decay * growth.width
    return optimizer, replace(parametrization, kind="completep", multipliers=multipliers, hidden_weight_decay=decay)


PARAMETRIZATIONS: dict[str, Callable[[Growth, OptimizerSpec], Resolved]] = {
    "standard": standard,
    "mup": mup,
    "completep": completep,
}


def parametrize(kind: str, shape: TransformerShape, base: Base, optimizer: OptimizerSpec) -> Resolved:
    """The optimizer and parametrization of a model of this shape, from the `optimizer` of the base model.

    ValueError where the base is not stated, or where the parametrization has no rule for a setting of the shape.
    """
    rule = choose("recipe.parametrization", PARAMETRIZATIONS, kind)
    if rule is standard:
        return rule(Growth(1.0, 1.0, 1.0), optimizer)
    d_model, n_layers, head_width = (_stated(kind, name, getattr(base, name)) for name in vars(base))
    for setting, unsuited in _unsuited(shape, kind).items():
        if unsuited:
            raise ValueError(f"recipe.parametrization={kind} has no rule for {setting}; change that, or use standard")
    return rule(Growth(shape.d_model / d_model, shape.n_layers / n_layers, shape.head_width / head_width), optimizer)


def _stated(kind: str, name: str, value: int | None) -> int:
    if value is None or value < 1:
        raise ValueError(
            f"recipe.base_{name}={value}: recipe.parametrization={kind} grows away from a base model; say how large it "
            f"is, at least 1, or use recipe={kind}, whose base is model=small"
        )
    return value


def _unsuited(shape: TransformerShape, kind: str) -> dict[str, bool]:
    """Settings with multipliers of width or depth of their own, and whether the shape has them."""
    return {
        "model.positions=sinusoidal": shape.positions_kind == "sinusoidal",
        "model.family.attention_scale=false": not shape.scales_scores(),
        "model.family.logit_scale=true": shape.scales_logits(),
        "model.norm_place=post": kind == "completep" and shape.norm_place == "post",
    }


# Dimensions along which a parametrization's learning rate is meant to transfer.
TRANSFERS: dict[str, tuple[str, ...]] = {"standard": (), "mup": ("width",), "completep": ("width", "depth")}
