"""The encoder-decoder: source and target ids in, logits of the target's next tokens out.

B batch, S tokens of the source, T of the target, V vocabulary
"""

import math

import torch
from torch import Tensor, nn

from scaling.model.layers import Past
from scaling.model.tower import LazyLogits, TowerModule, lazy_logits, token_embedding, token_head
from scaling.shapes.families import EncoderDecoderShape
from scaling.spec.run_spec import Multipliers


class EncoderDecoder(nn.Module):
    """An encoder-decoder of any EncoderDecoderShape; its parameter count equals the shape's, group by group."""

    def __init__(self, shape: EncoderDecoderShape, multipliers: Multipliers) -> None:
        super().__init__()
        source, target = shape.towers()
        self.embedding = token_embedding(shape)
        self.source = TowerModule(shape, source, multipliers)
        self.target = TowerModule(shape, target, multipliers)
        self.head = token_head(shape, multipliers)
        self.head_bias = nn.Parameter(torch.zeros(shape.vocab_size)) if shape.head_bias else None
        self.head_scale = multipliers.logits / math.sqrt(shape.d_model) if shape.logit_scale else multipliers.logits

    def forward(self, source_BS: Tensor, target_BT: Tensor) -> Tensor:
        """Logits (B, T, V) of the token after each of the target's, which sees the whole source and none later."""
        return self.read(source_BS, target_BT).logits()

    def read(self, source_BS: Tensor, target_BT: Tensor) -> LazyLogits:
        """The same up to the head."""
        return self._decode(self.source(self.embedding(source_BS)), target_BT)

    def decode(self, source_BSD: Tensor, target_BT: Tensor, past: list[Past] | None = None) -> Tensor:
        """Logits from a source that was read before; with a `past`, the target's tokens follow those in it."""
        return self._decode(source_BSD, target_BT, past).logits()

    def _decode(self, source_BSD: Tensor, target_BT: Tensor, past: list[Past] | None = None) -> LazyLogits:
        x_BTD = self.target(self.embedding(target_BT), source_BSD, past=past)
        return lazy_logits(x_BTD, self.head_scale, self.embedding, self.head, self.head_bias)
