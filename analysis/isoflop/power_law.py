"""Power laws in compute by least squares, of many draws at once: plain, and over a floor."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEAST_BUDGETS_FOR_FLOOR = 4  # a power law over a floor has three numbers
FLOOR_EXPONENTS = np.geomspace(0.01, 1.5, 40)
GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0


def power_law(compute: Array, values: Array, weights: Array | None = None) -> tuple[Array, Array]:
    """Exponents and coefficients (m,) of value = coefficient · compute^exponent by weighted least squares in
    logs.

    `values` is (b, m), `weights` (b,); entries of `values` that are NaN are left out of their own column.
    """
    x, y = np.log(compute)[:, None], np.log(values)
    known = np.isfinite(y)
    w = known * (np.ones(len(compute)) if weights is None else weights)[:, None]
    y = np.where(known, y, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        total = w.sum(axis=0)
        centre, level = (w * x).sum(axis=0) / total, (w * y).sum(axis=0) / total
        slope = (w * (x - centre) * y).sum(axis=0) / (w * (x - centre) ** 2).sum(axis=0)
        slope = np.where(known.sum(axis=0) >= 2, slope, np.nan)
        return slope, np.exp(level - slope * centre)


def floored_power_law(compute: Array, values: Array) -> tuple[Array, Array, Array]:
    """Floor, exponent and coefficient (m,) of value = floor + coefficient · compute^exponent; values (b, m).

    Least squares: floor (non-negative) and coefficient are solved for at each exponent, whose best on a
    coarse grid is refined by golden section. NaN entries are left out of their own column; NaN where no
    falling curve fits.
    """
    known = np.isfinite(values)
    unit = np.exp(np.log(compute).mean())
    scaled, y, count = np.log(compute / unit)[:, None], np.where(known, values, 0.0), known.sum(axis=0)

    def solve(log_exponent: Array) -> tuple[Array, Array, Array]:
        """Sum of squares, floor and coefficient at exponents -e^log_exponent (m,)."""
        x = known * np.exp(-np.exp(log_exponent) * scaled)
        x_mean, y_mean = x.sum(axis=0) / count, y.sum(axis=0) / count
        off = known * (x - x_mean)
        slope = (off * y).sum(axis=0) / (off**2).sum(axis=0)
        floor = y_mean - slope * x_mean
        slope = np.where(floor < 0, (x * y).sum(axis=0) / (x**2).sum(axis=0), slope)
        floor = np.maximum(floor, 0.0)
        squares = (known * (y - floor - slope * x) ** 2).sum(axis=0)
        return np.where(slope > 0, squares, np.inf), floor, slope

    with np.errstate(invalid="ignore", divide="ignore"):
        grid = np.log(FLOOR_EXPONENTS)
        scan = np.array([solve(np.full(values.shape[1], point))[0] for point in grid])
        best = scan.argmin(axis=0)
        low, high = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, len(grid) - 1)]
        for _ in range(30):
            left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
            lower = solve(left)[0] < solve(right)[0]
            low, high = np.where(lower, low, left), np.where(lower, right, high)
        log_exponent = (low + high) / 2
        _, floor, slope = solve(log_exponent)
    exponent = -np.exp(log_exponent)
    missed = ~np.isfinite(scan.min(axis=0)) | (count < LEAST_BUDGETS_FOR_FLOOR - 1)
    found = (floor, exponent, slope * unit**-exponent)
    floor, exponent, coefficient = (np.where(missed, np.nan, one) for one in found)
    return floor, exponent, coefficient
