"""A tower: positions and blocks over one stream of embedded tokens; with the embedding before and the head after it.

B batch, T tokens, S source tokens, P predictions, D model width, V vocabulary
"""

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from scaling.model.layers import (
    INIT_STD,
    Block,
    KeyValueCache,
    Positions,
    RelativeBias,
    Rotary,
    linear,
    norm,
    sinusoids,
)
from scaling.shapes.shape import Tower, TransformerShape, kind_and_number
from scaling.spec.run_spec import Multipliers


class TowerModule(nn.Module):
    """The module of a shape's Tower."""

    code_TD: Tensor

    def __init__(
        self, shape: TransformerShape, tower: Tower, multipliers: Multipliers, embedding_norm: bool = False
    ) -> None:
        super().__init__()
        self.causal = tower.causal
        self.recompute = False
        self.embedding_scale = embedding_scale(shape)
        self.positions: Positions | None = None
        self.rotary: Rotary | None = None
        self.relative: RelativeBias | None = None
        positions, base = kind_and_number(shape.positions)
        self.sinusoidal = positions == "sinusoidal"
        if positions == "learned":
            self.positions = Positions(tower.tokens, shape.d_model)
        elif positions == "sinusoidal":
            self.register_buffer("code_TD", sinusoids(tower.tokens, shape.d_model), persistent=False)
        elif positions == "rotary":
            assert base is not None
            self.rotary = Rotary(tower.tokens, shape.rotary_width, base)
        else:
            self.relative = RelativeBias(tower.tokens, shape.n_heads, tower.causal)
        self.embedding_norm = norm(shape) if embedding_norm else nn.Identity()
        self.dropout = nn.Dropout(shape.dropout) if shape.dropout else nn.Identity()
        self.blocks = nn.ModuleList(Block(shape, tower, multipliers) for _ in range(shape.n_layers))
        self.final_norm = norm(shape) if shape.norm_place == "pre" else nn.Identity()

    def forward(
        self,
        x_BTD: Tensor,
        source_BSD: Tensor | None = None,
        seen_B: Tensor | None = None,
        caches: list[KeyValueCache] | None = None,
    ) -> Tensor:
        """Output (B, T, D) of embedded tokens; the first `seen_B` tokens of a causal tower see each other both ways.

        With `caches`, one for each layer, the tokens follow the cached tokens.
        """
        start = caches[0].tokens if caches else 0
        x_BTD = self.dropout(self.embedding_norm(self.place(x_BTD, start)))
        mask_BHTT = self.mask(x_BTD.shape[1], seen_B, start)
        for i, block in enumerate(self.blocks):
            if self.recompute and self.training:
                # Only dropout draws numbers again; a recording on a GPU forbids reading the generator's state.
                draws = isinstance(self.dropout, nn.Dropout)
                x_BTD = checkpoint(
                    block, x_BTD, self.rotary, mask_BHTT, source_BSD, use_reentrant=False, preserve_rng_state=draws
                )
            else:
                x_BTD = block(x_BTD, self.rotary, mask_BHTT, source_BSD, caches[i] if caches else None)
        out: Tensor = self.final_norm(x_BTD)
        return out

    def place(self, x_BTD: Tensor, start: int = 0) -> Tensor:
        """The embeddings with their positions added."""
        if self.positions is not None:
            placed: Tensor = self.positions(x_BTD, start)
            return placed
        if self.sinusoidal:
            return x_BTD * self.embedding_scale + self.code_TD[start : start + x_BTD.shape[1]]
        return x_BTD

    def mask(self, tokens: int, seen_B: Tensor | None, start: int = 0) -> Tensor | None:
        """The score bias or the visible keys; None where a plain causal mask, or none, is enough."""
        if start:
            assert tokens == 1, "after the cached tokens, a token comes alone and sees all of them"
            return None if self.relative is None else self.relative(start + 1, start)
        if self.relative is None and seen_B is None:
            return None
        if self.relative is None:
            assert seen_B is not None
            return self.visible(tokens, seen_B, seen_B.device)
        bias_1HTT: Tensor = self.relative(tokens)
        if not self.causal:
            return bias_1HTT
        return bias_1HTT.masked_fill(~self.visible(tokens, seen_B, bias_1HTT.device), -math.inf)

    def visible(self, tokens: int, seen_B: Tensor | None, device: torch.device) -> Tensor:
        """Visible keys (columns) of each query (row) of a causal tower, (1 or B, 1, T, T)."""
        position_T = torch.arange(tokens, device=device)
        earlier_11TT = (position_T.unsqueeze(0) <= position_T.unsqueeze(1))[None, None]
        return earlier_11TT if seen_B is None else earlier_11TT | (position_T < seen_B[:, None, None, None])


def recompute_activations(model: nn.Module) -> None:
    """Keep only each block's inputs from now on (activation checkpointing, Chen et al. 2016), at equal gradients."""
    for module in model.modules():
        if isinstance(module, TowerModule):
            module.recompute = True


def compile_blocks(model: nn.Module) -> None:
    """Compile every block by itself: a tower's blocks are alike, so that one compilation serves any depth."""
    for module in model.modules():
        if isinstance(module, Block):
            module.compile()


def taken_eagerly(model: nn.Module) -> AbstractContextManager[object]:
    """Within, compiled blocks run as they are written: another mode or batch size would be compiled anew."""
    compiled = any(isinstance(module, Block) and module._compiled_call_impl is not None for module in model.modules())
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


def embedding_scale(shape: TransformerShape) -> float:
    """The factor of the embeddings: std 1/sqrt(D) is scaled up to sinusoids of order one (Vaswani et al. 2017, 3.4)."""
    return math.sqrt(shape.d_model) if shape.positions == "sinusoidal" else 1.0


def token_embedding(shape: TransformerShape) -> nn.Embedding:
    """The vocabulary's embedding, with the initial scale that the positions require."""
    embedding = nn.Embedding(shape.vocab_size, shape.d_model)
    scale = embedding_scale(shape)
    std = 1.0 if shape.scales_logits() else INIT_STD  # T5's logits are scaled down by as much as std 1 scales them up
    nn.init.normal_(embedding.weight, std=std if scale == 1 else 1 / scale)
    return embedding


def token_head(shape: TransformerShape, multipliers: Multipliers) -> nn.Linear | None:
    """The output head, or None where the embedding is the head."""
    if shape.tied_embeddings:
        return None
    return linear(shape.d_model, shape.vocab_size, bias=False, gain=multipliers.head_init)


@dataclass(frozen=True)
class LazyLogits:
    """Logits before they are computed: the head's input, matrix and bias.

    Matrix and bias of R models computed as one are (R, V, D) and (R, V).
    """

    x_BPD: Tensor
    weight_VD: Tensor
    bias_V: Tensor | None

    def logits(self) -> Tensor:
        """The logits, (B, P, V)."""
        return F.linear(self.x_BPD, self.weight_VD, self.bias_V)

    def split(self, rows: int) -> "list[LazyLogits]":
        """Parts of at most `rows` predictions each, (n, D), in order."""
        parts = torch.split(self.x_BPD.flatten(0, -2), rows)
        return [LazyLogits(part, self.weight_VD, self.bias_V) for part in parts]


def lazy_logits(
    x_BPD: Tensor, scale: float, embedding: nn.Embedding, head: nn.Linear | None, bias_V: Tensor | None = None
) -> LazyLogits:
    """The head's input, times `scale`, and its matrix: the embedding's where the two are tied."""
    if scale != 1:
        x_BPD = x_BPD * scale
    device = x_BPD.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):  # a matmul would cast too
        x_BPD = x_BPD.to(torch.get_autocast_dtype(device))
    return LazyLogits(x_BPD, embedding.weight if head is None else head.weight, bias_V)
