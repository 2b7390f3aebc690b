"""Recipes read back from a run's directory."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from scaling.records.recipes import family_id, learning_rate_factors, read_spec
from scaling.spec.run_spec import NO_RECIPE, ScheduleSpec, to_dict
from tests.examples import SPEC


def test_a_spec_is_read_back_and_gives_a_rate_for_every_step(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(json.dumps(to_dict(SPEC)))
    assert read_spec(tmp_path) == SPEC
    factors = learning_rate_factors(SPEC)
    assert len(factors) == SPEC.recipe.steps
    assert factors[:3] == [pytest.approx(1 / 3), pytest.approx(2 / 3), 1.0]


def test_a_family_differs_in_seed_length_and_schedule_alone() -> None:
    recipe = replace(SPEC.recipe, steps=99, schedule=ScheduleSpec("cosine", 1, 0, "cosine", 0.1))
    assert family_id(replace(SPEC, seed=7, recipe=recipe)) == family_id(SPEC)
    assert family_id(replace(SPEC, val_tokens=7)) != family_id(SPEC)
    assert family_id(replace(SPEC, recipe=replace(recipe, batch_sequences=5))) != family_id(SPEC)


def test_what_is_no_spec_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"spec\.json does not exist: give a run's folder"):
        read_spec(tmp_path)
    (tmp_path / "spec.json").write_text('{"model"')
    with pytest.raises(ValueError, match=r"spec\.json is damaged"):
        read_spec(tmp_path)
    (tmp_path / "spec.json").write_text('{"model": 3}')
    with pytest.raises(ValueError, match=r"spec\.json is no spec of a run"):
        read_spec(tmp_path)


def test_a_schedule_without_a_formula_is_named() -> None:
    with pytest.raises(ValueError, match=r"unknown recipe\.schedule\.kind 'imported': choose from cosine, wsd"):
        learning_rate_factors(replace(SPEC, recipe=NO_RECIPE))
