"""Lack of fit: the F of added columns is the textbook's, and residuals in order are judged at the stated level."""

import numpy as np
import pytest
from scipy.stats import f as fisher

from scaling.analysis.fitting.fit import Loss, fit
from scaling.analysis.fitting.lack_of_fit import LeastSquares, indicators, least_squares, probability_in_order
from scaling.analysis.laws.size_and_data import Chinchilla

TRUTH = Chinchilla(E=0.86, A=20.0, B=60.0, alpha=0.30, beta=0.33)


def test_the_F_against_repeats_is_that_of_a_straight_lines_lack_of_fit() -> None:
    rng = np.random.default_rng(0)
    x, cell = np.repeat(np.arange(6.0), 2), np.repeat(np.arange(6), 2)
    y = x**2 / 10 + 0.1 * rng.standard_normal(12)
    line = np.stack([np.ones(12), x], axis=1)
    off = y - line @ np.linalg.lstsq(line, y, rcond=None)[0]
    pure = ((y - np.repeat(y.reshape(6, 2).mean(axis=1), 2)) ** 2).sum()
    found = LeastSquares(off, line, np.ones(12)).added(indicators(cell))
    assert found is not None
    assert (found.freedom, found.noise_freedom) == (4, 6)
    assert pytest.approx(((off**2).sum() - pure) / 4 / (pure / 6)) == found.F
    assert found.probability == pytest.approx(float(fisher.sf(found.F, 4, 6)))
    shared = LeastSquares(off, line, np.ones(12)).added(indicators(cell), share=0.5)
    assert shared is not None
    assert shared.probability == pytest.approx(float(fisher.sf(found.F, 2, 3)))


def test_a_law_is_tested_at_its_least_squares_whatever_loss_it_was_fitted_by() -> None:
    rng = np.random.default_rng(1)
    N, D = np.exp(rng.uniform(10, 16, 40)), np.exp(rng.uniform(14, 20, 40))
    y = TRUTH(N=N, D=D) * np.exp(0.01 * rng.standard_normal(40))
    by_huber = least_squares(fit(Chinchilla, {"N": N, "D": D}, y), {"N": N, "D": D}, y)
    by_squares = fit(Chinchilla, {"N": N, "D": D}, y, loss=Loss("mse"))
    assert by_huber is not None
    assert (by_huber.residuals**2).sum() == pytest.approx(by_squares.objective, rel=1e-6)
    assert by_huber.tangent.shape == (40, 5)
    assert np.abs(by_huber.tangent.T @ by_huber.residuals).max() < 1e-6


def test_repeats_that_are_all_alike_and_exact_laws_are_no_noise_to_judge_by() -> None:
    x = np.repeat(np.arange(6.0), 2)
    line = np.stack([np.ones(12), x], axis=1)
    bent = np.repeat([1.0, -1.0, -1.0, -1.0, 1.0, 1.0], 2)
    assert LeastSquares(bent, line, np.ones(12)).added(indicators(np.repeat(np.arange(6), 2))) is None
    assert LeastSquares(1e-9 * bent, line, np.ones(12)).is_exact


def test_residuals_in_a_random_order_are_accused_as_often_as_stated() -> None:
    rng = np.random.default_rng(2)
    for draw in (rng.standard_normal, lambda n: rng.standard_t(2, n)):
        found = np.array([probability_in_order(draw(14)) for _ in range(2000)], dtype=float)
        assert np.mean(found < 0.05) == pytest.approx(0.05, abs=0.015)
        assert np.mean(found < 0.01) == pytest.approx(0.01, abs=0.007)
    assert probability_in_order(np.arange(20.0)) < 1e-6  # type: ignore[operator]
    assert probability_in_order(np.arange(9.0)) is None
