"""The bidirectional encoder: token ids in, logits of the tokens at given places out.

B batch, T tokens, P places to predict, D model width, V vocabulary
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scaling.model.layers import INIT_STD, linear, norm
from scaling.model.tower import LazyLogits, TowerModule, lazy_logits, token_embedding, token_head
from scaling.shapes.families import SENTENCE_PAIR, EncoderShape
from scaling.spec.run_spec import Multipliers


class Encoder(nn.Module):
    """An encoder of any EncoderShape; its parameter count equals the shape's, group by group."""

    def __init__(self, shape: EncoderShape, multipliers: Multipliers) -> None:
        super().__init__()
        (tower,) = shape.towers()
        self.embedding = token_embedding(shape)
        self.segments: nn.Embedding | None = None
        if shape.has_segments:
            self.segments = nn.Embedding(SENTENCE_PAIR, shape.d_model)
            nn.init.normal_(self.segments.weight, std=INIT_STD)
        self.source = TowerModule(shape, tower, multipliers, shape.embedding_norm)
        self.head_transform: nn.Linear | None = None
        self.head_bias: nn.Parameter | None = None
        if shape.head_transform:
            self.head_transform = linear(shape.d_model, shape.d_model, shape.bias)
            self.head_norm = norm(shape)
            self.head_bias = nn.Parameter(torch.zeros(shape.vocab_size)) if shape.bias else None
        self.head = token_head(shape, multipliers)
        self.head_scale = multipliers.logits
        self.head_next: nn.Linear | None = None
        if shape.next_sentence:
            self.head_pooler = linear(shape.d_model, shape.d_model, shape.bias)
            self.head_next = linear(shape.d_model, SENTENCE_PAIR, shape.bias, gain=multipliers.head_init)

    def forward(
        self, tokens_BT: Tensor, places_BP: Tensor, segments_BT: Tensor | None = None
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Logits (B, P, V) of the tokens at `places_BP`, from all tokens of the sequence.

        A model with a second head adds the logits of its auxiliary losses by name: "next", (B, 2), whether the second
        segment follows the first.
        """
        read = self.read(tokens_BT, places_BP, segments_BT)
        return read.logits() if isinstance(read, LazyLogits) else (read[0].logits(), read[1])

    def read(
        self, tokens_BT: Tensor, places_BP: Tensor, segments_BT: Tensor | None = None
    ) -> LazyLogits | tuple[LazyLogits, dict[str, Tensor]]:
        """The same logits before the vocabulary's head computes them."""
        x_BTD = self.embedding(tokens_BT)
        if self.segments is not None:
            x_BTD = x_BTD + (self.segments.weight[0] if segments_BT is None else self.segments(segments_BT))
        x_BTD = self.source(x_BTD)
        x_BPD = x_BTD.gather(1, places_BP.unsqueeze(-1).expand(-1, -1, x_BTD.shape[-1]))
        if self.head_transform is not None:
            x_BPD = self.head_norm(F.gelu(self.head_transform(x_BPD)))
        read = lazy_logits(x_BPD, self.head_scale, self.embedding, self.head, self.head_bias)
        if self.head_next is None:
            return read
        return read, {"next": self.head_next(torch.tanh(self.head_pooler(x_BTD[:, 0])) * self.head_scale)}
