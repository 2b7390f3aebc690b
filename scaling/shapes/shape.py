"""Dimensions and options that the shapes of all families share, checked, and the matmuls of their layers.

A family is its towers (stacks of layers, each over a stream of tokens) and its head; `families.py` lists the families.
"""

import math
from dataclasses import dataclass, field, fields
from typing import Any

from scaling.shapes.matmuls import AttentionScores, Matmul

POSITIONS = ("rotary", "learned", "sinusoidal", "relative")
NORMS = ("layernorm", "rmsnorm")
NORM_PLACES = ("pre", "post")
ACTIVATIONS = ("relu", "gelu", "gelu_tanh", "silu", "swiglu", "relu2")
# Numbers of these settings unless given, as in `layernorm:1e-12` or `rotary:500000`.
NUMBERS = {"layernorm": 1e-5, "rmsnorm": 1e-6, "rotary": 10000.0}  # epsilon, epsilon, base of the angles
RELATIVE_BUCKETS = 32  # buckets of distances, each with a bias per head (Raffel et al. 2020, section 2.1)


@dataclass(frozen=True)
class Tower:
    """A stack of layers over the tokens of one stream, which may also attend to another tower's output."""

    stream: str
    tokens: int  # tokens of a sequence
    causal: bool
    source_tokens: int | None  # source tokens of a sequence that the tower attends to; None without cross-attention

    @property
    def sublayers(self) -> int:
        """Sublayers of a layer, each of which writes to the residual stream once."""
        return 2 if self.source_tokens is None else 3


@dataclass(frozen=True)
class TransformerShape:
    """Dimensions and options of every family, all resolved; a family adds its towers and its head.

    An option that came later states as `before`, in its metadata, the value that every model had until then.
    """

    kind: str  # a key of families.SHAPES
    n_layers: int  # layers of each tower
    d_model: int
    n_heads: int
    n_kv_heads: int  # heads of keys and values; fewer than n_heads is grouped-query attention (Ainslie et al. 2023)
    d_ff: int
    vocab_size: int
    context: int  # tokens of the first tower's stream in a sequence
    positions: str
    # Share of each head's channels that rotary positions rotate, the first ones; 1 rotates all.
    rotary_pct: float = field(metadata={"before": 1.0})
    norm: str
    norm_place: str
    # The MLP reads the stream that attention reads, not the stream after attention.
    parallel_residual: bool = field(metadata={"before": False})
    activation: str
    bias: bool
    # Queries, keys and values alone have biases, in a shape without any other.
    qkv_bias: bool = field(metadata={"before": False})
    tied_embeddings: bool
    dropout: float

    def __post_init__(self) -> None:
        check_dimensions(self)

    @property
    def positions_kind(self) -> str:
        """The positions without their number."""
        return kind_and_number(self.positions)[0]

    @property
    def norm_kind(self) -> str:
        """The norm without its epsilon."""
        return kind_and_number(self.norm)[0]

    @property
    def head_width(self) -> int:
        """Channels of each head."""
        return self.d_model // self.n_heads

    @property
    def rotary_width(self) -> int:
        """Channels of each head that rotary positions rotate."""
        return int(self.head_width * self.rotary_pct)

    @property
    def kv_width(self) -> int:
        """Channels of all key heads, and of all value heads."""
        return self.n_kv_heads * self.head_width

    @property
    def biased_qkv(self) -> bool:
        """Whether queries, keys and values have biases."""
        return self.bias or self.qkv_bias

    @property
    def sequence_tokens(self) -> int:
        """Training tokens of one sequence: every token that a tower reads, predicted or not.

        A decoder reads its context, an encoder its source, an encoder-decoder its source and its target.
        """
        return sum(tower.tokens for tower in self.towers())

    def towers(self) -> tuple[Tower, ...]:
        """The towers in order of application."""
        raise NotImplementedError

    def head_matmuls(self) -> tuple[Matmul, ...]:
        """The matmuls that turn the last tower's output into predictions."""
        return (self._unembedding(self.towers()[-1].stream, bias=False),)

    def stream_tokens(self) -> dict[str, int]:
        """Tokens of each stream in one sequence."""
        return {tower.stream: tower.tokens for tower in self.towers()}

    def matmuls(self) -> tuple[Matmul, ...]:
        """All weight matrices of the shape, in order of application."""
        layers = [matmul for tower in self.towers() for matmul in self._layer_matmuls(tower)]
        return (*layers, *self.head_matmuls())

    def attention_scores(self) -> tuple[AttentionScores, ...]:
        """The scores of every tower with its own tokens and, in cross-attention, with the source's tokens."""
        scores = []
        for tower in self.towers():
            scores.append(AttentionScores(tower.stream, self.d_model, tower.tokens, self.n_layers, tower.causal))
            if tower.source_tokens is not None:
                scores.append(AttentionScores(tower.stream, self.d_model, tower.source_tokens, self.n_layers, False))
        return tuple(scores)

    def parameters_by_group(self) -> dict[str, int]:
        """Parameters of the built module by group; the groups sum to the module's total."""
        counts = {"embedding": self.vocab_size * self.d_model, "attention": 0, "mlp": 0, "norm": 0, "head": 0}
        for matmul in self.matmuls():
            counts[matmul.group] = counts.get(matmul.group, 0) + matmul.parameters
        for tower in self.towers():
            if self.positions_kind == "learned":
                counts["embedding"] += tower.tokens * self.d_model
            elif self.positions_kind == "relative":
                counts["embedding"] += RELATIVE_BUCKETS * self.n_heads
            counts["norm"] += self._norms(tower) * self.norm_parameters
        return counts

    @property
    def norm_parameters(self) -> int:
        """Parameters of one norm."""
        return self.d_model * (2 if self.norm_kind == "layernorm" and self.bias else 1)

    def scales_scores(self) -> bool:
        """Whether attention divides its scores by the square root of the head's width (Vaswani et al. 2017)."""
        return True

    def scales_logits(self) -> bool:
        """Whether the head sees the last tower's output divided by the square root of the model's width."""
        return False

    def _norms(self, tower: Tower) -> int:
        return tower.sublayers * self.n_layers + (1 if self.norm_place == "pre" else 0)

    def _unembedding(self, stream: str, bias: bool) -> Matmul:
        return Matmul("head", stream, self.d_model, self.vocab_size, bias, 1, owns_weight=not self.tied_embeddings)

    def _layer_matmuls(self, tower: Tower) -> list[Matmul]:
        d, kv = self.d_model, self.kv_width

        def in_each_layer(
            group: str, fan_in: int, fan_out: int, stream: str = tower.stream, qkv: bool = False
        ) -> Matmul:
            return Matmul(group, stream, fan_in, fan_out, self.biased_qkv if qkv else self.bias, self.n_layers)

        gate = 2 if self.activation == "swiglu" else 1
        matmuls = [in_each_layer("attention", d, d + 2 * kv, qkv=True), in_each_layer("attention", d, d)]
        if tower.source_tokens is not None:
            matmuls += [
                in_each_layer("cross_attention", d, d, qkv=True),
                in_each_layer("cross_attention", d, 2 * kv, stream="source", qkv=True),
                in_each_layer("cross_attention", d, d),
            ]
        return [*matmuls, in_each_layer("mlp", d, gate * self.d_ff), in_each_layer("mlp", self.d_ff, d)]


def before(part: type) -> dict[str, Any]:
    """Values from before later fields of a dataclass existed, by field name: `before` in the metadata of the field."""
    return {f.name: f.metadata["before"] for f in fields(part) if "before" in f.metadata}


def kind_and_number(setting: str) -> tuple[str, float | None]:
    """A setting as kind and number: `rotary` is (rotary, 10000.0), `rotary:500000` is (rotary, 500000.0).

    ValueError for a number that is not positive, or of a kind that takes none.
    """
    kind, _, text = setting.partition(":")
    if not text:
        return kind, NUMBERS.get(kind)
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if kind not in NUMBERS or not 0 < number < math.inf:
        takes = ", ".join(f"{name}:{default:g}" for name, default in NUMBERS.items())
        raise ValueError(f"{setting!r}: only these settings take a number, which is positive: {takes}")
    return kind, number


def check_dimensions(shape: TransformerShape) -> None:
    """Dimensions that are impossible raise ValueError, which names the value, the rule and the nearest choice."""
    for name in ("n_layers", "d_model", "n_heads", "n_kv_heads", "d_ff", "vocab_size", "context"):
        if getattr(shape, name) < 1:
            raise ValueError(f"model.{name}={getattr(shape, name)}: must be at least 1")
    for name, choices in (
        ("positions", POSITIONS),
        ("norm", NORMS),
        ("norm_place", NORM_PLACES),
        ("activation", ACTIVATIONS),
    ):
        setting = getattr(shape, name)
        if (kind_and_number(setting)[0] if name in ("positions", "norm") else setting) not in choices:
            raise ValueError(f"model.{name}={getattr(shape, name)!r}: choose from {', '.join(choices)}")
    if shape.d_model % shape.n_heads:
        raise ValueError(
            f"model.n_heads={shape.n_heads} does not divide model.d_model={shape.d_model}: the nearest number of "
            f"heads that does is {_nearest_divisor(shape.d_model, shape.n_heads)}, the nearest width is "
            f"{_nearest_multiple(shape.d_model, shape.n_heads)}"
        )
    if shape.n_heads % shape.n_kv_heads:
        raise ValueError(
            f"model.n_kv_heads={shape.n_kv_heads} does not divide model.n_heads={shape.n_heads}: "
            f"the nearest choice is {_nearest_divisor(shape.n_heads, shape.n_kv_heads)}"
        )
    _check_rotary(shape)
    if shape.parallel_residual and shape.norm_place != "pre":
        raise ValueError(
            f"model.parallel_residual=true adds attention and MLP to the stream at once, each normed before: "
            f"model.norm_place={shape.norm_place} has no norm for both; set model.norm_place=pre"
        )
    if shape.qkv_bias and shape.bias:
        raise ValueError(
            "model.qkv_bias=true with model.bias=true: queries, keys and values have biases as all layers do; set "
            "model.qkv_bias=false, or model.bias=false for no other biases"
        )
    if shape.positions == "sinusoidal" and shape.d_model % 2:
        raise ValueError(
            f"model.positions=sinusoidal pairs a sine with a cosine, but model.d_model={shape.d_model} is odd: "
            f"the nearest choice is {shape.d_model + 1}"
        )
    if not 0 <= shape.dropout < 1:
        raise ValueError(f"model.dropout={shape.dropout}: must be at least 0 and below 1")


def _check_rotary(shape: TransformerShape) -> None:
    """Rotary channels that do not pair up raise ValueError; so does a rotary share without rotary positions."""
    if not 0 < shape.rotary_pct <= 1:
        raise ValueError(f"model.rotary_pct={shape.rotary_pct}: a share above 0 and at most 1; 1 rotates every channel")
    if shape.positions_kind != "rotary":
        if shape.rotary_pct != 1:
            raise ValueError(
                f"model.rotary_pct={shape.rotary_pct} is a share of what rotary positions rotate, but "
                f"model.positions={shape.positions}: set model.rotary_pct=1, or model.positions=rotary"
            )
        return
    if shape.head_width % 2:
        raise ValueError(
            f"model.positions=rotary rotates pairs of channels, but the head width d_model/n_heads is "
            f"{shape.head_width}: the nearest width with even heads is "
            f"model.d_model={_nearest_multiple(shape.d_model, 2 * shape.n_heads)}, or choose learned positions"
        )
    if shape.rotary_width % 2 or not shape.rotary_width:
        pairs = max(1, round(shape.rotary_width / 2))
        share = math.ceil(1e4 * 2 * pairs / shape.head_width) / 1e4
        raise ValueError(
            f"model.rotary_pct={shape.rotary_pct} rotates {shape.rotary_width} of the {shape.head_width} channels of a "
            f"head, which is no number of pairs: the nearest share is model.rotary_pct={share:g}"
        )


def _nearest_divisor(number: int, wanted: int) -> int:
    divisors = [k for k in range(1, number + 1) if number % k == 0]
    return min(divisors, key=lambda k: (abs(k - wanted), k))


def _nearest_multiple(number: int, factor: int) -> int:
    return max(1, round(number / factor)) * factor
