"""The encoder-decoder: source and target ids in, logits of the target's next tokens out.

B batch, S source tokens, T target tokens, V vocabulary
"""

import math

import torch
from torch import Tensor, nn

from scaling.model.layers import KeyValueCache
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
        """Logits (B, T, V) of the next target token; position t sees the whole source and targets up to t."""
        return self.read(source_BS, target_BT).logits()

    def read(self, source_BS: Tensor, target_BT: Tensor) -> LazyLogits:
        """The same logits before the head computes them."""
        return self._decode(self.source(self.embedding(source_BS)), target_BT)

    def decode(self, source_BSD: Tensor, target_BT: Tensor, caches: list[KeyValueCache] | None = None) -> Tensor:
        """Logits (B, T, V) from an encoded source; with `caches`, the target's tokens follow the cached tokens."""
        return self._decode(source_BSD, target_BT, caches).logits()

    def _decode(self, source_BSD: Tensor, target_BT: Tensor, caches: list[KeyValueCache] | None = None) -> LazyLogits:
        x_BTD = self.target(self.embedding(target_BT), source_BSD, caches=caches)
        return lazy_logits(x_BTD, self.head_scale, self.embedding, self.head, self.head_bias)
