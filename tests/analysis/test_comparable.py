"""Losses of different quantities never share a fit."""

import numpy as np
import pandas as pd
import pytest

from analysis.comparable import comparable_parts, refuse_mixture
from analysis.observations import Observations
from analysis.results import analyse


def observations(**columns: list[str]) -> Observations:
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
