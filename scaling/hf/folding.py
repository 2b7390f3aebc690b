"""Folding of a parametrization's multipliers into the weights, for classes without multipliers."""

from torch import Tensor

from scaling.hf.weights import Tensors
from scaling.shapes.shape import TransformerShape
from scaling.spec.run_spec import STANDARD, Multipliers

WRITERS = (".attention.out.", ".cross_attention.out.", ".mlp.down.")  # modules that write to the residual stream


def fold(weights: Tensors, shape: TransformerShape, multipliers: Multipliers) -> dict[str, Tensor]:
    """Weights of a standard model that has the outputs of these weights with `multipliers`.

    Raises ValueError for a multiplier of the logits where no weights serve the head alone.
    """
    if multipliers == STANDARD:
        return dict(weights)
    before_head = _weights_of_the_head_alone(weights, shape)
    if before_head is None and multipliers.logits != 1:
        raise ValueError(
            f"recipe.parametrization multiplies the logits by {multipliers.logits:g}: with model.norm_place=post and "
            f"model.tied_embeddings=true no weights can hold that; train with model.tied_embeddings=false to export it"
        )
    folded = {}
    for name, tensor in weights.items():
        if any(part in name for part in WRITERS):
            tensor = tensor * multipliers.residual
        elif ".attention.qkv." in name:
            tensor = tensor.clone()
            tensor[: shape.d_model] *= multipliers.scores
        elif ".cross_attention.q." in name:
            tensor = tensor * multipliers.scores
        elif name.startswith((before_head or "none", "head_next.weight")):
            tensor = tensor * multipliers.logits
        folded[name] = tensor
    return folded


def _weights_of_the_head_alone(weights: Tensors, shape: TransformerShape) -> str | None:
    """The name of the head's own matrix, or of the last norm under tied embeddings unless others read that norm."""
    if not shape.tied_embeddings:
        return "head.weight"
    if "head_norm.weight" in weights:
        return "head_norm."
    tower = shape.towers()[-1].stream
    alone = f"{tower}.final_norm.weight" in weights and "head_next.weight" not in weights
    return f"{tower}.final_norm." if alone else None
