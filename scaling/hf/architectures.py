"""Hugging Face architectures: one table each of the equivalents of our settings and weights.

A name of weights stands for all tensors of a module (weight, bias), with {i} for the layer. A tuple of names means that
our matrix concatenates their matrices along its outputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from scaling.shapes.families import SHAPES
from scaling.shapes.shape import before

Names = Mapping[str, str | tuple[str, ...]]


@dataclass(frozen=True)
class Architecture:
    """A Hugging Face class and its equivalent here; a comment's "our" names are ours, "their" names Hugging Face's."""

    model_class: str
    auto_class: str
    preset: str  # name of our preset in conf/model, which also sets a fitting objective
    kind: str
    weights: Names  # our module -> their modules
    fields: Mapping[str, tuple[str, ...]]  # our setting -> their settings, all of which hold our value
    fixed: Mapping[str, Any]  # our setting -> the only value that their class supports; see `only`
    theirs_fixed: Mapping[str, Any]  # their setting -> the only value that we support
    norm: str
    norm_eps: str | None  # their setting; None where eps is torch's default
    activation: str | None  # their setting; None where `fixed` holds ours
    positions: str
    head_width: str | None = None  # their setting; None where it follows from other settings
    always_biased: bool = True  # their class always has biases; a model without biases is exported with zeros
    rotary_pct: str | None = None  # key in their rotary settings; None where every channel is rotated
    qkv_by_head: bool = False  # their matrix holds query, key and value head by head; ours all queries, keys, values
    transposed: frozenset[str] = frozenset()  # our modules whose matrix they store as (inputs, outputs)
    aliases: Mapping[str, str] = field(default_factory=dict)  # their tied weight -> its name in `weights`
    sines_first: bool = False  # their sinusoids are all sines, then all cosines; ours alternate
    on_export: Mapping[str, Any] = field(default_factory=dict)  # further settings of an exported model
    window: str | None = None  # their setting: the last tokens that attention sees, so the most that a context here has

    def only(self) -> dict[str, Any]:
        """Settings with one value in the class: `fixed`, and the options that it lacks at their values from before."""
        has = {*self.fields, *self.fixed, *(("rotary_pct",) if self.rotary_pct else ())}
        lacks = {name: value for name, value in before(SHAPES[self.kind]).items() if name not in has}
        return {**self.fixed, **lacks}


END = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}


def _layers(ours: str, theirs: str, names: Names) -> dict[str, str | tuple[str, ...]]:
    def full(name: str | tuple[str, ...]) -> str | tuple[str, ...]:
        return f"{theirs}.{{i}}.{name}" if isinstance(name, str) else tuple(f"{theirs}.{{i}}.{part}" for part in name)

    return {f"{ours}.blocks.{{i}}.{name}": full(value) for name, value in names.items()}


def _parts(prefix: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{prefix}.{name}" for name in names)


GPT2 = Architecture(
    model_class="GPT2LMHeadModel",
    auto_class="AutoModelForCausalLM",
    preset="gpt2",
    kind="decoder",
    weights={
        "embedding": "transformer.wte",
        "target.positions": "transformer.wpe",
        **_layers(
            "target",
            "transformer.h",
            {
                "attention_norm": "ln_1",
                "attention.qkv": "attn.c_attn",
                "attention.out": "attn.c_proj",
                "mlp_norm": "ln_2",
                "mlp.up": "mlp.c_fc",
                "mlp.down": "mlp.c_proj",
            },
        ),
        "target.final_norm": "transformer.ln_f",
        "head": "lm_head",
    },
    fields={
        "n_layers": ("n_layer",),
        "d_model": ("n_embd",),
        "n_heads": ("n_head",),
        "d_ff": ("n_inner",),
        "vocab_size": ("vocab_size",),
        "context": ("n_positions",),
        "tied_embeddings": ("tie_word_embeddings",),
        "dropout": ("resid_pdrop", "embd_pdrop", "attn_pdrop"),
    },
    fixed={"norm_place": "pre"},
    theirs_fixed={"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False},
    norm="layernorm",
    norm_eps="layer_norm_epsilon",
    activation="activation_function",
    positions="learned",
    transposed=frozenset(("qkv", "out", "up", "down")),
    aliases={"lm_head.weight": "transformer.wte.weight"},
    on_export=END,
)

LLAMA = Architecture(
    model_class="LlamaForCausalLM",
    auto_class="AutoModelForCausalLM",
    preset="llama",
    kind="decoder",
    weights={
        "embedding": "model.embed_tokens",
        **_layers(
            "target",
            "model.layers",
            {
                "attention_norm": "input_layernorm",
                "attention.qkv": _parts("self_attn", "q_proj", "k_proj", "v_proj"),
                "attention.out": "self_attn.o_proj",
                "mlp_norm": "post_attention_layernorm",
                "mlp.up": _parts("mlp", "gate_proj", "up_proj"),
                "mlp.down": "mlp.down_proj",
            },
        ),
        "target.final_norm": "model.norm",
        "head": "lm_head",
    },
    fields={
        "n_layers": ("num_hidden_layers",),
        "d_model": ("hidden_size",),
        "n_heads": ("num_attention_heads",),
        "n_kv_heads": ("num_key_value_heads",),
        "d_ff": ("intermediate_size",),
        "vocab_size": ("vocab_size",),
        "context": ("max_position_embeddings",),
        "bias": ("attention_bias", "mlp_bias"),
        "tied_embeddings": ("tie_word_embeddings",),
        "dropout": ("attention_dropout",),
    },
    fixed={"norm_place": "pre", "activation": "swiglu"},
    theirs_fixed={"hidden_act": "silu"},
    norm="rmsnorm",
    norm_eps="rms_norm_eps",
    activation=None,
    positions="rotary",
    head_width="head_dim",
    always_biased=False,
    aliases={"lm_head.weight": "model.embed_tokens.weight"},
    on_export=END,
)

LLAMA_FIELDS = {name: theirs for name, theirs in LLAMA.fields.items() if name != "bias"}

# Jiang et al. 2023 (arXiv 2310.06825): Llama without biases, whose attention may see a window of tokens.
MISTRAL = replace(
    LLAMA,
    model_class="MistralForCausalLM",
    fields=LLAMA_FIELDS,
    fixed={**LLAMA.fixed, "bias": False},
    window="sliding_window",
    on_export={**END, "sliding_window": None},
)

# Yang et al. 2024 (arXiv 2407.10671): Llama with biases of queries, keys and values alone.
QWEN2 = replace(
    LLAMA,
    model_class="Qwen2ForCausalLM",
    fields=LLAMA_FIELDS,
    fixed={**LLAMA.fixed, "bias": False, "qkv_bias": True},
    head_width=None,
    window="sliding_window",
    on_export={**END, "use_sliding_window": False, "sliding_window": None},
)

NEOX = Architecture(
    model_class="GPTNeoXForCausalLM",
    auto_class="AutoModelForCausalLM",
    preset="pythia",
    kind="decoder",
    weights={
        "embedding": "gpt_neox.embed_in",
        **_layers(
            "target",
            "gpt_neox.layers",
            {
                "attention_norm": "input_layernorm",
                "attention.qkv": "attention.query_key_value",
                "attention.out": "attention.dense",
                "mlp_norm": "post_attention_layernorm",
                "mlp.up": "mlp.dense_h_to_4h",
                "mlp.down": "mlp.dense_4h_to_h",
            },
        ),
        "target.final_norm": "gpt_neox.final_layer_norm",
        "head": "lm_head",
    },
    fields={
        "n_layers": ("num_hidden_layers",),
        "d_model": ("hidden_size",),
        "n_heads": ("num_attention_heads",),
        "d_ff": ("intermediate_size",),
        "vocab_size": ("vocab_size",),
        "context": ("max_position_embeddings",),
        "parallel_residual": ("use_parallel_residual",),
        "tied_embeddings": ("tie_word_embeddings",),
        "dropout": ("hidden_dropout", "attention_dropout"),
    },
    fixed={"norm_place": "pre"},
    theirs_fixed={"attention_bias": True},
    norm="layernorm",
    norm_eps="layer_norm_eps",
    activation="hidden_act",
    positions="rotary",
    rotary_pct="partial_rotary_factor",
    qkv_by_head=True,
    aliases={"lm_head.weight": "gpt_neox.embed_in.weight"},
    on_export=END,
)

BERT = Architecture(
    model_class="BertForMaskedLM",
    auto_class="AutoModelForMaskedLM",
    preset="bert",
    kind="encoder",
    weights={
        "embedding": "bert.embeddings.word_embeddings",
        "source.positions": "bert.embeddings.position_embeddings",
        "segments": "bert.embeddings.token_type_embeddings",
        "source.embedding_norm": "bert.embeddings.LayerNorm",
        **_layers(
            "source",
            "bert.encoder.layer",
            {
                "attention.qkv": _parts("attention.self", "query", "key", "value"),
                "attention.out": "attention.output.dense",
                "attention_norm": "attention.output.LayerNorm",
                "mlp.up": "intermediate.dense",
                "mlp.down": "output.dense",
                "mlp_norm": "output.LayerNorm",
            },
        ),
        "head_transform": "cls.predictions.transform.dense",
        "head_norm": "cls.predictions.transform.LayerNorm",
        "head_bias": "cls.predictions.bias",
        "head": "cls.predictions.decoder",
    },
    fields={
        "n_layers": ("num_hidden_layers",),
        "d_model": ("hidden_size",),
        "n_heads": ("num_attention_heads",),
        "d_ff": ("intermediate_size",),
        "vocab_size": ("vocab_size",),
        "context": ("max_position_embeddings",),
        "tied_embeddings": ("tie_word_embeddings",),
        "dropout": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
    },
    fixed={
        "norm_place": "post",
        "activation": "gelu",
        "head_transform": True,
        "embedding_norm": True,
        "segments": True,
        "next_sentence": False,
    },
    theirs_fixed={"hidden_act": "gelu", "type_vocab_size": 2, "is_decoder": False, "add_cross_attention": False},
    norm="layernorm",
    norm_eps="layer_norm_eps",
    activation=None,
    positions="learned",
    aliases={
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    on_export={"pad_token_id": 0},
)


def _t5_layers(ours: str, theirs: str, mlp: int) -> dict[str, str | tuple[str, ...]]:
    names: dict[str, str | tuple[str, ...]] = {
        "attention_norm": "layer.0.layer_norm",
        "attention.qkv": _parts("layer.0.SelfAttention", "q", "k", "v"),
        "attention.out": "layer.0.SelfAttention.o",
        "mlp_norm": f"layer.{mlp}.layer_norm",
        "mlp.up": f"layer.{mlp}.DenseReluDense.wi",
        "mlp.down": f"layer.{mlp}.DenseReluDense.wo",
    }
    if mlp == 2:
        names |= {
            "cross_attention_norm": "layer.1.layer_norm",
            "cross_attention.q": "layer.1.EncDecAttention.q",
            "cross_attention.kv": _parts("layer.1.EncDecAttention", "k", "v"),
            "cross_attention.out": "layer.1.EncDecAttention.o",
        }
    return {
        **_layers(ours, f"{theirs}.block", names),
        f"{ours}.relative.per_bucket": f"{theirs}.block.0.layer.0.SelfAttention.relative_attention_bias",
        f"{ours}.final_norm": f"{theirs}.final_layer_norm",
    }


T5 = Architecture(
    model_class="T5ForConditionalGeneration",
    auto_class="AutoModelForSeq2SeqLM",
    preset="t5",
    kind="encoder_decoder",
    weights={"embedding": "shared", **_t5_layers("source", "encoder", 1), **_t5_layers("target", "decoder", 2)},
    fields={
        "n_layers": ("num_layers", "num_decoder_layers"),
        "d_model": ("d_model",),
        "n_heads": ("num_heads",),
        "d_ff": ("d_ff",),
        "vocab_size": ("vocab_size",),
        "logit_scale": ("scale_decoder_outputs",),
        "dropout": ("dropout_rate",),
    },
    fixed={
        "norm_place": "pre",
        "bias": False,
        "tied_embeddings": True,
        "attention_scale": False,
        "head_bias": False,
    },
    theirs_fixed={
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "tie_word_embeddings": True,
    },
    norm="rmsnorm",
    norm_eps="layer_norm_epsilon",
    activation="feed_forward_proj",
    positions="relative",
    head_width="d_kv",
    aliases={
        "lm_head.weight": "shared.weight",
        "encoder.embed_tokens.weight": "shared.weight",
        "decoder.embed_tokens.weight": "shared.weight",
    },
    on_export={"eos_token_id": 0, "pad_token_id": 0, "decoder_start_token_id": 0},
)


def _marian_layers(ours: str, theirs: str, cross: bool) -> dict[str, str | tuple[str, ...]]:
    names: dict[str, str | tuple[str, ...]] = {
        "attention.qkv": _parts("self_attn", "q_proj", "k_proj", "v_proj"),
        "attention.out": "self_attn.out_proj",
        "attention_norm": "self_attn_layer_norm",
        "mlp.up": "fc1",
        "mlp.down": "fc2",
        "mlp_norm": "final_layer_norm",
    }
    if cross:
        names |= {
            "cross_attention.q": "encoder_attn.q_proj",
            "cross_attention.kv": _parts("encoder_attn", "k_proj", "v_proj"),
            "cross_attention.out": "encoder_attn.out_proj",
            "cross_attention_norm": "encoder_attn_layer_norm",
        }
    return _layers(ours, f"{theirs}.layers", names)


MARIAN = Architecture(
    model_class="MarianMTModel",
    auto_class="AutoModelForSeq2SeqLM",
    preset="transformer",
    kind="encoder_decoder",
    weights={
        "embedding": "model.shared",
        **_marian_layers("source", "model.encoder", cross=False),
        **_marian_layers("target", "model.decoder", cross=True),
        "head_bias": "final_logits_bias",
    },
    fields={
        "n_layers": ("encoder_layers", "decoder_layers"),
        "d_model": ("d_model",),
        "n_heads": ("encoder_attention_heads", "decoder_attention_heads"),
        "d_ff": ("encoder_ffn_dim", "decoder_ffn_dim"),
        "vocab_size": ("vocab_size", "decoder_vocab_size"),
        "context": ("max_position_embeddings",),
        "dropout": ("dropout", "attention_dropout"),
    },
    fixed={"norm_place": "post", "tied_embeddings": True, "attention_scale": True, "logit_scale": False},
    theirs_fixed={"scale_embedding": True, "share_encoder_decoder_embeddings": True, "tie_word_embeddings": True},
    norm="layernorm",
    norm_eps=None,
    activation="activation_function",
    positions="sinusoidal",
    aliases={
        "lm_head.weight": "model.shared.weight",
        "model.encoder.embed_tokens.weight": "model.shared.weight",
        "model.decoder.embed_tokens.weight": "model.shared.weight",
    },
    sines_first=True,
    on_export={"eos_token_id": 0, "pad_token_id": 0, "decoder_start_token_id": 0, "forced_eos_token_id": None},
)

# Of several that can say a shape, an exported run is of the first, unless it was imported as another.
ARCHITECTURES = {
    "gpt2": GPT2,
    "llama": LLAMA,
    "mistral": MISTRAL,
    "qwen2": QWEN2,
    "gpt_neox": NEOX,
    "bert": BERT,
    "t5": T5,
    "marian": MARIAN,
}
