"""FLOPs of a shape: the exact count, by group, and the published approximations as named functions.

One multiply-add is two FLOPs. The exact count is every matrix multiplication of the forward pass plus twice that for
the backward pass (one product for the input's gradient, one for the weight's); recomputation, softmax, norms and
activations are not counted, as in torch's FlopCounterMode. Embedding look-ups cost nothing. An optimizer's own matmuls
are counted apart.
"""

from collections.abc import Callable

from scaling.shapes.matmuls import Shape, parameter_counts
from scaling.shapes.shape import TransformerShape

BACKWARD_PER_FORWARD = 2
NEWTON_SCHULZ_STEPS = 5  # of Muon (Jordan et al. 2024)

EXACT_IN_WORDS = "exact: every matmul, forward and backward; causal scores in full, not halved"


def forward_flops_by_group(shape: Shape, stream_tokens: dict[str, int]) -> dict[str, int]:
    """Forward FLOPs by group for so many tokens of each stream, e.g. a shape's own `stream_tokens()`."""
    flops: dict[str, int] = {}
    for m in shape.matmuls():
        cost = 2 * m.fan_in * m.fan_out * m.layers * stream_tokens[m.stream]
        flops[m.group] = flops.get(m.group, 0) + cost
    # Two products a layer: queries with keys, and weights with values.
    flops["scores"] = sum(
        2 * 2 * s.width * s.keys * s.layers * stream_tokens[s.stream] for s in shape.attention_scores()
    )
    return flops


def train_flops_per_sequence(shape: Shape) -> int:
    """Exact training FLOPs of one sequence, forward and backward, every stream at its own length."""
    return (1 + BACKWARD_PER_FORWARD) * sum(forward_flops_by_group(shape, shape.stream_tokens()).values())


def train_flops_per_step(shape: TransformerShape, batch_sequences: int, optimizer: str) -> int:
    """Exact training FLOPs of one step: of its batch, and the optimizer's own."""
    return batch_sequences * train_flops_per_sequence(shape) + OPTIMIZER_FLOPS[optimizer](shape)


def recompute_flops_per_sequence(shape: TransformerShape) -> int:
    """What activation checkpointing computes again for one sequence: the blocks' forward pass, without the head.

    It stops short of a block's last matmul where nothing that follows is needed: without dropout and a norm behind it.
    """
    streams = shape.stream_tokens()
    forward = forward_flops_by_group(shape, streams)
    again = sum(flops for group, flops in forward.items() if group != "head")
    if shape.norm_place == "pre" and not shape.dropout:
        tokens = sum(streams[tower.stream] for tower in shape.towers())
        again -= 2 * shape.d_ff * shape.d_model * shape.n_layers * tokens
    return again


def train_flops_per_token_by_group(shape: Shape) -> dict[str, float]:
    """Exact training FLOPs of one sequence, by group, over its training tokens (`Shape.sequence_tokens`)."""
    forward = forward_flops_by_group(shape, shape.stream_tokens())
    return {group: (1 + BACKWARD_PER_FORWARD) * flops / shape.sequence_tokens for group, flops in forward.items()}


def adamw_flops(shape: Shape) -> int:
    """AdamW multiplies no matrices."""
    return 0


def muon_flops(shape: Shape) -> int:
    """Matmul FLOPs of one Muon step: Newton-Schulz on each matrix of the towers, m x n with m <= n.

    An iteration is X X^T, its square, and their sum's product with X: 2 m m n + 2 m m m + 2 m m n.
    """
    flops = 0
    for matmul in shape.matmuls():
        if matmul.group != "head":
            m, n = sorted((matmul.fan_in, matmul.fan_out))
            flops += matmul.layers * NEWTON_SCHULZ_STEPS * (4 * m * m * n + 2 * m * m * m)
    return flops


# An optimizer's own matmul FLOPs a step, by its name.
OPTIMIZER_FLOPS: dict[str, Callable[[Shape], int]] = {"adamw": adamw_flops, "muon": muon_flops}


def exact(shape: Shape) -> float:
    """Exact training FLOPs per token: see EXACT_IN_WORDS."""
    return train_flops_per_sequence(shape) / shape.sequence_tokens


def exact_halved(shape: Shape) -> float:
    """The exact count with causal scores at what causality needs, (keys + 1) / 2 keys a query instead of all."""
    streams = shape.stream_tokens()
    spared = sum(
        2 * 2 * s.width * (s.keys - 1) / 2 * s.layers * streams[s.stream] for s in shape.attention_scores() if s.causal
    )
    return exact(shape) - (1 + BACKWARD_PER_FORWARD) * spared / shape.sequence_tokens


def six_n_total(shape: Shape) -> float:
    """6N a token, N every parameter (the usual reading of Hoffmann et al. 2022)."""
    return 6.0 * parameter_counts(shape)["total"]


def six_n_non_embedding(shape: Shape) -> float:
    """6N a token, N without embeddings and head (Kaplan et al. 2020, section 2.1)."""
    return 6.0 * parameter_counts(shape)["non_embedding"]


def six_n_non_embedding_head(shape: Shape) -> float:
    """6N a token, N without embeddings but with the head (Porian et al. 2024)."""
    return 6.0 * parameter_counts(shape)["non_embedding_head"]


def chinchilla(shape: TransformerShape) -> float:
    """Training FLOPs a token by Hoffmann et al. 2022, appendix F, which prices the embedding as a matmul.

    The appendix knows no gated or grouped-query layers: those are counted by their real matrices. It describes a
    decoder; of other families it prices the first tower.
    """
    d, t, width = shape.d_model, shape.context, shape.n_heads * shape.head_width
    embedding = 2 * shape.vocab_size * d
    qkv = 2 * d * (width + 2 * shape.n_kv_heads * shape.head_width)
    scores, softmax, weighted_sum = 2 * t * width, 3 * shape.n_heads * t, 2 * t * width
    output = 2 * width * d
    dense = 2 * (3 if shape.activation == "swiglu" else 2) * d * shape.d_ff
    head = 2 * d * shape.vocab_size
    layer = qkv + scores + softmax + weighted_sum + output + dense
    return float((1 + BACKWARD_PER_FORWARD) * (embedding + shape.n_layers * layer + head))


def palm(shape: TransformerShape) -> float:
    """6N + 12 L H Q T a token, N every parameter but the look-up embeddings (Chowdhery et al. 2022, appendix B)."""
    scores = 12 * shape.n_layers * shape.n_heads * shape.head_width * shape.context
    return 6.0 * parameter_counts(shape)["non_embedding_head"] + scores
