"""Parametrizations: what they resolve to, and that it reaches model, optimizer and export, and no base model."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from scaling.config.config import compose, to_run
from scaling.hf.folding import fold
from scaling.model import build, is_hidden
from scaling.shapes.shape import TransformerShape
from scaling.spec.parametrization import PARAMETRIZATIONS, Base, parametrize
from scaling.spec.run_spec import STANDARD, Multipliers, RunSpec, from_dict, to_dict
from scaling.train.optimizers import PEAK, build_optimizer, set_learning_rate
from tests.examples import ENCODER, ENCODER_DECODER, SPEC, TINY
from tests.shapes.test_flops import inputs_of
from tests.train.test_loop import run, spec_for

ADAMW = SPEC.recipe.optimizer
OURS = Base(TINY.d_model, TINY.n_layers, TINY.head_width)
UNEVEN = Multipliers(residual=0.4, residual_init=1.7, head_init=1.3, scores=0.6, logits=0.3)


def scaled(kind: str, shape: TransformerShape = TINY, base: Base = OURS, **changes: Any) -> RunSpec:
    optimizer, parametrization = parametrize(kind, shape, base, ADAMW)
    recipe = replace(SPEC.recipe, optimizer=optimizer, parametrization=parametrization)
    return replace(SPEC, model=shape, recipe=recipe, **changes)


def test_mup_resolves_to_table_8_of_yang_et_al() -> None:
    wide = replace(TINY, d_model=96, n_layers=12, d_ff=160)  # 4 times the width, heads 4 times as wide
    got = scaled("mup", wide).recipe
    assert got.parametrization is not None
    assert got.multipliers == Multipliers(1.0, 1.0, head_init=2.0, scores=0.5, logits=0.25)
    assert got.parametrization.hidden_learning_rate == ADAMW.learning_rate / 4
    assert got.parametrization.hidden_weight_decay == ADAMW.weight_decay
    assert got.optimizer == ADAMW


def test_completep_resolves_to_table_1_of_dey_et_al() -> None:
    large = replace(TINY, d_model=96, n_layers=12, n_heads=24, n_kv_heads=24, d_ff=160)  # 4 times in width and depth
    got = scaled("completep", large).recipe
    assert got.parametrization is not None
    assert got.multipliers == Multipliers(residual=0.25, residual_init=2.0, head_init=2.0, scores=1.0, logits=0.25)
    assert got.parametrization.hidden_learning_rate == ADAMW.learning_rate / 4
    assert got.parametrization.hidden_weight_decay == ADAMW.weight_decay * 4
    assert got.optimizer == replace(ADAMW, eps=ADAMW.eps / 16)


@pytest.mark.parametrize("kind", PARAMETRIZATIONS)
def test_the_base_model_trains_as_a_standard_one_bit_for_bit(kind: str, tmp_path: Path) -> None:
    standard = spec_for(steps=10)
    spec = scaled(kind, data=standard.data)
    spec = replace(spec, recipe=replace(standard.recipe, parametrization=spec.recipe.parametrization))
    assert spec.recipe.multipliers == STANDARD
    assert (spec.run_id == standard.run_id) == (kind == "standard")
    first, second = run(standard, tmp_path / "standard"), run(spec, tmp_path / kind)
    if kind == "standard":
        assert first.weights_sha256 == second.weights_sha256
    else:  # the sum of squares that clips gradients is the same, only the order of groups is not
        assert first.val_loss_nats == pytest.approx(second.val_loss_nats, rel=1e-6)


def test_identity_survives_json_and_a_standard_recipe_says_nothing() -> None:
    spec = scaled("completep", base=Base(8, 1, 2))
    assert from_dict(to_dict(spec)) == spec
    assert "parametrization" not in to_dict(SPEC)["recipe"]
    assert from_dict(to_dict(SPEC)) == SPEC


@pytest.mark.parametrize("shape", [TINY, ENCODER, ENCODER_DECODER], ids=lambda shape: shape.kind)
def test_hidden_matrices_alone_have_their_own_rate_and_decay(shape: TransformerShape) -> None:
    recipe = scaled("completep", shape, Base(6, 1, 1)).recipe
    assert recipe.parametrization is not None
    model = build(shape, 0, recipe.multipliers)
    optimizer = build_optimizer(model, recipe)
    set_learning_rate(optimizer, 0.5)
    used = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    assert len(used) == len(list(model.parameters()))
    hidden = 0
    for name, parameter in model.named_parameters():
        group = used[id(parameter)]
        if is_hidden(name, parameter):
            hidden += parameter.numel()
            assert group["lr"] == recipe.parametrization.hidden_learning_rate / 2 == group[PEAK] / 2
            assert group["weight_decay"] == recipe.parametrization.hidden_weight_decay
        else:
            assert group["lr"] == recipe.optimizer.learning_rate / 2
            assert group["weight_decay"] == (recipe.optimizer.weight_decay if parameter.ndim > 1 else 0.0)
    square = [m for m in shape.matmuls() if m.group != "head" or m.fan_out == shape.d_model]  # BERT's transform
    assert hidden == sum(m.fan_in * m.fan_out * m.layers for m in square)


@pytest.mark.parametrize(
    "shape",
    [
        TINY,
        replace(TINY, positions="rotary", tied_embeddings=False, n_kv_heads=2, norm_place="post"),
        replace(TINY, parallel_residual=True),
        ENCODER,
        replace(ENCODER_DECODER, positions="relative"),
    ],
    ids=lambda shape: f"{shape.kind}-{shape.norm_place}" + "-parallel" * shape.parallel_residual,
)
def test_folded_weights_compute_the_same_without_multipliers(shape: TransformerShape) -> None:
    model, plain = build(shape, 0, UNEVEN).eval(), build(shape, 0).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    plain.load_state_dict(fold(model.state_dict(), shape, UNEVEN))
    inputs = inputs_of(shape)
    with torch.no_grad():
        torch.testing.assert_close(plain(**inputs), model(**inputs), rtol=1e-4, atol=1e-5)
        unfolded = build(shape, 0).eval()
        unfolded.load_state_dict(model.state_dict())
        assert not torch.allclose(unfolded(**inputs), model(**inputs), rtol=1e-2)


def test_a_multiplier_without_weights_to_hold_it_is_refused_by_name() -> None:
    shape = replace(TINY, norm_place="post")
    with pytest.raises(ValueError, match="multiplies the logits by 0.3.*tied_embeddings=false"):
        fold(build(shape, 0, UNEVEN).state_dict(), shape, UNEVEN)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["recipe.parametrization=mupp"], "unknown recipe.parametrization 'mupp': did you mean 'mup'"),
        (["recipe.parametrization=mup"], "recipe.base_d_model=None.*say how large it is"),
        (["recipe=mup", "model.positions=sinusoidal"], "mup has no rule for model.positions=sinusoidal"),
        (["recipe=completep", "model.norm_place=post"], "completep has no rule for model.norm_place=post"),
    ],
)
def test_what_has_no_rule_is_refused_before_anything_starts(overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_run(compose(["data=synthetic", *overrides]))
