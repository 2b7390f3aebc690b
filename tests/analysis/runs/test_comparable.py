"""Losses of different quantities, and runs of different treatments, never share a fit."""

from dataclasses import fields

import numpy as np
import pandas as pd
import pytest

from scaling.analysis.results.document import analyse
from scaling.analysis.runs.comparable import (
    TREATMENTS,
    comparable_parts,
    parts_of,
    refuse_mixture,
    treated_parts,
    why_apart,
)
from scaling.analysis.runs.observations import Observations
from scaling.shapes.families import SHAPES
from scaling.spec.run_spec import OptimizerSpec, ParametrizationSpec, RecipeSpec, ScheduleSpec


def observations(**columns: list[object]) -> Observations:
    n = 6
    table = pd.DataFrame(
        {
            "row": range(1, n + 1),
            "run_id": [f"r{i}" for i in range(n)],
            "params": np.geomspace(1e3, 1e5, n),
            "tokens": 1e6,
            "flops": 6e9,
            "loss": np.linspace(3, 2, n),
            **columns,
        }
    )
    curves = pd.DataFrame({"run_id": table["run_id"].repeat(2), "step": [1, 2] * n})
    return Observations(table, (), (), {}, ("t",), curves)


def test_runs_of_one_kind_stay_together() -> None:
    same = observations(**{"model.kind": ["decoder"] * 6, "objective.kind": ["causal"] * 6})
    assert comparable_parts(same) == {"": same}
    refuse_mixture(same)


def test_runs_of_different_objectives_are_told_apart_curves_and_all() -> None:
    mixed = observations(
        **{
            "model.kind": ["decoder", "encoder"] * 3,
            "objective.kind": ["causal", "masked"] * 3,
            "objective.rate": ["", "0.15"] * 3,
        }
    )
    parts = comparable_parts(mixed)
    assert list(parts) == ["decoder-causal", "encoder-masked"]
    for part in parts.values():
        assert len(part.table) == 3
        assert part.curves is not None
        assert set(part.curves["run_id"]) == set(part.table["run_id"])
    with pytest.raises(ValueError, match=r"cannot share a fit: decoder-causal \(3 runs\), encoder-masked \(3 runs\)"):
        analyse(mixed)


def test_runs_on_different_text_are_told_apart() -> None:
    mixed = observations(**{"data.fingerprint": ["a" * 64, "b" * 64] * 3})
    assert list(comparable_parts(mixed)) == ["a" * 24, "b" * 24]


def test_covariates_that_leave_the_measurement_alone_do_not_split() -> None:
    same = observations(**{"data.noise": ["0", "0.1"] * 3, "recipe.optimizer.learning_rate": ["1", "2"] * 3})
    assert len(comparable_parts(same)) == 1


def test_optimizers_are_told_apart_in_the_order_of_their_names_curves_and_all() -> None:
    mixed = observations(**{"recipe.optimizer.kind": ["muon", "adamw"] * 3})
    parts = treated_parts(mixed)
    assert list(parts) == ["adamw", "muon"]
    for name, part in parts.items():
        assert set(part.table["recipe.optimizer.kind"]) == {name}
        assert part.curves is not None
        assert set(part.curves["run_id"]) == set(part.table["run_id"])
    assert [list(group) for group in parts_of(mixed)] == [["adamw", "muon"]]
    said = "fitted apart, each by its own law: adamw (3 runs), muon (3 runs), which differ in recipe.optimizer.kind"
    assert why_apart(parts_of(mixed)) == [said]
    with pytest.raises(
        ValueError, match=r"differ in recipe.optimizer.kind .* --where \"`recipe.optimizer.kind` == 'muon"
    ):
        analyse(mixed)


def test_what_follows_from_scale_the_shape_grid_and_seeds_do_not_split() -> None:
    numbers = [0.001, 0.002, 0.003, 0.004, 0.005, 0.006]
    names = ("optimizer.learning_rate", "optimizer.beta2", "optimizer.weight_decay", "batch_sequences", "steps")
    same = observations(
        **{f"recipe.{name}": list(numbers) for name in (*names, "schedule.warmup_steps", "optimizer.clip_norm")},
        **{f"model.{name}": [1, 2, 3, 4, 5, 6] for name in ("n_layers", "d_model", "n_heads", "n_kv_heads", "d_ff")},
        **{"seed": [0, 1] * 3, "recipe.compile": [True, False] * 3, "model.name": list("abcdef")},
    )
    assert parts_of(same) == [{"": same}]
    assert why_apart(parts_of(same)) == []


def test_a_setting_that_comes_with_another_is_not_in_the_name_and_crossed_ones_are() -> None:
    shapes = {"recipe.schedule.kind": ["wsd", "cosine"] * 3, "recipe.schedule.cooldown_shape": ["linear", "cosine"] * 3}
    assert list(treated_parts(observations(**shapes))) == ["cosine", "wsd"]
    crossed = {"recipe.optimizer.kind": ["muon", "adamw"] * 3, "recipe.precision": ["bf16"] * 3 + ["fp32"] * 3}
    assert list(treated_parts(observations(**crossed))) == ["adamw-bf16", "adamw-fp32", "muon-bf16", "muon-fp32"]


def test_a_setting_of_the_model_splits_where_one_size_has_both_values_and_not_where_it_goes_with_size() -> None:
    size = {"model.n_layers": [2] * 6, "model.d_model": [8, 8, 16, 16, 32, 32]}
    crossed = observations(**size, **{"model.activation": ["gelu", "swiglu"] * 3})
    assert list(treated_parts(crossed)) == ["gelu", "swiglu"]
    ladder = observations(**size, **{"model.tied_embeddings": [True] * 4 + [False] * 2})
    assert list(treated_parts(ladder)) == [""]
    both = observations(**size, **{"model.tied_embeddings": [True, False] * 3})
    assert list(treated_parts(both)) == ["tied_embeddings=false", "tied_embeddings=true"]


def test_no_parametrization_is_the_standard_one() -> None:
    mixed = observations(**{"recipe.parametrization.kind": [None, "mup"] * 3})
    assert {name: len(part.table) for name, part in treated_parts(mixed).items()} == {"mup": 3, "standard": 3}


def test_what_comes_with_an_objective_is_no_treatment() -> None:
    kinds = {"model.kind": ["decoder"] * 2 + ["encoder"] * 4, "model.positions": ["learned"] * 2 + ["rotary"] * 4}
    mixed = observations(**kinds, **{"recipe.optimizer.kind": ["muon"] * 3 + ["adamw"] * 3})
    groups = parts_of(mixed)
    assert [list(group) for group in groups] == [["decoder"], ["encoder-adamw", "encoder-muon"]]
    apart, never = why_apart(groups)
    assert "encoder-adamw (3 runs), encoder-muon (1 runs)" in apart
    assert never.endswith(": decoder; encoder-adamw, encoder-muon")


def test_treatments_are_all_words_and_truth_values_of_a_recipe_and_a_model() -> None:
    prefixes = {
        "recipe.": RecipeSpec,
        "recipe.optimizer.": OptimizerSpec,
        "recipe.schedule.": ScheduleSpec,
        "recipe.parametrization.": ParametrizationSpec,
    }
    specs = [*prefixes.items(), *(("model.", shape) for shape in SHAPES.values())]
    found = {prefix + one.name for prefix, spec in specs for one in fields(spec) if one.type in (str, bool)}
    assert set(TREATMENTS) == found - {"model.kind", "recipe.compile"}
