"""FLOPs of a shape: the exact count, by group, and the published approximations as named functions.

One multiply-add is two FLOPs. The exact count is every matmul of the forward pass plus twice that for the backward pass
(one product for the input's gradient, one for the weight's). Recomputation, softmax, norms and activations are not
counted, as in torch's FlopCounterMode. Embedding look-ups cost nothing. An optimizer's own matmuls are counted apart.
"""

from collections.abc import Callable

from scaling.shapes.matmuls import Shape, parameter_counts
from scaling.shapes.shape import TransformerShape

BACKWARD_PER_FORWARD = 2
NEWTON_SCHULZ_STEPS = 5  # iterations of a Muon step (Jordan et al. 2024)

EXACT_IN_WORDS = "exact: every matmul, forward and backward; causal scores in full, not halved"


def forward_flops_by_group(shape: Shape, stream_tokens: dict[str, int]) -> dict[str, int]:
    """Forward FLOPs by group for these tokens of each stream, e.g. a shape's own `stream_tokens()`."""
    flops: dict[str, int] = {}
    for m in shape.matmuls():
        cost = 2 * m.fan_in * m.fan_out * m.layers * stream_tokens[m.stream]
        flops[m.group] = flops.get(m.group, 0) + cost
    # Scores are two products a layer: queries with keys, and attention weights with values.
    flops["scores"] = sum(
        2 * 2 * s.width * s.keys * s.layers * stream_tokens[s.stream] for s in shape.attention_scores()
    )
    return flops


def train_flops_per_sequence(shape: Shape) -> int:
    """Exact training FLOPs of one sequence, forward and backward, each stream at its own length."""
    return (1 + BACKWARD_PER_FORWARD) * sum(forward_flops_by_group(shape, shape.stream_tokens()).values())


def train_flops_per_step(shape: TransformerShape, batch_sequences: int, optimizer: str) -> int:
    """Exact training FLOPs of one step: those of its batch and the optimizer's own."""
    return batch_sequences * train_flops_per_sequence(shape) + OPTIMIZER_FLOPS[optimizer](shape)


def recompute_flops_per_sequence(shape: TransformerShape) -> int:
    """FLOPs that activation checkpointing adds to one sequence: a second forward pass of the blocks, not of the head.

    The second pass of a block leaves out its last matmul unless dropout or a norm follows, which need its result.
    """
    streams = shape.stream_tokens()
    forward = forward_flops_by_group(shape, streams)
    again = sum(flops for group, flops in forward.items() if group != "head")
    if shape.norm_place == "pre" and not shape.dropout:
        tokens = sum(streams[tower.stream] for tower in shape.towers())
        again -= 2 * shape.d_ff * shape.d_model * shape.n_layers * tokens
    return again


def train_flops_per_token_by_group(shape: Shape) -> dict[str, float]:
    """Exact training FLOPs a token by group: those of one sequence over its tokens (`Shape.sequence_tokens`)."""
    forward = forward_flops_by_group(shape, shape.stream_tokens())
    return {group: (1 + BACKWARD_PER_FORWARD) * flops / shape.sequence_tokens for group, flops in forward.items()}


def adamw_flops(shape: Shape) -> int:
    """Matmul FLOPs of one AdamW step: none."""
    return 0


def muon_flops(shape: Shape) -> int:
    """Matmul FLOPs of one Muon step: Newton-Schulz iterations on each matrix X of the towers, m x n with m <= n.

    An iteration is X X^T, its square, and the product of their sum with X: 2 m m n + 2 m m m + 2 m m n.
    """
    flops = 0
    for matmul in shape.matmuls():
        if matmul.group != "head":
            m, n = sorted((matmul.fan_in, matmul.fan_out))
            flops += matmul.layers * NEWTON_SCHULZ_STEPS * (4 * m * m * n + 2 * m * m * m)
    return flops


# Matmul FLOPs of a step of each optimizer, by the optimizer's name.
OPTIMIZER_FLOPS: dict[str, Callable[[Shape], int]] = {"adamw": adamw_flops, "muon": muon_flops}


def exact(shape: Shape) -> float:
    """Exact training FLOPs a token: see EXACT_IN_WORDS."""
    return train_flops_per_sequence(shape) / shape.sequence_tokens


def exact_halved(shape: Shape) -> float:
    """The exact count, but with (keys + 1) / 2 keys a query in causal scores, the mean that the mask leaves."""
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

    The appendix has no gated or grouped-query layers: such layers are counted by their real matrices. The appendix
    describes a decoder; for another family the first tower alone is counted.
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
