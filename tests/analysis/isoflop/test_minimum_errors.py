"""Standard errors of minima: repeats of a size count each, however they are reckoned."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scaling.analysis.isoflop.minima import measure
from scaling.analysis.isoflop.minimum_errors import standard_errors
from scaling.analysis.schema.isoflop import CurveModel
from tests.analysis.judgement.test_forecasters import TRUTHS
from tests.analysis.judgement.test_verdicts import study
from tests.analysis.simulated import observe


@pytest.mark.parametrize("model", ["parabola", "mean"])
def test_the_errors_are_those_of_every_run_moved_by_itself(model: CurveModel, tmp_path: Path) -> None:
    """Weights that differ by rounding make every run one of its own kind."""
    found = measure(observe(study(TRUTHS[0], seeds=3), tmp_path), draws=0, seed=0)
    budget, followed = found.budgets[0], found.followed[0]
    apart = 1 + 1e-9 * np.arange(len(budget.rows))
    each = replace(budget, weights=budget.weights * apart)
    kept = replace(followed, weights=each.weights[np.isin(budget.rows, followed.rows)])
    together, alone = (
        standard_errors(one, part, found.noise, model) for one, part in ((budget, followed), (each, kept))
    )
    assert len(np.unique(budget.log_params)) < len(budget.rows)
    assert np.isfinite(together).all()
    assert together == pytest.approx(alone, rel=1e-4)
