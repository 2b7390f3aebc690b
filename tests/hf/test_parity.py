"""Parity with Hugging Face on small random models made here; nothing is downloaded."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from scaling.hf.architectures import ARCHITECTURES
from scaling.hf.settings import architecture_of, to_ours, to_theirs
from scaling.hf.weights import to_ours as weights_to_ours
from scaling.hf.weights import to_theirs as weights_to_theirs
from scaling.model import build
from scaling.model.layers import relative_buckets
from scaling.shapes.families import SHAPES
from scaling.shapes.shape import TransformerShape
from tests.examples import ENCODER, GPT2
from tests.hf_examples import CONFIGS, CONTEXT, VOCABULARY, theirs

TOLERANCE = 1e-5  # of logits in float32


def shape_of(model: Any) -> TransformerShape:
    architecture = ARCHITECTURES[model.config.model_type]
    settings = to_ours(model.config, architecture)
    follows = {"encoder": {"predicted": CONTEXT, "head_sees": "all"}, "encoder_decoder": {"target_context": 7}}
    extra = {"context": CONTEXT, "head_bias": True} | follows.get(architecture.kind, {})
    names = SHAPES[architecture.kind].__dataclass_fields__
    values = extra | settings | {"kind": architecture.kind}
    return SHAPES[architecture.kind](**{name: value for name, value in values.items() if name in names})


def ours(model: Any) -> torch.nn.Module:
    shape = shape_of(model)
    built = build(shape, seed=1).eval()
    architecture = ARCHITECTURES[model.config.model_type]
    built.load_state_dict(weights_to_ours(model.state_dict(), architecture, built.state_dict(), shape))
    return built


def tokens(length: int, seed: int = 3) -> Tensor:
    return torch.randint(1, VOCABULARY, (3, length), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def logits(built: torch.nn.Module, kind: str) -> Tensor:
    """Our logits of the test's tokens."""
    if kind == "encoder":
        return built(tokens(CONTEXT), torch.arange(CONTEXT).expand(3, -1))
    return built(tokens(CONTEXT), tokens(7, 4)) if kind == "encoder_decoder" else built(tokens(CONTEXT))


@torch.no_grad()
def their_logits(model: Any) -> Tensor:
    """Their logits of the same tokens."""
    target = {"decoder_input_ids": tokens(7, 4)} if model.config.is_encoder_decoder else {}
    everything = torch.ones(3, CONTEXT, dtype=torch.long)
    return model(input_ids=tokens(CONTEXT), attention_mask=everything, **target).logits


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_agree_with_the_weights_copied_across(name: str) -> None:
    model = theirs(name)
    mine, reference = logits(ours(model), shape_of(model).kind), their_logits(model)
    assert reference.std() > 0.1  # of numbers that differ
    print(f"{name}: largest difference {(mine - reference).abs().max():.2e}, logits up to {reference.abs().max():.2f}")
    torch.testing.assert_close(mine, reference, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", CONFIGS)
def test_weights_come_back_bit_for_bit(name: str) -> None:
    model = theirs(name)
    architecture, built, state = ARCHITECTURES[model.config.model_type], ours(model), model.state_dict()
    back = weights_to_theirs(built.state_dict(), architecture, state, shape_of(model))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)
    again = weights_to_ours(back, architecture, built.state_dict(), shape_of(model))
    assert all(torch.equal(again[key], tensor) for key, tensor in built.state_dict().items())


@pytest.mark.parametrize("name", CONFIGS)
def test_settings_come_back(name: str) -> None:
    model = theirs(name)
    shape = shape_of(model)
    # What Mistral can say Llama can say, too, so that Mistral is written where it is asked for.
    kind, architecture = architecture_of(shape, "mistral" if name.startswith("mistral") else None)
    assert kind == model.config.model_type
    for key, value in to_theirs(shape, architecture).items():
        if key not in architecture.on_export and "drop" not in key:
            assert getattr(model.config, key) == (None if name == "gpt2" and key == "n_inner" else value), key


def test_rotary_settings_as_pythia_is_published_with_are_understood() -> None:
    shape = shape_of(theirs("neox", rotary_pct=0.5, rotary_emb_base=5000))
    assert (shape.positions, shape.rotary_pct, shape.parallel_residual) == ("rotary:5000", 0.5, True)


@pytest.mark.parametrize("causal", [True, False])
def test_far_relative_positions_share_the_same_buckets_as_t5s(causal: bool) -> None:
    from transformers.models.t5.modeling_t5 import T5Attention

    position_T = torch.arange(600)
    ahead_TT = position_T[None, :] - position_T[:, None]
    bucket_TT = T5Attention._relative_position_bucket(ahead_TT, bidirectional=not causal)
    if causal:
        bucket_TT = bucket_TT.tril()
    mine_TT = relative_buckets(600, causal)
    assert torch.equal(mine_TT.tril() if causal else mine_TT, bucket_TT)


@torch.no_grad()
def test_segments_are_berts_token_types() -> None:
    model = theirs("bert")
    segments = (torch.arange(CONTEXT) > 4).long().expand(3, -1)
    mine = ours(model)(tokens(CONTEXT), torch.arange(CONTEXT).expand(3, -1), segments)
    torch.testing.assert_close(mine, model(tokens(CONTEXT), token_type_ids=segments).logits, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=True where only False is"),
        ("gpt2", {"activation_function": "quick_gelu"}, "activation_function='quick_gelu' where only"),
        ("llama-grouped", {"head_dim": 16}, "head_dim=16, which is not the model's width over its heads"),
        ("llama-grouped", {"mlp_bias": True}, "attention_bias=False and mlp_bias=True, which are one setting here"),
        ("mistral-grouped", {"head_dim": 16}, "head_dim=16, which is not the model's width over its heads"),
        ("qwen2-grouped", {"hidden_act": "gelu"}, "hidden_act='gelu' where only 'silu' is"),
        (
            "qwen2-grouped",
            {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}},
            "rope_type='linear' where only 'default' is",
        ),
        ("neox", {"attention_bias": False}, "attention_bias=False where only True is"),
        ("neox", {"hidden_act": "gelu_fast"}, "hidden_act='gelu_fast' where only"),
        ("bert", {"type_vocab_size": 3}, "type_vocab_size=3 where only 2 is"),
        ("t5", {"feed_forward_proj": "gated-gelu"}, "feed_forward_proj='gated-gelu' where only"),
        ("t5", {"num_decoder_layers": 1}, "num_layers=2 and num_decoder_layers=1"),
        ("marian", {"scale_embedding": False}, "scale_embedding=False where only True is"),
    ],
)
def test_their_settings_without_an_equivalent_are_named(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        shape_of(theirs(name, **changes))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (replace(GPT2, norm_place="post"), "norm_place=post where it has only pre; train with model=gpt2"),
        (replace(GPT2, activation="swiglu"), "GPT2LMHeadModel cannot say model.activation=swiglu"),
        (replace(GPT2, n_kv_heads=4), "n_kv_heads=4 where it has only as many as model.n_heads=12"),
        (replace(GPT2, positions="sinusoidal"), "positions=sinusoidal: no Hugging Face class .* kind decoder"),
        (
            replace(ENCODER, norm_place="post", next_sentence=True),
            "objective.next_sentence=true where it has",
        ),
        (replace(ENCODER, head_transform=False), "model.family.head_transform=false where it has only true"),
        (replace(GPT2, norm="rmsnorm"), "GPT2LMHeadModel cannot say .*model.norm=rmsnorm"),
        (
            replace(GPT2, parallel_residual=True),
            "parallel_residual=true where it has only false; train with model=gpt2",
        ),
        (
            replace(GPT2, positions="rotary", norm="rmsnorm", activation="swiglu", bias=False, rotary_pct=0.5),
            "LlamaForCausalLM cannot say model.rotary_pct=0.5 where it has only 1.0",
        ),
        (replace(GPT2, positions="rotary", n_kv_heads=4), "GPTNeoXForCausalLM cannot say .*n_kv_heads=4 where"),
    ],
)
def test_our_settings_without_an_equivalent_are_named(shape: TransformerShape, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_theirs(shape, architecture_of(shape)[1])


@torch.no_grad()
@pytest.mark.parametrize("name", ["mistral-grouped", "qwen2-grouped"])
def test_a_window_of_attention_is_the_longest_context(name: str) -> None:
    """Within its window their attention sees every earlier token, as ours does; beyond, it does not."""
    window = CONTEXT // 2
    windowed = {"use_sliding_window": True, "max_window_layers": 0} if name.startswith("qwen2") else {}
    model = theirs(name, sliding_window=window, **windowed)
    shape = shape_of(model)
    assert shape.context == window
    mine = ours(model)(tokens(window))
    torch.testing.assert_close(mine, model(input_ids=tokens(window)).logits, rtol=0, atol=TOLERANCE)
    longer = replace(shape, context=CONTEXT)
    built = build(longer, 0).eval()
    built.load_state_dict(ours(model).state_dict())
    assert (built(tokens(CONTEXT)) - their_logits(model)).abs().max() > 0.01


def test_a_class_is_written_only_where_it_can_say_the_shape() -> None:
    shape = shape_of(theirs("llama-grouped"))
    assert architecture_of(shape)[0] == "llama"
    assert architecture_of(shape, "mistral")[1].model_class == "MistralForCausalLM"
    assert architecture_of(replace(shape, qkv_bias=True))[0] == "qwen2"
    with pytest.raises(ValueError, match="Qwen2ForCausalLM cannot say model.qkv_bias=false where it has only true"):
        to_theirs(shape, architecture_of(shape, "qwen2")[1])
    with pytest.raises(
        ValueError, match="a MistralForCausalLM is no model of kind decoder with model.positions=learned"
    ):
        architecture_of(GPT2, "mistral")
    with pytest.raises(ValueError, match="unknown Hugging Face model_type 'mistrl'"):
        architecture_of(shape, "mistrl")
