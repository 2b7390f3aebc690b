"""The causal decoder: token ids in, next-token logits out.

B batch, T tokens, D model width, V vocabulary
"""

from torch import Tensor, nn

from scaling.model.layers import KeyValueCache
from scaling.model.tower import LazyLogits, TowerModule, lazy_logits, token_embedding, token_head
from scaling.shapes.families import DecoderShape
from scaling.spec.run_spec import Multipliers


class Decoder(nn.Module):
    """A decoder of any DecoderShape; its parameter count equals the shape's, group by group."""

    def __init__(self, shape: DecoderShape, multipliers: Multipliers) -> None:
        super().__init__()
        (tower,) = shape.towers()
        self.embedding = token_embedding(shape)
        self.target = TowerModule(shape, tower, multipliers)
        self.head = token_head(shape, multipliers)
        self.head_scale = multipliers.logits

    def forward(
        self, tokens_BT: Tensor, seen_B: Tensor | None = None, caches: list[KeyValueCache] | None = None
    ) -> Tensor:
        """Logits (B, T, V) of the token after each position.

        Position t sees tokens up to t only; the first `seen_B` tokens of a sequence see each other as well. With
        `caches`, one for each layer, the tokens follow the cached tokens.
        """
        return self.read(tokens_BT, seen_B, caches).logits()

    def read(
        self, tokens_BT: Tensor, seen_B: Tensor | None = None, caches: list[KeyValueCache] | None = None
    ) -> LazyLogits:
        """The same logits before the head computes them."""
        x_BTD = self.target(self.embedding(tokens_BT), seen_B=seen_B, caches=caches)
        return lazy_logits(x_BTD, self.head_scale, self.embedding, self.head)
