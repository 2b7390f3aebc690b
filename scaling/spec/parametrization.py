"""Parametrizations: how initial weights, forward multipliers and step sizes follow width and depth, as numbers.

Each is told a base model, which it leaves exactly as it is; a larger model gets factors of what a standard one has.
Where the papers leave constants open this follows the authors' reference implementation, EleutherAI/nanoGPT-mup
(branch completep). Initial weights here are scaled by fan-in already, so hidden matrices need no factor for width.
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
    """The model whose numbers the recipe states; of its MLP it is taken that d_ff grows with d_model."""

    d_model: int | None
    n_layers: int | None
    head_width: int | None


@dataclass(frozen=True)
class Growth:
    """How many times the base model's a model's dimensions are."""

    width: float
    depth: float
    head: float


def standard(growth: Growth, optimizer: OptimizerSpec) -> Resolved:
    """Nothing follows size but the laws of the recipe."""
    return optimizer, None


def mup(growth: Growth, optimizer: OptimizerSpec) -> Resolved:
    """Maximal update parametrization for AdamW (Yang et al. 2022, table 8): transfers across width.

    Hidden matrices' learning rate falls as 1/width, logits are multiplied by 1/width, initial output weights keep their
    size, and scores are divided by the head's width instead of its root. Embeddings, vectors and the head learn at the
    base model's rate.
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
    """CompleteP, alpha = 1 (Dey et al. 2025, table 1): muP, and transfers across depth.

    Sublayers are multiplied by 1/depth, which takes over from GPT-2's smaller initial weights; with alpha = 1 no
    learning rate follows depth. Epsilon falls with the gradients, as 1/(width * depth), and hidden matrices' decay
    grows with width, so that what a step takes from them stays the same.
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
    """What a model of this shape is trained with; `optimizer` is what the base model would be.

    ValueError where the base is not said, or the shape has what the parametrization has no rule for.
    """
    rule = choose("recipe.parametrization", PARAMETRIZATIONS, kind)
    if rule is standard:
        return rule(Growth(1.0, 1.0, 1.0), optimizer)
    d_model, n_layers, head_width = (_said(kind, name, getattr(base, name)) for name in vars(base))
    for setting, unsuited in _unsuited(shape, kind).items():
        if unsuited:
            raise ValueError(f"recipe.parametrization={kind} has no rule for {setting}; change that, or use standard")
    return rule(Growth(shape.d_model / d_model, shape.n_layers / n_layers, shape.head_width / head_width), optimizer)


def _said(kind: str, name: str, value: int | None) -> int:
    if value is None or value < 1:
        raise ValueError(
            f"recipe.base_{name}={value}: recipe.parametrization={kind} grows away from a base model; say how large it "
            f"is, at least 1, or use recipe={kind}, whose base is model=small"
        )
    return value


def _unsuited(shape: TransformerShape, kind: str) -> dict[str, bool]:
    """Settings that bring multipliers of width or depth of their own."""
    return {
        "model.positions=sinusoidal": shape.positions_kind == "sinusoidal",
        "model.family.attention_scale=false": not shape.scales_scores(),
        "model.family.logit_scale=true": shape.scales_logits(),
        "model.norm_place=post": kind == "completep" and shape.norm_place == "post",
    }


# Along which of a model's dimensions a learning rate is meant to transfer.
TRANSFERS: dict[str, tuple[str, ...]] = {"standard": (), "mup": ("width",), "completep": ("width", "depth")}
