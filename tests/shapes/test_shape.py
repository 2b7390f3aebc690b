"""Parameter counts and the refusal of impossible dimensions."""

from dataclasses import replace

import pytest

from scaling.shapes.matmuls import parameter_counts
from tests.examples import ENCODER_DECODER, GPT2


def test_gpt2_small_has_its_published_parameter_count() -> None:
    assert parameter_counts(GPT2)["total"] == 124_439_808


def test_pythia_160m_has_its_published_parameter_count() -> None:
    shape = replace(
        GPT2, context=2048, positions="rotary", rotary_pct=0.25, parallel_residual=True, tied_embeddings=False
    )
    assert parameter_counts(replace(shape, vocab_size=50304))["total"] == 162_322_944
    assert parameter_counts(shape)["non_embedding"] == 85_056_000


def test_cross_attention_waits_for_the_targets_own() -> None:
    with pytest.raises(ValueError, match="an encoder_decoder's sublayers follow one another"):
        replace(ENCODER_DECODER, parallel_residual=True)


def test_non_embedding_count_is_kaplans_twelve_l_d_squared_but_for_vectors() -> None:
    bare = replace(GPT2, bias=False)
    gains = (2 * 12 + 1) * 768
    assert parameter_counts(bare)["non_embedding"] == 12 * 12 * 768**2 + gains


def test_the_heads_matrix_counts_whether_tied_or_not() -> None:
    untied = replace(GPT2, tied_embeddings=False)
    assert parameter_counts(untied)["non_embedding_head"] == parameter_counts(GPT2)["non_embedding_head"]
    assert parameter_counts(untied)["total"] - parameter_counts(GPT2)["total"] == 50257 * 768


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_heads": 5}, r"n_heads=5 does not divide model.d_model=768.*is 4, the nearest width is 770"),
        ({"n_kv_heads": 5}, r"n_kv_heads=5 does not divide model.n_heads=12.*is 4"),
        ({"positions": "rotary", "d_model": 36}, r"head width d_model/n_heads is 3.*model.d_model=48"),
        ({"positions": "sinusoidal", "d_model": 33, "n_heads": 3, "n_kv_heads": 3}, r"d_model=33 is odd.*34"),
        ({"positions": "alibi"}, r"positions='alibi': choose from rotary, learned, sinusoidal"),
        ({"activation": "swish"}, r"activation='swish': choose from relu, gelu, gelu_tanh, silu, swiglu, relu2"),
        ({"norm": "batchnorm"}, r"norm='batchnorm': choose from layernorm, rmsnorm"),
        (
            {"norm": "layernorm:0"},
            r"'layernorm:0': only these settings take a number.*: layernorm:1e-05",
        ),
        ({"positions": "learned:3"}, r"'learned:3': only these settings take a number"),
        ({"rotary_pct": 0.5}, r"rotary_pct=0.5 is a share of .*model.positions=learned: set model.rotary_pct=1, or"),
        ({"positions": "rotary", "rotary_pct": 0.05}, r"rotates 3 of the 64 channels.*model.rotary_pct=0.0625"),
        ({"positions": "rotary", "rotary_pct": 0.01}, r"rotates 0 of the 64 channels.*model.rotary_pct=0.0313"),
        ({"positions": "rotary", "rotary_pct": 1.5}, r"rotary_pct=1.5: a share above 0 and at most 1"),
        ({"norm_place": "post", "parallel_residual": True}, r"norm_place=post has no norm for both; set .*=pre"),
        ({"qkv_bias": True}, r"qkv_bias=true with model.bias=true.*set model.qkv_bias=false"),
        ({"norm_place": "both"}, r"norm_place='both': choose from pre, post"),
        ({"n_layers": 0}, r"n_layers=0: must be at least 1"),
        ({"dropout": 1.0}, r"dropout=1.0: must be at least 0 and below 1"),
    ],
)
def test_impossible_shapes_are_refused_with_the_nearest_choice(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(GPT2, **change)
