"""Curve models of one budget: minima of losses at sizes that lie close, as digitised or rounded tables hold them."""

import numpy as np
import pytest

from scaling.analysis.isoflop.curve_models import akima

SIZES = np.log(np.geomspace(1e8, 1e9, 9))
LOSSES = 2.0 + 0.1 * (SIZES - np.log(3e8)) ** 2


@pytest.mark.parametrize("gap", [0.0, 1e-9, 1e-6, 1e-4, 5e-3])
def test_sizes_that_differ_by_rounding_are_one_size_to_the_spline(gap: float) -> None:
    """Twice each size, with losses that differ by noise: the spline goes through their means."""
    sizes = np.sort(np.concatenate([SIZES, SIZES + gap]))
    noisy = np.repeat(LOSSES, 2) + np.tile([0.01, -0.01], len(SIZES))
    found = akima(sizes, noisy[:, None], np.ones(len(sizes)))
    alone = akima(SIZES, LOSSES[:, None], np.ones(len(SIZES)))
    assert found.log_params[0] == pytest.approx(alone.log_params[0] + gap / 2, abs=0.01)
    assert found.loss[0] == pytest.approx(alone.loss[0], abs=1e-6)


def test_a_minimum_that_the_spline_overshoots_to_is_none() -> None:
    """Two sizes 2% apart before a wide gap, with noise of 0.01 nats: the spline dives by 0.04 nats into the gap."""
    sizes = np.array([0.334, 0.44, 0.744, 0.763, 1.448, 1.516, 1.916, 2.023, 2.074])
    losses = np.array([2.065, 2.038, 2.01, 2.0, 1.99, 2.017, 2.067, 2.094, 2.084])
    assert np.isnan(akima(sizes, losses[:, None], np.ones(len(sizes))).loss[0])
    smooth = 2.0 + 0.1 * (sizes - 1.2) ** 2
    assert akima(sizes, smooth[:, None], np.ones(len(sizes))).loss[0] == pytest.approx(2.0, abs=0.005)
