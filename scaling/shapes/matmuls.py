"""Matmuls of a shape, and N, the number of their parameters, under each convention.

A shape lists its matmuls once. Parameters (here) and FLOPs (`flops.py`) are both sums over that list, so the two counts
cannot drift apart.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Matmul:
    """A weight matrix applied once to every token of its stream, in each of `layers` layers."""

    group: str  # "attention", "cross_attention", "mlp" or "head"
    stream: str  # tokens that the matrix is applied to: "source", "target", "predicted", "first" (one a sequence)
    fan_in: int
    fan_out: int
    bias: bool
    layers: int
    owns_weight: bool = True  # False for a head that reuses the token embedding

    @property
    def parameters(self) -> int:
        """Weights and biases that this matmul adds to the model, all layers together."""
        weights = self.fan_in * self.fan_out if self.owns_weight else 0
        return self.layers * (weights + (self.fan_out if self.bias else 0))


@dataclass(frozen=True)
class AttentionScores:
    """Query-key scores and value-weighted sums: matmuls without weights, quadratic in the context."""

    stream: str  # stream of the queries
    width: int  # n_heads * head width
    keys: int  # keys of each query, those that a causal mask hides included
    layers: int
    causal: bool  # whether a mask hides the later keys


class Shape(Protocol):
    """A shape as both counts read it: parameters and FLOPs follow from these members alone."""

    @property
    def kind(self) -> str: ...
    @property
    def context(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def d_model(self) -> int: ...
    @property
    def n_layers(self) -> int: ...
    @property
    def sequence_tokens(self) -> int: ...
    def stream_tokens(self) -> dict[str, int]: ...
    def matmuls(self) -> tuple[Matmul, ...]: ...
    def attention_scores(self) -> tuple[AttentionScores, ...]: ...
    def parameters_by_group(self) -> dict[str, int]: ...


def parameter_counts(shape: Shape) -> dict[str, int]:
    """N, the number of parameters, under each convention, counted from the shape.

    `total` counts every parameter. `non_embedding` leaves out token and position embeddings and the output head
    (Kaplan et al. 2020, section 2.1). `non_embedding_head` adds the head's matrices to that, tied or not, since they
    cost FLOPs either way (Porian et al. 2024; Pearce and Song 2024).
    """
    groups = shape.parameters_by_group()
    non_embedding = sum(n for group, n in groups.items() if group not in ("embedding", "head"))
    head = sum(m.fan_in * m.fan_out for m in shape.matmuls() if m.group == "head")
    return {
        "total": sum(groups.values()),
        "non_embedding": non_embedding,
        "non_embedding_head": non_embedding + head,
    }
