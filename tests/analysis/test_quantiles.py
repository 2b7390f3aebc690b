"""Quantiles and tails against `scipy.stats`, the other witness."""

import numpy as np
import pytest
from scipy import stats

from scaling.analysis.quantiles import chi2_quantile, chi2_tail, f_tail, normal_quantile, t_quantile

SHARES = np.array([1e-6, 0.025, 0.5, 0.9, 0.999])
FREEDOMS = (1, 2.5, 7, 120)


@pytest.mark.parametrize("freedom", FREEDOMS)
def test_quantiles_and_tails_are_those_of_scipy_stats(freedom: float) -> None:
    x = np.array([0.0, 0.3, 4.0, 60.0])
    close = {"rtol": 1e-12, "atol": 1e-300}
    np.testing.assert_allclose(normal_quantile(SHARES), stats.norm.ppf(SHARES), **close)
    np.testing.assert_allclose(t_quantile(SHARES, freedom), stats.t.ppf(SHARES, freedom), **close)
    np.testing.assert_allclose(chi2_quantile(SHARES, freedom), stats.chi2.ppf(SHARES, freedom), **close)
    np.testing.assert_allclose(chi2_tail(x, freedom), stats.chi2.sf(x, freedom), **close)
    for other in FREEDOMS:
        np.testing.assert_allclose(f_tail(x, freedom, other), stats.f.sf(x, freedom, other), **close)
