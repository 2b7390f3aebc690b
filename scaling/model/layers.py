"""Layers shared by all transformer families: norms, positions, attention, MLP, residual block.

B batch, T tokens, S source tokens, H query heads, G key-value heads, K head width, R rotated channels of a head,
D = H*K model width, F hidden MLP width
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scaling.shapes.shape import RELATIVE_BUCKETS, Tower, TransformerShape, kind_and_number
from scaling.spec.run_spec import Multipliers

# GPT-2's 0.02 belongs to its fan-in of 768 (Radford et al. 2019); scaling by fan-in keeps the output scale elsewhere.
INIT_STD, INIT_FAN_IN = 0.02, 768
FARTHEST = 128  # relative distance beyond which all distances share a bucket (Raffel et al. 2020)


def relu2(x: Tensor) -> Tensor:
    """Squared ReLU (So et al. 2021)."""
    return F.relu(x).square()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),  # GPT-2's own approximation
    "silu": F.silu,
    "swiglu": F.silu,
    "relu2": relu2,
}


def linear(fan_in: int, fan_out: int, bias: bool, gain: float = 1.0) -> nn.Linear:
    """A linear layer, weights normal with std INIT_STD * sqrt(INIT_FAN_IN / fan_in) * gain, biases zero."""
    layer = nn.Linear(fan_in, fan_out, bias=bias)
    nn.init.normal_(layer.weight, std=INIT_STD * math.sqrt(INIT_FAN_IN / fan_in) * gain)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def norm(shape: TransformerShape) -> nn.Module:
    """LayerNorm (Ba et al. 2016), with a bias where the shape has biases, or RMSNorm (Zhang and Sennrich 2019)."""
    kind, eps = kind_and_number(shape.norm)
    assert eps is not None
    if kind == "layernorm":
        return nn.LayerNorm(shape.d_model, eps=eps, bias=shape.bias)
    return nn.RMSNorm(shape.d_model, eps=eps)


def sinusoids(context: int, d_model: int) -> Tensor:
    """Position codes PE(pos, 2i) = sin(pos / 10000^(2i/D)), PE(pos, 2i+1) = cos(same), shape (T, D).

    Vaswani et al. 2017, section 3.5.
    """
    position_T1 = torch.arange(context, dtype=torch.float64).unsqueeze(1)
    rate = torch.pow(10000.0, -torch.arange(0, d_model, 2, dtype=torch.float64) / d_model)
    code_TD = torch.empty(context, d_model, dtype=torch.float64)
    code_TD[:, 0::2] = torch.sin(position_T1 * rate)
    code_TD[:, 1::2] = torch.cos(position_T1 * rate)
    return code_TD.float()


class Positions(nn.Embedding):
    """Learned positions: a vector is added to the embedding at each position (Radford et al. 2018)."""

    def __init__(self, context: int, d_model: int) -> None:
        super().__init__(context, d_model)
        nn.init.normal_(self.weight, std=INIT_STD)

    def forward(self, x_BTD: Tensor, start: int = 0) -> Tensor:
        return x_BTD + self.weight[start : start + x_BTD.shape[1]]


class Rotary(nn.Module):
    """Rotary positions: channels k and k + R/2 of a head turn by an angle that grows with position (Su et al. 2021).

    The first R channels of a head are rotated, the others pass unchanged (Black et al. 2022, section 2.1.1).
    """

    cos_TR: Tensor
    sin_TR: Tensor

    def __init__(self, context: int, width: int, base: float) -> None:
        super().__init__()
        self.width = width
        rate = torch.pow(base, -torch.arange(0, width, 2, dtype=torch.float64) / width)
        angle = torch.outer(torch.arange(context, dtype=torch.float64), rate)
        angle_TR = torch.cat((angle, angle), dim=1)
        self.register_buffer("cos_TR", angle_TR.cos().float(), persistent=False)
        self.register_buffer("sin_TR", angle_TR.sin().float(), persistent=False)

    def forward(self, x_BHTK: Tensor, start: int = 0) -> Tensor:
        here = slice(start, start + x_BHTK.shape[2])
        x_BHTR = x_BHTK[..., : self.width]
        first, second = x_BHTR.chunk(2, dim=-1)
        turned_BHTR = torch.cat((-second, first), dim=-1)
        rotated_BHTR = (x_BHTR * self.cos_TR[here] + turned_BHTR * self.sin_TR[here]).type_as(x_BHTK)
        if self.width == x_BHTK.shape[-1]:
            return rotated_BHTR
        # The parts are joined with tokens before heads, the order in memory: otherwise attention's result is copied.
        parts_BTHK = [part.transpose(1, 2) for part in (rotated_BHTR, x_BHTK[..., self.width :])]
        return torch.cat(parts_BTHK, dim=-1).transpose(1, 2)


class RelativeBias(nn.Module):
    """A learned number per head and bucket of distance, added to every score (Raffel et al. 2020, section 2.1).

    Half of the buckets hold one distance each, the rest grow with its logarithm up to FARTHEST.
    """

    bucket_TT: Tensor

    def __init__(self, tokens: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.per_bucket = nn.Embedding(RELATIVE_BUCKETS, heads)
        nn.init.normal_(self.per_bucket.weight, std=INIT_STD)
        self.register_buffer("bucket_TT", relative_buckets(tokens, causal), persistent=False)

    def forward(self, tokens: int, start: int = 0) -> Tensor:
        """The bias of the scores of each query (row, from `start` on) and key (column), (1, H, T - start, T)."""
        bias_TTH: Tensor = self.per_bucket(self.bucket_TT[start:tokens, :tokens])
        return bias_TTH.permute(2, 0, 1).unsqueeze(0).contiguous()  # fused attention on a GPU refuses other layouts


def relative_buckets(tokens: int, causal: bool) -> Tensor:
    """Buckets of the distances from each query (row) to each key (column), shape (T, T)."""
    position_T = torch.arange(tokens)
    ahead_TT = position_T.unsqueeze(0) - position_T.unsqueeze(1)
    if causal:
        buckets, first_TT, distance_TT = RELATIVE_BUCKETS, torch.zeros_like(ahead_TT), (-ahead_TT).clamp(min=0)
    else:
        buckets = RELATIVE_BUCKETS // 2
        first_TT, distance_TT = (ahead_TT > 0) * buckets, ahead_TT.abs()
    single = buckets // 2
    growth = torch.log(distance_TT.clamp(min=1).double() / single) / math.log(FARTHEST / single)
    shared_TT = (single + (growth * (buckets - single)).long()).clamp(max=buckets - 1)
    return first_TT + torch.where(distance_TT < single, distance_TT, shared_TT)


class KeyValueCache:
    """The key-value cache of one layer: a new token reads the earlier keys and values instead of computing them again.

    The first token takes the memory of `capacity` tokens. Keys and values of the source are computed once.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity, self.tokens = capacity, 0
        self._own: tuple[Tensor, Tensor] | None = None
        self.source: tuple[Tensor, Tensor] | None = None  # k_BGSK and v_BGSK of the source

    def extend(self, k_BGTK: Tensor, v_BGTK: Tensor) -> tuple[Tensor, Tensor]:
        """Append the next tokens' keys and values; return the keys and values of all tokens so far."""
        if self._own is None:
            batch, heads, _, width = k_BGTK.shape
            shape = (batch, heads, self.capacity, width)
            self._own = (k_BGTK.new_empty(shape), v_BGTK.new_empty(shape))
        start, self.tokens = self.tokens, self.tokens + k_BGTK.shape[2]
        keys, values = self._own
        keys[:, :, start : self.tokens], values[:, :, start : self.tokens] = k_BGTK, v_BGTK
        return keys[:, :, : self.tokens], values[:, :, : self.tokens]


class Attention(nn.Module):
    """Multi-head attention of a tower with itself, grouped-query where n_kv_heads < n_heads (Ainslie et al. 2023)."""

    def __init__(self, shape: TransformerShape, tower: Tower, multipliers: Multipliers) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_width = shape.n_heads, shape.n_kv_heads, shape.head_width
        self.causal, self.dropout = tower.causal, shape.dropout
        self.scale = score_scale(shape, multipliers)
        self.qkv = linear(shape.d_model, shape.d_model + 2 * shape.kv_width, shape.biased_qkv)
        shrink_queries(self.qkv, shape)
        self.out = linear(shape.d_model, shape.d_model, shape.bias, gain=residual_gain(shape, tower, multipliers))

    def forward(
        self, x_BTD: Tensor, rotary: Rotary | None, mask_BHTT: Tensor | None, cache: KeyValueCache | None = None
    ) -> Tensor:
        """Attention's output (B, T, D); `mask_BHTT` (False or -inf hides a key) replaces the causal mask.

        With a `cache`, the tokens follow the cached tokens: many at once into an empty cache, then one at a time.
        """
        start = cache.tokens if cache else 0
        qkv_BHTK = split_heads(self.qkv(x_BTD), self.head_width)
        q_BHTK, k_BGTK, v_BGTK = torch.split(qkv_BHTK, [self.heads, self.kv_heads, self.kv_heads], dim=1)
        if rotary is not None:
            q_BHTK, k_BGTK = rotary(q_BHTK, start), rotary(k_BGTK, start)
        if cache is not None:
            k_BGTK, v_BGTK = cache.extend(k_BGTK, v_BGTK)
        if mask_BHTT is not None and mask_BHTT.is_floating_point():
            mask_BHTT = mask_BHTT.type_as(q_BHTK)
        out_BHTK = F.scaled_dot_product_attention(
            q_BHTK,
            k_BGTK,
            v_BGTK,
            attn_mask=mask_BHTT,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=self.causal and mask_BHTT is None and not start,
            scale=self.scale,
            enable_gqa=self.kv_heads != self.heads,
        )
        out: Tensor = self.out(out_BHTK.transpose(1, 2).flatten(start_dim=2))
        return out


class CrossAttention(nn.Module):
    """Attention of a target to the whole source (Vaswani et al. 2017, section 3.2.3).

    Rotary and relative positions are left out, because positions of two different sequences have no distance.
    """

    def __init__(self, shape: TransformerShape, tower: Tower, multipliers: Multipliers) -> None:
        super().__init__()
        self.head_width, self.dropout = shape.head_width, shape.dropout
        self.grouped = shape.n_kv_heads != shape.n_heads
        self.scale = score_scale(shape, multipliers)
        self.q = linear(shape.d_model, shape.d_model, shape.biased_qkv)
        shrink_queries(self.q, shape)
        self.kv = linear(shape.d_model, 2 * shape.kv_width, shape.biased_qkv)
        self.out = linear(shape.d_model, shape.d_model, shape.bias, gain=residual_gain(shape, tower, multipliers))

    def forward(self, x_BTD: Tensor, source_BSD: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        q_BHTK = split_heads(self.q(x_BTD), self.head_width)
        if cache is not None and cache.source is not None:
            k_BGSK, v_BGSK = cache.source
        else:
            k_BGSK, v_BGSK = split_heads(self.kv(source_BSD), self.head_width).chunk(2, dim=1)
        if cache is not None:
            cache.source = k_BGSK, v_BGSK
        dropout = self.dropout if self.training else 0.0
        out_BHTK = F.scaled_dot_product_attention(
            q_BHTK, k_BGSK, v_BGSK, dropout_p=dropout, enable_gqa=self.grouped, scale=self.scale
        )
        out: Tensor = self.out(out_BHTK.transpose(1, 2).flatten(start_dim=2))
        return out


def score_scale(shape: TransformerShape, multipliers: Multipliers) -> float | None:
    """The factor of attention's scores; None is the usual 1/sqrt(K)."""
    if not shape.scales_scores():
        return multipliers.scores
    return None if multipliers.scores == 1 else multipliers.scores / math.sqrt(shape.head_width)


def shrink_queries(layer: nn.Linear, shape: TransformerShape) -> None:
    """Scale the initial query rows (the first) by 1/sqrt(K) where scores are unscaled, so that scores start alike."""
    if not shape.scales_scores():
        with torch.no_grad():
            layer.weight[: shape.d_model] /= math.sqrt(shape.head_width)


def split_heads(x_BTD: Tensor, head_width: int) -> Tensor:
    """Split channels into heads, (B, T, H*K) to (B, H, T, K)."""
    batch, tokens, width = x_BTD.shape
    return x_BTD.view(batch, tokens, width // head_width, head_width).transpose(1, 2)


class MLP(nn.Module):
    """Two linear layers with an activation between; SwiGLU gates the hidden units (Shazeer 2020)."""

    def __init__(self, shape: TransformerShape, tower: Tower, multipliers: Multipliers) -> None:
        super().__init__()
        self.gated = shape.activation == "swiglu"
        self.activation = ACTIVATIONS[shape.activation]
        self.up = linear(shape.d_model, shape.d_ff * (2 if self.gated else 1), shape.bias)
        self.down = linear(shape.d_ff, shape.d_model, shape.bias, gain=residual_gain(shape, tower, multipliers))

    def forward(self, x_BTD: Tensor) -> Tensor:
        hidden_BTF = self.up(x_BTD)
        if self.gated:
            gate_BTF, hidden_BTF = hidden_BTF.chunk(2, dim=-1)
            hidden_BTF = self.activation(gate_BTF) * hidden_BTF
        else:
            hidden_BTF = self.activation(hidden_BTF)
        out: Tensor = self.down(hidden_BTF)
        return out


def residual_gain(shape: TransformerShape, tower: Tower, multipliers: Multipliers) -> float:
    """The initial gain of layers that write to the residual stream, which then does not grow with depth (GPT-2)."""
    return multipliers.residual_init / math.sqrt(tower.sublayers * shape.n_layers)


class Block(nn.Module):
    """A residual block: attention, cross-attention where the tower has a source, and MLP.

    Each sublayer is added to the residual stream, with a norm before the sublayer (pre) or after the addition (post).
    In a parallel block, attention and MLP read the same stream, each through its own norm (Black et al. 2022, section
    2.1.2).
    """

    def __init__(self, shape: TransformerShape, tower: Tower, multipliers: Multipliers) -> None:
        super().__init__()
        self.norm_first, self.residual = shape.norm_place == "pre", multipliers.residual
        self.parallel = shape.parallel_residual
        self.attention_norm, self.attention = norm(shape), Attention(shape, tower, multipliers)
        if tower.source_tokens is not None:
            self.cross_attention_norm, self.cross_attention = norm(shape), CrossAttention(shape, tower, multipliers)
        self.mlp_norm, self.mlp = norm(shape), MLP(shape, tower, multipliers)
        self.dropout = nn.Dropout(shape.dropout) if shape.dropout else nn.Identity()

    def forward(
        self,
        x_BTD: Tensor,
        rotary: Rotary | None,
        mask_BHTT: Tensor | None,
        source_BSD: Tensor | None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        read_BTD = x_BTD
        x_BTD = self._add(x_BTD, x_BTD, self.attention_norm, lambda x: self.attention(x, rotary, mask_BHTT, cache))
        if source_BSD is not None:
            x_BTD = self._add(
                x_BTD, x_BTD, self.cross_attention_norm, lambda x: self.cross_attention(x, source_BSD, cache)
            )
        return self._add(x_BTD, read_BTD if self.parallel else x_BTD, self.mlp_norm, self.mlp)

    def _add(self, x_BTD: Tensor, read_BTD: Tensor, norm: nn.Module, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Add the sublayer's output on `read_BTD` to the stream; `read_BTD` is the stream itself unless in parallel."""
        if self.norm_first:
            out: Tensor = torch.add(x_BTD, self.dropout(sublayer(norm(read_BTD))), alpha=self.residual)
        else:
            out = norm(torch.add(x_BTD, self.dropout(sublayer(read_BTD)), alpha=self.residual))
        return out
