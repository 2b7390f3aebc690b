"""A run's identity."""

import copy
import json
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest

from scaling.config.config import compose, to_run
from scaling.shapes.shape import before
from scaling.spec.run_spec import from_dict, to_dict
from tests.examples import FAMILIES, PRESETS, SPEC

# The spec of a quickstart run as its record held it before there was a choice of rotary_pct, parallel_residual,
# parametrization or special tokens.
OLD_ID = "003de57717f2"
OLD: dict[str, Any] = {
    "model": {
        "kind": "decoder",
        "n_layers": 2,
        "d_model": 24,
        "n_heads": 2,
        "n_kv_heads": 2,
        "d_ff": 96,
        "vocab_size": 128,
        "context": 64,
        "positions": "learned",
        "norm": "layernorm",
        "norm_place": "pre",
        "activation": "gelu",
        "bias": False,
        "tied_embeddings": True,
        "dropout": 0.0,
    },
    "objective": {"kind": "causal"},
    "data": {
        "kind": "stdlib",
        "fingerprint": "2af375444dc81c95a1e86036a36ed59f02c6a344264651363981d2a67f8bfc01",
        "tokenizer": "chars",
        "tokenizer_sha256": None,
        "end_id": 0,
        "vocab_size": 128,
        "val_fraction": 0.05,
        "noise": 0.0,
        "duplicate": 0.0,
        "quality_seed": 0,
    },
    "recipe": {
        "steps": 3572,
        "batch_sequences": 1,
        "optimizer": {
            "kind": "adamw",
            "learning_rate": 0.0023053088879689846,
            "beta1": 0.9,
            "beta2": 0.999260916264435,
            "eps": 1e-08,
            "weight_decay": 0.1,
            "clip_norm": 1.0,
        },
        "schedule": {
            "kind": "wsd",
            "warmup_steps": 179,
            "cooldown_steps": 714,
            "cooldown_shape": "1-sqrt",
            "final_fraction": 0.0,
        },
        "precision": "fp32",
        "compile": False,
    },
    "val_tokens": 131072,
    "seed": 0,
}
PRESET_IDS = {
    "bert": "6e11fe630289",
    "gpt2": "3fc7cce014c6",
    "llama": "011f0e5503ed",
    "pythia": "be2a64d465f9",
    "small": "dc4cb1560f58",
    "t5": "4920db2a0de7",
    "transformer": "c2d2ae2f26fe",
}


def changed(value: Any) -> Any:
    """Another value of the same type; a text for None."""
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int | float) else f"{value}x"


def each_change(value: Any) -> list[Any]:
    """Copies of a nested dataclass, each with one leaf changed, and unchecked: the hash needs no possible shape."""
    copies = []
    for field in fields(value):
        inner = getattr(value, field.name)
        for other in each_change(inner) if is_dataclass(inner) else [changed(inner)]:
            copies.append(copy.copy(value))
            object.__setattr__(copies[-1], field.name, other)
    return copies


@pytest.mark.parametrize("family", FAMILIES)
def test_every_setting_changes_the_identity(family: str) -> None:
    model, objective = FAMILIES[family]
    spec = replace(SPEC, model=model, objective=objective)
    others = each_change(spec)
    assert len(others) > 40
    assert len({other.run_id for other in [spec, *others]}) == len(others) + 1


@pytest.mark.parametrize("family", FAMILIES)
def test_identity_survives_json(family: str) -> None:
    model, objective = FAMILIES[family]
    spec = replace(SPEC, model=model, objective=objective)
    assert from_dict(json.loads(json.dumps(to_dict(spec)))) == spec
    assert from_dict(to_dict(spec)).run_id == spec.run_id


def test_identity_is_frozen() -> None:
    """The id of a finished run must not move with a release: recompute this only with an upgrade of old records."""
    assert SPEC.run_id == "0580b9031a84"


@pytest.mark.parametrize("preset", PRESETS)
def test_the_identity_of_a_preset_is_frozen(preset: str) -> None:
    run = to_run(compose(["data=synthetic", "data.source.tokens=10000", f"model={preset}"]))
    assert run.spec.run_id == PRESET_IDS[preset]


def test_a_record_without_later_fields_still_reads_and_keeps_its_identity() -> None:
    spec = from_dict(OLD)
    assert spec.run_id == OLD_ID
    assert to_dict(spec) == OLD
    assert (spec.model.rotary_pct, spec.model.parallel_residual) == (1.0, False)
    assert (spec.special, spec.recipe.parametrization) == (None, None)


def test_a_field_that_came_later_is_left_out_only_at_its_value_from_before() -> None:
    rotary = replace(SPEC, model=replace(SPEC.model, positions="rotary"))
    values = to_dict(rotary)
    for part, said in ((rotary, values), (rotary.recipe, values["recipe"]), (rotary.model, values["model"])):
        assert before(type(part))
        assert not before(type(part)).keys() & said.keys()
    for change in ({"rotary_pct": 0.5}, {"parallel_residual": True}):
        other = replace(rotary, model=replace(rotary.model, **change))
        values = json.loads(json.dumps(to_dict(other)))
        assert values["model"].keys() - to_dict(rotary)["model"].keys() == change.keys()
        assert from_dict(values) == other


def test_unknown_model_kind_lists_the_choices() -> None:
    values = to_dict(SPEC)
    values["model"]["kind"] = "decodr"
    with pytest.raises(ValueError, match="unknown model kind 'decodr': did you mean 'decoder'"):
        from_dict(values)
