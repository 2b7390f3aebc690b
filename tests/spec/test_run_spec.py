"""A run's identity."""

import json
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest

from scaling.spec.run_spec import MODEL_BEFORE, from_dict, to_dict
from tests.examples import FAMILIES, SPEC


def changed(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, float) and 0 < value < 1:
        return value / 2
    if isinstance(value, int | float):
        return value + 1
    return {
        "pre": "post",
        "rotary": "learned",
        "learned": "rotary",
        "layernorm": "rmsnorm",
        "gelu": "relu",
        "predicted": "all",
    }.get(value, f"{value}x")


def each_change(value: Any) -> list[Any]:
    """Copies of a nested dataclass, each with one leaf changed; dimensions that must divide are left alone."""
    copies = []
    for field in fields(value):
        inner = getattr(value, field.name)
        if is_dataclass(inner):
            copies += [replace(value, **{field.name: copy}) for copy in each_change(inner)]
        elif field.name not in ("kind", "n_heads", "n_kv_heads", "d_model", "dropout", *MODEL_BEFORE):
            copies.append(replace(value, **{field.name: changed(inner)}))
    return copies


@pytest.mark.parametrize("family", FAMILIES)
def test_every_setting_changes_the_identity(family: str) -> None:
    model, objective = FAMILIES[family]
    spec = replace(SPEC, model=model, objective=objective)
    copies = each_change(spec)
    assert len(copies) > 25
    assert len({copy.run_id for copy in [spec, *copies]}) == len(copies) + 1


@pytest.mark.parametrize("family", FAMILIES)
def test_identity_survives_json(family: str) -> None:
    model, objective = FAMILIES[family]
    spec = replace(SPEC, model=model, objective=objective)
    assert from_dict(json.loads(json.dumps(to_dict(spec)))) == spec
    assert from_dict(to_dict(spec)).run_id == spec.run_id


def test_identity_is_frozen() -> None:
    """The id of a finished run must not move with a release: recompute this only with an upgrade of old records."""
    assert SPEC.run_id == "0580b9031a84"


def test_what_models_had_before_there_was_a_choice_is_left_unsaid() -> None:
    rotary = replace(SPEC, model=replace(SPEC.model, positions="rotary"))
    assert not MODEL_BEFORE.keys() & to_dict(rotary)["model"].keys()
    copies = [
        replace(rotary, model=replace(rotary.model, **change))
        for change in ({}, {"rotary_pct": 0.5}, {"parallel_residual": True})
    ]
    assert len({copy.run_id for copy in copies}) == 3
    assert all(from_dict(json.loads(json.dumps(to_dict(copy)))) == copy for copy in copies)


def test_unknown_model_kind_lists_the_choices() -> None:
    values = to_dict(SPEC)
    values["model"]["kind"] = "decodr"
    with pytest.raises(ValueError, match="unknown model kind 'decodr': did you mean 'decoder'"):
        from_dict(values)
