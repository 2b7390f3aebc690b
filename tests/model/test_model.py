"""What the modules must do, whatever their dimensions."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from scaling.model import FAMILIES, build
from scaling.model.layers import Rotary, relative_buckets, sinusoids
from scaling.model.tower import TowerModule
from scaling.objectives.losses import logits_of, mean_loss
from scaling.objectives.objectives import OBJECTIVES, training_batch
from scaling.shapes.families import SHAPES, EncoderDecoderShape, EncoderShape
from scaling.shapes.shape import RELATIVE_BUCKETS, TransformerShape
from scaling.spec.objective import OBJECTIVE_SPECS
from scaling.spec.run_spec import STANDARD, Multipliers
from tests import examples
from tests.examples import ENCODER, SPEC, TINY
from tests.shapes.test_flops import ENCODER_DECODERS, ENCODERS, VARIANTS, inputs_of, name_of


def embedding_gradients(
    model: torch.nn.Module, logits: Callable[[torch.nn.Module], torch.Tensor]
) -> list[torch.Tensor]:
    """How much each embedded token, in order of look-up and position, moves some logits."""
    embedded: list[torch.Tensor] = []

    def keep(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
        output.retain_grad()
        embedded.append(output)

    model.embedding.register_forward_hook(keep)  # type: ignore[union-attr, operator]
    logits(model).logsumexp(dim=-1).sum().backward()
    return [torch.zeros(len(x[0])) if x.grad is None else x.grad[0].abs().sum(dim=1) for x in embedded]


def tokens_of(shape: TransformerShape, count: int) -> torch.Tensor:
    return torch.arange(count).unsqueeze(0) % shape.vocab_size


@pytest.mark.parametrize("shape", VARIANTS[::5], ids=name_of)
def test_future_tokens_get_no_gradient(shape: TransformerShape) -> None:
    position = shape.context // 2
    tokens = tokens_of(shape, shape.context)
    (moved,) = embedding_gradients(build(shape, seed=0), lambda model: model(tokens)[0, position])
    assert torch.all(moved[: position + 1] > 0)
    assert torch.all(moved[position + 1 :] == 0)


@pytest.mark.parametrize("shape", VARIANTS[::16], ids=name_of)
def test_a_prefix_is_seen_both_ways_and_what_follows_only_backwards(shape: TransformerShape) -> None:
    tokens, seen = tokens_of(shape, shape.context), torch.tensor([6])
    model = build(shape, seed=0)
    (moved,) = embedding_gradients(model, lambda model: model(tokens, seen)[0, 2])
    assert torch.all(moved[:6] > 0)
    assert torch.all(moved[6:] == 0)
    (moved, *_) = embedding_gradients(build(shape, seed=0), lambda model: model(tokens, seen)[0, 9])
    assert torch.all(moved[:10] > 0)
    assert torch.all(moved[10:] == 0)
    torch.testing.assert_close(model(tokens, torch.tensor([1])), model(tokens))


@pytest.mark.parametrize("shape", ENCODERS[::5], ids=name_of)
def test_an_encoder_sees_later_tokens_as_well_as_earlier_ones(shape: EncoderShape) -> None:
    inputs = {name: value[:1] for name, value in inputs_of(shape).items()}
    inputs["tokens_BT"] = tokens_of(shape, shape.context)
    inputs["places_BP"] = torch.tensor([[3, 8, 11]])
    (moved,) = embedding_gradients(build(shape, seed=0), lambda model: logits_of(model(**inputs))[0, 1])
    assert torch.all(moved > 0)


def test_the_encoders_head_answers_for_the_places_asked_for() -> None:
    model = build(ENCODER, seed=0)
    tokens = tokens_of(ENCODER, ENCODER.context)
    everywhere = model(tokens, torch.arange(ENCODER.context).unsqueeze(0))
    places = torch.tensor([[11, 3, 8]])
    torch.testing.assert_close(model(tokens, places), everywhere[:, places[0]])


@pytest.mark.parametrize("shape", ENCODER_DECODERS[::5], ids=name_of)
def test_a_target_sees_the_whole_source_and_no_later_target(shape: EncoderDecoderShape) -> None:
    source, target = tokens_of(shape, shape.context), tokens_of(shape, shape.target_context)
    by_source, by_target = embedding_gradients(build(shape, seed=0), lambda model: model(source, target)[0, 3])
    assert torch.all(by_source > 0)
    assert torch.all(by_target[:4] > 0)
    assert torch.all(by_target[4:] == 0)


def test_relative_positions_know_distance_and_direction() -> None:
    both, causal = relative_buckets(300, causal=False), relative_buckets(300, causal=True)
    for buckets in (both, causal):
        assert torch.equal(buckets[10:, 10:], buckets[:-10, :-10])  # the same wherever the pair stands
        assert int(buckets.min()) == 0
        assert int(buckets.max()) == RELATIVE_BUCKETS - 1
    assert causal[5, 9] == causal[5, 5] == 0  # what is hidden needs no bucket of its own
    assert both[5, 9] != both[9, 5]
    # Raffel et al. 2020, section 2.1: distances up to 128 differ, ever more coarsely; beyond, all are one.
    assert causal[:, 0].tolist()[:16] == list(range(16))
    assert len(set(causal[128:, 0].tolist())) == 1
    assert torch.all(causal[1:, 0] >= causal[:-1, 0])


def test_sinusoids_follow_the_papers_equation() -> None:
    code = sinusoids(context=50, d_model=6)
    for position, i in [(0, 0), (7, 1), (49, 2)]:
        angle = position / 10000 ** (2 * i / 6)
        assert code[position, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
        assert code[position, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_a_part_of_each_head_is_rotated_and_the_rest_passes() -> None:
    x = torch.randn(1, 2, 16, 12)
    turned = Rotary(context=16, width=4, base=10000.0)(x)
    assert torch.equal(turned[..., 4:], x[..., 4:])
    torch.testing.assert_close(turned[..., :4], Rotary(context=16, width=4, base=10000.0)(x[..., :4]))
    assert not torch.isclose(turned[:, :, 1:, :4], x[:, :, 1:, :4]).all()


def test_in_parallel_attention_and_mlp_read_the_same_stream() -> None:
    shape = replace(TINY, parallel_residual=True)
    multipliers = Multipliers(0.3, 1.0, 1.0, 1.0, 1.0)
    block = build(shape, 0, multipliers).target.blocks[0]
    x = torch.randn(2, 5, shape.d_model)
    together = block.attention(block.attention_norm(x), None, None) + block.mlp(block.mlp_norm(x))
    torch.testing.assert_close(block(x, None, None, None), x + 0.3 * together)
    in_turn = build(replace(shape, parallel_residual=False), 0, multipliers).target.blocks[0]
    assert not torch.allclose(in_turn(x, None, None, None), x + 0.3 * together)


def test_rotary_scores_depend_on_distance_only() -> None:
    rotary = Rotary(context=32, width=8, base=10000.0)
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)
    turned_q = rotary(q.expand(1, 1, 32, 8))[0, 0]
    turned_k = rotary(k.expand(1, 1, 32, 8))[0, 0]
    scores = turned_q @ turned_k.T
    for distance in (0, 3, 11):
        diagonal = scores.diagonal(offset=-distance)
        torch.testing.assert_close(diagonal, diagonal[0].expand_as(diagonal), rtol=1e-4, atol=1e-5)
    assert not torch.isclose(scores[5, 0], scores[0, 5])


@pytest.mark.parametrize("family", FAMILIES)
def test_initial_loss_is_near_a_uniform_guess(family: str) -> None:
    shape, objective = examples.FAMILIES[family]
    spec = replace(SPEC, model=shape, objective=objective)
    text = np.random.default_rng(0).integers(1, 37, (64, spec.lengths.text + 1))
    example = training_batch(spec, text, 1, None)
    loss = mean_loss(logits_of(build(shape, seed=0)(*example.inputs)), example.targets_BP, example.weights_BP)
    assert loss.item() == pytest.approx(math.log(shape.vocab_size), rel=0.05)


def test_weights_depend_on_the_seed_and_on_nothing_else() -> None:
    torch.manual_seed(123)
    first = build(TINY, seed=1).state_dict()
    state = torch.get_rng_state()
    second = build(TINY, seed=1).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = build(TINY, seed=2).state_dict()
    assert not torch.equal(first["embedding.weight"], other["embedding.weight"])


def test_every_kind_that_a_spec_may_name_is_built() -> None:
    assert set(OBJECTIVES) == set(OBJECTIVE_SPECS)
    assert set(FAMILIES) == set(SHAPES) == set(examples.FAMILIES)
    assert {family for spec in OBJECTIVE_SPECS.values() for family in spec.families} == set(FAMILIES)


def test_initial_weights_scale_with_fan_in_and_shrink_on_the_residual_stream() -> None:
    shape = replace(TINY, n_layers=8, d_model=192, n_heads=6, n_kv_heads=6, d_ff=768)
    block = build(shape, seed=0).target.blocks[0]
    std = 0.02 * math.sqrt(768 / 192)
    assert block.attention.qkv.weight.std().item() == pytest.approx(std, rel=0.02)
    assert block.attention.out.weight.std().item() == pytest.approx(std / math.sqrt(16), rel=0.02)
    assert block.mlp.down.weight.std().item() == pytest.approx(0.02 / math.sqrt(16), rel=0.02)
    assert torch.all(block.mlp.down.bias == 0)


@pytest.mark.parametrize("causal", [False, True])
def test_relative_biases_lie_in_memory_as_fused_attention_reads_them(causal: bool) -> None:
    shape = replace(TINY, positions="relative")
    tower = TowerModule(shape, replace(shape.towers()[0], causal=causal), STANDARD)
    mask = tower.mask(16, None)
    assert mask is not None
    assert mask.shape == (1, TINY.n_heads, 16, 16)
    assert mask.is_contiguous()
