"""Small Hugging Face models and shapes like theirs, for the tests of parity."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from scaling.hf.architectures import ARCHITECTURES
from scaling.shapes.shape import TransformerShape
from scaling.spec.objective import Causal, Denoising, Masked, Objective
from tests.examples import ENCODER, ENCODER_DECODER, TINY

transformers = pytest.importorskip("transformers", reason="the extra hf is not installed")

CONTEXT, VOCABULARY = 12, 29
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2Config", {"n_layer": 2, "n_embd": 24, "n_head": 4, "n_positions": CONTEXT}),
    "gpt2-untied-relu-eps": (
        "GPT2Config",
        {
            "n_layer": 3,
            "n_embd": 20,
            "n_head": 2,
            "n_inner": 52,
            "n_positions": CONTEXT,
            "activation_function": "relu",
            "tie_word_embeddings": False,
            "layer_norm_epsilon": 1e-3,
        },
    ),
    "llama-grouped": (
        "LlamaConfig",
        {
            "num_hidden_layers": 2,
            "hidden_size": 32,
            "intermediate_size": 44,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": CONTEXT,
        },
    ),
    "llama-biased-tied-theta": (
        "LlamaConfig",
        {
            "num_hidden_layers": 2,
            "hidden_size": 24,
            "intermediate_size": 40,
            "num_attention_heads": 2,
            "max_position_embeddings": CONTEXT,
            "attention_bias": True,
            "mlp_bias": True,
            "tie_word_embeddings": True,
            "rms_norm_eps": 1e-5,
            "rope_parameters": {"rope_type": "default", "rope_theta": 5e5},
        },
    ),
    "mistral-grouped": (
        "MistralConfig",
        {
            "num_hidden_layers": 2,
            "hidden_size": 32,
            "intermediate_size": 44,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "max_position_embeddings": CONTEXT,
            "sliding_window": None,
        },
    ),
    "mistral-window-beyond-the-context": (
        "MistralConfig",
        {
            "num_hidden_layers": 2,
            "hidden_size": 24,
            "intermediate_size": 40,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 12,
            "max_position_embeddings": CONTEXT,
            "sliding_window": CONTEXT,
            "tie_word_embeddings": True,
            "rms_norm_eps": 1e-5,
            "rope_parameters": {"rope_type": "default", "rope_theta": 5e5},
        },
    ),
    "qwen2-grouped": (
        "Qwen2Config",
        {
            "num_hidden_layers": 2,
            "hidden_size": 32,
            "intermediate_size": 44,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": CONTEXT,
        },
    ),
    "qwen2-tied-theta": (
        "Qwen2Config",
        {
            "num_hidden_layers": 3,
            "hidden_size": 24,
            "intermediate_size": 40,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "max_position_embeddings": CONTEXT,
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        },
    ),
    "neox": (
        "GPTNeoXConfig",
        {
            "num_hidden_layers": 2,
            "hidden_size": 32,
            "intermediate_size": 44,
            "num_attention_heads": 4,
            "max_position_embeddings": CONTEXT,
        },
    ),
    "neox-in-turn-tied-half-theta": (
        "GPTNeoXConfig",
        {
            "num_hidden_layers": 3,
            "hidden_size": 24,
            "intermediate_size": 40,
            "num_attention_heads": 2,
            "max_position_embeddings": CONTEXT,
            "use_parallel_residual": False,
            "tie_word_embeddings": True,
            "hidden_act": "gelu_new",
            "layer_norm_eps": 1e-3,
            "rope_parameters": {"rope_type": "default", "rope_theta": 5e3, "partial_rotary_factor": 0.5},
        },
    ),
    "bert": (
        "BertConfig",
        {
            "num_hidden_layers": 2,
            "hidden_size": 24,
            "intermediate_size": 40,
            "num_attention_heads": 3,
            "max_position_embeddings": CONTEXT,
        },
    ),
    "t5": ("T5Config", {"num_layers": 2, "d_model": 24, "d_kv": 8, "num_heads": 3, "d_ff": 40}),
    "t5-undivided-logits": (
        "T5Config",
        {"num_layers": 2, "d_model": 24, "d_kv": 6, "num_heads": 4, "d_ff": 40, "tie_word_embeddings": False},
    ),
    "marian": (
        "MarianConfig",
        {
            "encoder_layers": 2,
            "decoder_layers": 2,
            "d_model": 24,
            "encoder_attention_heads": 3,
            "decoder_attention_heads": 3,
            "encoder_ffn_dim": 40,
            "decoder_ffn_dim": 40,
            "max_position_embeddings": CONTEXT,
            "activation_function": "relu",
            "scale_embedding": True,
            "decoder_start_token_id": 0,
        },
    ),
}
SPECIAL = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0, "vocab_size": VOCABULARY}


def theirs(name: str, seed: int = 0, **changes: Any) -> Any:
    """A Hugging Face model of random weights, biases and norms included, so that none is at a value of its own."""
    config_class, settings = CONFIGS[name]
    config = getattr(transformers, config_class)(**SPECIAL | settings | changes)
    model = getattr(transformers, ARCHITECTURES[config.model_type].model_class)(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if not key.endswith("embed_positions.weight"):
                centre = 1.0 if tensor.ndim == 1 and "norm" in key.lower() and key.endswith("weight") else 0.0
                tensor.copy_(centre + 0.2 * torch.randn(tensor.shape, generator=generator))
    model.tie_weights()
    return model.eval()


LLAMA = replace(
    TINY, positions="rotary", norm="rmsnorm", activation="swiglu", bias=False, tied_embeddings=False, n_kv_heads=2
)
NEOX = replace(
    TINY, n_heads=3, n_kv_heads=3, positions="rotary", rotary_pct=0.25, parallel_residual=True, tied_embeddings=False
)
BERT = replace(ENCODER, norm="layernorm:1e-12", norm_place="post", segments=True)
T5 = replace(
    ENCODER_DECODER, positions="relative", norm="rmsnorm", activation="relu", bias=False, attention_scale=False
)
MARIAN = replace(ENCODER_DECODER, positions="sinusoidal", norm_place="post", activation="relu")
CAUSAL, MASKED = Causal("causal"), Masked("masked", 0.2, 0.8, 0.1, whole_words=False, next_sentence=False)
DENOISING = Denoising("denoising", 0.2, 1.5)
MODELS: dict[str, tuple[TransformerShape, Objective]] = {
    "GPT2LMHeadModel": (TINY, CAUSAL),
    "LlamaForCausalLM": (LLAMA, CAUSAL),
    "Qwen2ForCausalLM": (replace(LLAMA, qkv_bias=True), CAUSAL),
    "GPTNeoXForCausalLM": (NEOX, CAUSAL),
    "BertForMaskedLM": (BERT, MASKED),
    "T5ForConditionalGeneration": (T5, DENOISING),
    "MarianMTModel": (MARIAN, DENOISING),
}
AUTO = {
    "decoder": "AutoModelForCausalLM",
    "encoder": "AutoModelForMaskedLM",
    "encoder_decoder": "AutoModelForSeq2SeqLM",
}
