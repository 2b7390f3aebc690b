"""Where the search begins: a coarse grid over the nonlinear parameters, the linear ones solved for exactly.

Variable projection (Golub and Pereyra 1973): for fixed nonlinear parameters the law is linear in the
others, whose non-negative least-squares values follow from small normal equations. Legend: G grid points, K
linear parameters.
"""

from itertools import combinations, product
from math import prod

import numpy as np
from numpy.typing import NDArray

from scaling.analysis.fitting.misfit import Problem
from scaling.analysis.laws import jet
from scaling.analysis.laws.jet import Array

MOST_POINTS = 4_096  # of a grid; a law of many searched parameters is begun at so many points spread evenly over it


def grid_points(problem: Problem) -> Array:
    """Return the whole grid, shape (G, p), with linear parameters solved for."""
    return _project(problem, _grid(problem))


def grid_starts(problem: Problem, count: int) -> Array:
    """Return the `count` most promising starts, shape (count, p), best first by the objective itself."""
    q = grid_points(problem)
    width = float(problem.loss.widths(problem.unit)[-1])
    order = np.argsort(problem.values(q, width), kind="stable")
    best = order[: count // 2]
    rest = order[count // 2 : max(len(order) // 2, count)]
    spread = rest[np.linspace(0, len(rest) - 1, min(count - count // 2, len(rest))).astype(int)]
    chosen: Array = q[np.concatenate([best, spread])]
    return chosen


def _grid(problem: Problem) -> Array:
    declared = problem.law.declared()
    axes = [(1.0,) if d.linear or name in problem.fixed else d.grid for name, d in declared.items()]
    if prod(map(len, axes)) <= MOST_POINTS:
        return np.array(list(product(*axes)), dtype=float)
    from scipy.stats import qmc  # slow to import, and of few laws

    spread = qmc.Halton(len(axes), scramble=False).random(MOST_POINTS)
    columns = [np.array(axis)[(spread[:, k] * len(axis)).astype(int)] for k, axis in enumerate(axes)]
    return np.stack(columns, axis=1)


def _project(problem: Problem, q: Array) -> Array:
    declared = problem.law.declared()
    linear = [k for k, (name, d) in enumerate(declared.items()) if d.linear and name not in problem.fixed]
    if not linear:
        return q
    numbers = {name: jet.variable(k, q[:, [k]]) if k in linear else q[:, [k]] for k, name in enumerate(declared)}
    with np.errstate(all="ignore"):
        predicted = problem.predict(numbers, np.zeros(len(q), dtype=np.intp))
    n = len(problem.y)
    basis = np.stack([np.broadcast_to(predicted.first.get(k, 0.0), (len(q), n)) for k in linear], axis=1)
    offset = np.broadcast_to(predicted.value, (len(q), n)) - np.einsum("gkn,gk->gn", basis, q[:, linear])
    weight = np.sqrt(problem.row_weights)
    if problem.loss.on == "log":
        weight = weight / problem.y
    lower = problem.bounds[0][linear]
    basis, target = (
        np.nan_to_num(basis * weight, posinf=0.0, neginf=0.0),
        np.nan_to_num((problem.y - offset) * weight, posinf=0.0, neginf=0.0),
    )
    solved = _bounded_least_squares(basis, target, np.isfinite(lower))
    result = q.copy()
    result[:, linear] = solved
    return result


def _bounded_least_squares(basis: Array, target: Array, non_negative: NDArray[np.bool_]) -> Array:
    """Return least-squares coefficients (G, K), those marked kept non-negative: every subset is tried."""
    count, k, _ = basis.shape
    size = np.sqrt(np.einsum("gkn,gkn->gk", basis, basis))
    unit = basis / np.where(size > 0, size, 1.0)[:, :, None]
    normal = unit @ unit.transpose(0, 2, 1)
    right = np.einsum("gkn,gn->gk", unit, target)
    best = np.zeros((count, k))
    best_gain = np.zeros(count)
    required = [j for j in range(k) if not non_negative[j]]
    for width in range(k, 0, -1):
        for chosen in combinations(range(k), width):
            if not set(required) <= set(chosen):
                continue
            c = list(chosen)
            matrix = normal[:, c][:, :, c] + 1e-10 * np.eye(width)
            part = np.linalg.solve(matrix, right[:, c, None])[:, :, 0]
            gain = np.einsum("gk,gk->g", part, right[:, c])
            feasible = ((part >= 0) | ~non_negative[c]).all(axis=1) & (gain > best_gain)
            best_gain = np.where(feasible, gain, best_gain)
            full = np.zeros((count, k))
            full[:, c] = part
            best = np.where(feasible[:, None], full, best)
    return best / np.where(size > 0, size, 1.0)
