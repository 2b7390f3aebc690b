"""Families of models: each shape adds its towers and its head to the shared dimensions, and checks its own."""

from dataclasses import dataclass

from scaling.shapes.matmuls import Matmul
from scaling.shapes.shape import Tower, TransformerShape

HEAD_SEES = ("predicted", "all")
SENTENCE_PAIR = 2  # segments of a pair of texts, and classes of the next-sentence head


@dataclass(frozen=True)
class DecoderShape(TransformerShape):
    """A causal decoder (Radford et al. 2019; Touvron et al. 2023)."""

    def towers(self) -> tuple[Tower, ...]:
        return (Tower("target", self.context, causal=True, source_tokens=None),)


@dataclass(frozen=True)
class EncoderShape(TransformerShape):
    """A bidirectional encoder with a head for masked tokens (Devlin et al. 2019)."""

    predicted: int  # predicted tokens of a sequence, at most
    head_sees: str  # tokens that the head is applied to: the "predicted" ones alone, or "all" of the source
    head_transform: bool  # a dense layer with GELU and norm before the head, and a bias on the logits, as in BERT
    embedding_norm: bool  # a norm on the embeddings, as in BERT
    segments: bool  # embeddings of two segments, the first unless the input states another, as in BERT
    next_sentence: bool  # segments, and a second head that predicts whether the second text follows the first

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head_sees not in HEAD_SEES:
            raise ValueError(f"model.family.head_sees={self.head_sees!r}: choose from {', '.join(HEAD_SEES)}")
        if not 1 <= self.predicted <= self.context:
            raise ValueError(
                f"{self.predicted} predicted tokens do not fit into model.context={self.context}: "
                f"lower objective.rate, or raise model.context"
            )

    def towers(self) -> tuple[Tower, ...]:
        return (Tower("source", self.context, causal=False, source_tokens=None),)

    @property
    def has_segments(self) -> bool:
        """Whether the tokens of a sequence have segment embeddings."""
        return self.segments or self.next_sentence

    def stream_tokens(self) -> dict[str, int]:
        predicted = self.predicted if self.head_sees == "predicted" else self.context
        return {**super().stream_tokens(), "predicted": predicted, "first": 1}

    def head_matmuls(self) -> tuple[Matmul, ...]:
        d = self.d_model
        matmuls = []
        if self.head_transform:
            matmuls.append(Matmul("head", "predicted", d, d, self.bias, 1))
        matmuls.append(self._unembedding("predicted", bias=self.head_transform and self.bias))
        if self.next_sentence:
            matmuls.append(Matmul("head", "first", d, d, self.bias, 1))
            matmuls.append(Matmul("head", "first", d, SENTENCE_PAIR, self.bias, 1))
        return tuple(matmuls)

    def parameters_by_group(self) -> dict[str, int]:
        counts = super().parameters_by_group()
        counts["embedding"] += SENTENCE_PAIR * self.d_model * self.has_segments
        counts["norm"] += (self.embedding_norm + self.head_transform) * self.norm_parameters
        return counts


@dataclass(frozen=True)
class EncoderDecoderShape(TransformerShape):
    """An encoder and a decoder that attends to it, over one vocabulary (Vaswani et al. 2017; Raffel et al. 2020)."""

    target_context: int  # target tokens of a sequence; `context` counts the source tokens
    attention_scale: bool  # scores are divided by sqrt(head width); T5 has smaller initial queries instead
    logit_scale: bool  # the head's input is divided by sqrt(d_model), as T5 does with tied embeddings
    head_bias: bool  # a bias on the logits, as in Marian

    def towers(self) -> tuple[Tower, ...]:
        return (
            Tower("source", self.context, causal=False, source_tokens=None),
            Tower("target", self.target_context, causal=True, source_tokens=self.context),
        )

    def head_matmuls(self) -> tuple[Matmul, ...]:
        return (self._unembedding("target", bias=self.head_bias),)

    def scales_scores(self) -> bool:
        return self.attention_scale

    def scales_logits(self) -> bool:
        return self.logit_scale

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.target_context < 1:
            raise ValueError(f"target_context={self.target_context}: must be at least 1")
        if self.parallel_residual:
            raise ValueError(
                "model.parallel_residual=true: a decoder's cross-attention asks the source what its own attention made "
                "it ask, so an encoder_decoder's sublayers follow one another; set model.parallel_residual=false"
            )


SHAPES: dict[str, type[TransformerShape]] = {
    "decoder": DecoderShape,
    "encoder": EncoderShape,
    "encoder_decoder": EncoderDecoderShape,
}
