"""FLOPs against torch's own counter, published tables and each other."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from scaling.config.config import compose, to_run
from scaling.model import build, parameters_by_group
from scaling.shapes import flops
from scaling.shapes.families import HEAD_SEES, EncoderDecoderShape, EncoderShape
from scaling.shapes.matmuls import parameter_counts
from scaling.shapes.shape import ACTIVATIONS, NORM_PLACES, NORMS, POSITIONS, TransformerShape
from tests.examples import ENCODER, ENCODER_DECODER, GPT2, PRESETS, TINY

BATCH = 2
OPTIONS = [
    {
        "positions": positions,
        "norm": norm,
        "norm_place": place,
        "activation": activation,
        "bias": bias,
        "tied_embeddings": tied,
        "n_kv_heads": kv_heads,
    }
    for (positions, norm, place, activation), (bias, tied, kv_heads) in zip(
        itertools.product(POSITIONS, NORMS, NORM_PLACES, ACTIVATIONS),
        itertools.cycle([(True, True, 6), (False, False, 2), (True, False, 1), (False, True, 3)]),
        strict=False,
    )
]
VARIANTS = [replace(TINY, **options) for options in OPTIONS]
PARALLEL = [
    replace(shape, parallel_residual=True, rotary_pct=0.5 if shape.positions == "rotary" else 1.0)
    for shape in (*VARIANTS[::7], ENCODER)
    if shape.norm_place == "pre"
]
QKV_BIASED = [replace(shape, bias=False, qkv_bias=True) for shape in (*VARIANTS[::9], ENCODER, ENCODER_DECODER)]
HEADS = list(itertools.product(HEAD_SEES, (True, False), (True, False), (True, False)))
ENCODERS = [
    replace(ENCODER, **options, head_sees=sees, head_transform=transform, embedding_norm=norm, next_sentence=pair)
    for i, options in enumerate(OPTIONS)
    for sees, transform, norm, pair in [HEADS[(i + i // len(HEADS)) % len(HEADS)]]
]
ENCODER_DECODERS = [replace(ENCODER_DECODER, **options) for options in OPTIONS]


def name_of(shape: TransformerShape) -> str:
    name = f"{shape.kind}-{shape.positions}-{shape.norm}-{shape.norm_place}-{shape.activation}"
    if isinstance(shape, EncoderShape):
        name += f"-{shape.head_sees}" + "-transform" * shape.head_transform + "-pair" * shape.next_sentence
    return name


def inputs_of(shape: TransformerShape) -> dict[str, torch.Tensor]:
    """A batch of zeros for a model of this shape, as long as its streams."""
    streams = shape.stream_tokens()

    def zeros(stream: str) -> torch.Tensor:
        return torch.zeros(BATCH, streams[stream], dtype=torch.long)

    if isinstance(shape, EncoderShape):
        pair = {"segments_BT": zeros("source")} if shape.next_sentence else {}
        return {"tokens_BT": zeros("source"), "places_BP": zeros("predicted"), **pair}
    if isinstance(shape, EncoderDecoderShape):
        return {"source_BS": zeros("source"), "target_BT": zeros("target")}
    return {"tokens_BT": zeros("target")}


def counted_by_torch(shape: TransformerShape, **more: torch.Tensor) -> tuple[int, int]:
    """FLOPs of one forward, and of one forward and backward pass, by torch's counter."""
    with torch.device("meta"):  # shapes alone: full-size presets cost no memory
        model = build(shape, seed=0)
        inputs = inputs_of(shape) | {name: value.to("meta") for name, value in more.items()}
    # The math backend is made of plain matmuls, which the counter sees; it counts causal scores in full.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as forward:
        output = model(**inputs)
        first, others = output if isinstance(output, tuple) else (output, {})
        loss = sum(logits.logsumexp(-1).sum() for logits in (first, *others.values()))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as backward:
        loss.backward()
    return forward.get_total_flops(), forward.get_total_flops() + backward.get_total_flops()


@pytest.mark.parametrize("shape", [*VARIANTS, *PARALLEL, *QKV_BIASED, *ENCODERS, *ENCODER_DECODERS], ids=name_of)
def test_both_counts_equal_the_built_module_and_torchs_counter(shape: TransformerShape) -> None:
    assert parameters_by_group(build(shape, seed=0)) == shape.parameters_by_group()
    forward, both = counted_by_torch(shape)
    tokens = {stream: BATCH * count for stream, count in shape.stream_tokens().items()}
    assert sum(flops.forward_flops_by_group(shape, tokens).values()) == forward
    assert flops.train_flops_per_sequence(shape) * BATCH == both


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_costs_at_full_size_what_torch_counts(preset: str) -> None:
    synthetic = ["data=synthetic", "data.source.tokens=10000", "model.vocab_size=50257"]
    shape = to_run(compose([*synthetic, f"model={preset}"])).spec.model
    with torch.device("meta"):
        assert parameters_by_group(build(shape, seed=0)) == shape.parameters_by_group()
    assert counted_by_torch(shape)[1] == flops.train_flops_per_sequence(shape) * BATCH


def test_a_prefix_read_both_ways_costs_what_a_causal_mask_does() -> None:
    both_ways = counted_by_torch(TINY, seen_B=torch.ones(BATCH, dtype=torch.long))
    assert both_ways == counted_by_torch(TINY)


def test_cost_per_token_is_the_sequences_over_the_tokens_that_its_towers_read() -> None:
    for shape in (TINY, ENCODER, ENCODER_DECODER):
        assert shape.sequence_tokens == sum(tower.tokens for tower in shape.towers())
        per_token = sum(flops.train_flops_per_token_by_group(shape).values())
        assert per_token * shape.sequence_tokens == pytest.approx(flops.train_flops_per_sequence(shape), rel=1e-12)
    assert (TINY.sequence_tokens, ENCODER.sequence_tokens, ENCODER_DECODER.sequence_tokens) == (16, 16, 16 + 6)


def test_weights_are_charged_to_the_stream_that_they_see() -> None:
    source = {"source": 1, "target": 0, "predicted": 0, "first": 0}
    target = source | {"source": 0, "target": 1}
    shape = replace(ENCODER_DECODER, n_layers=1)
    kv = 2 * 2 * shape.d_model * shape.kv_width
    by_source = flops.forward_flops_by_group(shape, source)
    assert by_source["head"] == 0
    assert by_source["cross_attention"] == kv  # keys and values of the source, once for every target layer
    by_target = flops.forward_flops_by_group(shape, target)
    assert by_target["cross_attention"] == 2 * 2 * shape.d_model**2
    assert by_target["attention"] == by_source["attention"]
    assert by_target["scores"] == 4 * shape.d_model * (shape.target_context + shape.context)


def test_a_head_that_sees_predicted_tokens_alone_costs_their_share() -> None:
    every = replace(ENCODER, head_sees="all")
    head = flops.train_flops_per_token_by_group
    assert head(ENCODER)["head"] / head(every)["head"] == pytest.approx(ENCODER.predicted / ENCODER.context)


@pytest.mark.parametrize("shape", [TINY, ENCODER, ENCODER_DECODER], ids=name_of)
def test_parameters_by_group_sum_to_the_total(shape: TransformerShape) -> None:
    model = build(shape, seed=0)
    assert sum(parameters_by_group(model).values()) == sum(p.numel() for p in model.parameters())


def test_gpt2_small_costs_what_nanogpts_sizing_notebook_says() -> None:
    # karpathy/nanoGPT, transformer_sizing.ipynb: forward 291,648,307,200 and in all 874,944,921,600 for 1,024 tokens.
    forward = flops.forward_flops_by_group(GPT2, {"target": 1024})
    assert sum(forward.values()) == 291_648_307_200
    assert flops.exact(GPT2) * 1024 == 874_944_921_600


def test_a_step_costs_its_batch_and_its_optimizer() -> None:
    batch = 4 * TINY.sequence_tokens * flops.exact(TINY)
    assert flops.train_flops_per_step(TINY, 4, "adamw") == batch
    # Newton-Schulz by hand, five times on 24 x 72 (queries, keys, values), 24 x 24 and twice 24 x 40 numbers a layer.
    attention, mlp = 14 * 24**3 + 6 * 24**3, 2 * (4 * 24**2 * 40 + 2 * 24**3)
    assert flops.train_flops_per_step(TINY, 4, "muon") == batch + 3 * 5 * (attention + mlp)


def test_chinchilla_convention_adds_the_embedding_matmul_and_the_softmax() -> None:
    embedding, softmax = 2 * 50257 * 768, 12 * 3 * 12 * 1024
    assert flops.chinchilla(GPT2) - flops.exact(GPT2) == 3 * (embedding + softmax)


def test_palm_adds_attention_to_six_n() -> None:
    scores = 12 * 12 * 12 * 64 * 1024
    assert flops.palm(GPT2) == 6 * parameter_counts(GPT2)["non_embedding_head"] + scores


def test_exact_exceeds_palm_only_by_what_has_no_matmul() -> None:
    vectors = sum(n for g, n in GPT2.parameters_by_group().items() if g == "norm")
    biases = 12 * (3 * 768 + 768 + 3072 + 768)
    assert flops.palm(GPT2) - flops.exact(GPT2) == 6 * (vectors + biases)


def test_halved_scores_count_what_a_causal_mask_leaves() -> None:
    pairs = sum(t + 1 for t in range(GPT2.context))
    scores = flops.train_flops_per_token_by_group(GPT2)["scores"]
    halved = scores * pairs / GPT2.context**2
    assert flops.exact_halved(GPT2) == pytest.approx(flops.exact(GPT2) - scores + halved)


def test_what_an_encoder_scores_is_never_halved() -> None:
    assert flops.exact_halved(ENCODER) == flops.exact(ENCODER)
    spared = 3 * 4 * 24 * 3 * sum(6 - (t + 1) for t in range(6))  # the target's own scores alone
    saved = flops.exact(ENCODER_DECODER) - flops.exact_halved(ENCODER_DECODER)
    assert saved * ENCODER_DECODER.sequence_tokens == pytest.approx(spared)


def test_kaplans_count_misses_most_of_a_narrow_models_work() -> None:
    narrow = replace(TINY, n_layers=2, d_model=8, n_heads=2, n_kv_heads=2, d_ff=32, vocab_size=128, context=64)
    assert flops.exact(narrow) / flops.six_n_non_embedding(narrow) > 2


def test_six_n_conventions_order_by_what_they_include() -> None:
    assert flops.six_n_non_embedding(GPT2) < flops.six_n_non_embedding_head(GPT2) < flops.six_n_total(GPT2)
