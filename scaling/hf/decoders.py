"""Hugging Face's causal decoders: GPT-2, Llama and its kin, GPT-NeoX."""

from dataclasses import replace

from scaling.hf.architecture import Architecture, layers, parts

END = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}

GPT2 = Architecture(
    model_class="GPT2LMHeadModel",
    auto_class="AutoModelForCausalLM",
    preset="gpt2",
    kind="decoder",
    weights={
        "embedding": "transformer.wte",
        "target.positions": "transformer.wpe",
        **layers(
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
        **layers(
            "target",
            "model.layers",
            {
                "attention_norm": "input_layernorm",
                "attention.qkv": parts("self_attn", "q_proj", "k_proj", "v_proj"),
                "attention.out": "self_attn.o_proj",
                "mlp_norm": "post_attention_layernorm",
                "mlp.up": parts("mlp", "gate_proj", "up_proj"),
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
        **layers(
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
