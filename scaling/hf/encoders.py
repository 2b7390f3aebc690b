"""Hugging Face's models with an encoder: BERT, T5 and Marian."""

from scaling.hf.architecture import Architecture, layers, parts

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
        **layers(
            "source",
            "bert.encoder.layer",
            {
                "attention.qkv": parts("attention.self", "query", "key", "value"),
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
        "attention.qkv": parts("layer.0.SelfAttention", "q", "k", "v"),
        "attention.out": "layer.0.SelfAttention.o",
        "mlp_norm": f"layer.{mlp}.layer_norm",
        "mlp.up": f"layer.{mlp}.DenseReluDense.wi",
        "mlp.down": f"layer.{mlp}.DenseReluDense.wo",
    }
    if mlp == 2:
        names |= {
            "cross_attention_norm": "layer.1.layer_norm",
            "cross_attention.q": "layer.1.EncDecAttention.q",
            "cross_attention.kv": parts("layer.1.EncDecAttention", "k", "v"),
            "cross_attention.out": "layer.1.EncDecAttention.o",
        }
    return {
        **layers(ours, f"{theirs}.block", names),
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
        "attention.qkv": parts("self_attn", "q_proj", "k_proj", "v_proj"),
        "attention.out": "self_attn.out_proj",
        "attention_norm": "self_attn_layer_norm",
        "mlp.up": "fc1",
        "mlp.down": "fc2",
        "mlp_norm": "final_layer_norm",
    }
    if cross:
        names |= {
            "cross_attention.q": "encoder_attn.q_proj",
            "cross_attention.kv": parts("encoder_attn", "k_proj", "v_proj"),
            "cross_attention.out": "encoder_attn.out_proj",
            "cross_attention_norm": "encoder_attn_layer_norm",
        }
    return layers(ours, f"{theirs}.layers", names)


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
