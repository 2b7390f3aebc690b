"""Quantiles and tails of distributions: `scipy.stats` offers them too, and takes half a second to import."""

from typing import Any

from scipy import special


def normal_quantile(p: Any) -> Any:
    """The standard normal deviate that lies above a share `p`."""
    return special.ndtri(p)


def t_quantile(p: Any, freedom: Any) -> Any:
    """The deviate of Student's t that lies above a share `p`."""
    return special.stdtrit(freedom, p)


def chi2_quantile(p: Any, freedom: Any) -> Any:
    """The chi-square that lies above a share `p`."""
    return 2 * special.gammaincinv(freedom / 2, p)


def chi2_tail(value: Any, freedom: Any) -> Any:
    """The probability of a larger chi-square."""
    return special.chdtrc(freedom, value)


def f_tail(value: Any, freedom: Any, noise_freedom: Any) -> Any:
    """The probability of a larger Fisher's F."""
    return special.fdtrc(freedom, noise_freedom, value)
