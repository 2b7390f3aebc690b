"""The exact end of a fit by absolute loss: linear programmes in a trust region.

An absolute loss has its minimum at a kink, where as many residuals vanish as there are parameters.
Smoothing finds the neighbourhood; linearising the law and solving the linear programme (Charnes, Cooper and
Ferguson 1955) finds the kink, and proves it: at the optimum the programme promises no further decrease.
Legend: n observations, p coordinates.
"""

import numpy as np

from scaling.analysis.fitting.misfit import Problem
from scaling.analysis.laws.jet import Array

MAX_PROGRAMMES = 60
FIRST_RADIUS = 1e-4  # smoothing has come this near to the kink, or nearly


def sharpen(problem: Problem, q: Array) -> tuple[Array, float, float]:
    """Return the optimum (p,) near q, its scaled objective, and what a unit step still promises of it."""
    low, high = problem.bounds
    radius, value = FIRST_RADIUS, _value(problem, q)
    promise = np.inf
    for _ in range(MAX_PROGRAMMES):
        step, promised = _programme(problem, q, np.maximum(low - q, -radius), np.minimum(high - q, radius))
        promise = max(value - promised, 0.0) / (max(value, 1e-300) * radius)
        if value - promised <= 1e-13 * value or radius < 1e-11:
            break
        trial = np.clip(q + step, low, high)
        reached = _value(problem, trial)
        share = (value - reached) / (value - promised)
        if share > 0:
            q, value = trial, reached
        far = np.abs(step).max() > 0.99 * radius
        radius = (
            (min(4.0 * radius, 1.0) if far else radius) if share > 0.75 else radius if share > 0.25 else 0.25 * radius
        )
    return q, value, float(promise)


def _value(problem: Problem, q: Array) -> float:
    penalty = problem.loss(problem.residual(q))
    total = float(np.sum(problem.row_weights * penalty))
    return total if np.isfinite(total) else np.inf


def _programme(problem: Problem, q: Array, low: Array, high: Array) -> tuple[Array, float]:
    """Return the step in the box that minimises the loss of the linearised residuals, and that loss.

    A residual that no step in the box can bring to zero keeps its sign, so that its loss is linear in the step:
    only the others need variables of their own, a few of thousands.
    """
    from scipy import sparse  # slow to import, and of few losses
    from scipy.optimize import linprog

    residual, tangent, weight = problem.residual(q), problem.tangent(q), problem.row_weights
    n = len(residual)
    above, below = weight * problem.loss(np.ones(n)), weight * problem.loss(-np.ones(n))
    reach = np.maximum(-low, high) @ np.abs(tangent)
    near = np.abs(residual) <= reach
    settled = np.where(near, 0.0, np.where(residual > 0, -above, below))  # slope by the linearised prediction
    m, one = int(near.sum()), sparse.identity(int(near.sum()), format="csr")
    found = linprog(
        np.concatenate([tangent @ settled, above[near], below[near]]),
        A_eq=sparse.hstack([sparse.csr_matrix(tangent[:, near].T), one, -one]) if m else None,
        b_eq=residual[near] if m else None,
        bounds=np.concatenate([np.stack([low, high], axis=1), np.tile([0.0, np.inf], (2 * m, 1))]),
        method="highs",
    )
    if found.x is None:
        return np.zeros(len(q)), np.inf
    step = np.asarray(found.x[: len(q)])
    return step, float(np.sum(weight * problem.loss(residual - step @ tangent)))
