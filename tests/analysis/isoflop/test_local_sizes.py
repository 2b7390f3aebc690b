"""The sizes near a minimum, and the evidence that one parabola through all sizes does not follow the losses."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scaling.analysis.isoflop.local_sizes import lack_of_fit, near
from scaling.analysis.runs.budgets import group_budgets
from tests.analysis.simulated import BUDGETS, TRUTH, observe, table

WIDE = np.geomspace(1 / 30, 30, 13).tolist()


def test_near_are_the_sizes_within_four_percent_and_five_at_least(tmp_path: Path) -> None:
    for shift in (1.0, 3.0):
        budgets, _ = group_budgets(observe(table(spreads=np.geomspace(1 / 30, 30, 31).tolist(), shift=shift), tmp_path))
        for budget in budgets:
            low_enough = budget.loss <= 1.04 * budget.loss.min()
            assert near(budget).log_params.tolist() == budget.log_params[low_enough].tolist()
            five = near(budget, 0.0)
            assert len(five.rows) == 5
            assert five.loss.tolist() == budget.loss[np.sort(np.argsort(budget.loss)[:5])].tolist()


def test_at_the_grids_edge_the_nearest_sizes_lie_to_one_side(tmp_path: Path) -> None:
    ((budget, *_), _) = group_budgets(observe(table(spreads=WIDE, shift=1e3), tmp_path))
    assert near(budget, 0.0).rows.tolist() == budget.rows[:5].tolist()


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_parabola_is_rejected_where_its_misfit_is_larger_than_the_noise(seeds: int, tmp_path: Path) -> None:
    rejected = {}
    for noise in (1e-3, 0.2):
        budgets, _ = group_budgets(observe(table(spreads=WIDE, seeds=seeds, noise_nats=noise), tmp_path))
        rejected[noise] = lack_of_fit(budgets, repeated=seeds > 1).rejected
    assert rejected == {1e-3: True, 0.2: False}


def test_right_parabolas_are_rarely_rejected(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = table(budgets=BUDGETS[:1], spreads=(0.4, 0.6, 0.8, 1, 1.3, 1.7, 2.2))
    ((budget, *_), _) = group_budgets(observe(frame, tmp_path))
    x = budget.log_params - np.log(TRUTH.optimum(BUDGETS[0]).N)
    square = 3 + 0.1 * x**2
    tests = []
    for _ in range(300):
        five = [replace(budget, loss=square + 0.01 * rng.standard_normal(len(x))) for _ in range(5)]
        tests.append(lack_of_fit(five, repeated=False))
    assert np.mean([one.rejected for one in tests]) <= 0.03
    assert np.mean([one.probability < 0.5 for one in tests]) == pytest.approx(0.5, abs=0.15)
