"""A search over learning rate and batch, judged: each cell's minima with intervals, and the laws through them.

The document that `judge` returns (tune.json) holds what was given for each cell and beside it

    cells[i].learning_rate, .batch_tokens   {"edge", "why", "value", "low", "high", "curve": {x, loss}, "law", "recipe"}
    identified                              half an interval beyond which an exponent is not taken over
    noise_nats, noise_freedom               of a loss near its minimum, about the parabola
    laws.learning_rate, .batch_tokens       {"value", "params", "tokens", "flops", "at_least", "at_most": the rule,
                                             "intervals", "kept", "cells", "why"}
    tuned                                   {"params", "tokens", "learning_rate", "batch_tokens"}: [lowest, highest]

An arm is one line of points through a cell: the learning rate at the recipe's batch, or the batch with the learning
rate moved by its square root, as Adam wants it (Malladi et al. 2022).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from analysis.studies.parabola import Curve, fit_curve, pooled_noise

Array = NDArray[np.float64]
Json = dict[str, Any]

ARMS = ("learning_rate", "batch_tokens")
FREE: dict[str, tuple[tuple[str, ...], ...]] = {  # exponents tried free, the most first
    "learning_rate": (("params", "tokens"), ("params",), ("tokens",), ()),
    "batch_tokens": (("tokens",), ()),
}
LEVEL = 0.95
# An exponent not known to ± this leaves the recipe's own in force: a decade beyond the cells it would move the rate by
# more than a factor 2, a step of the search.
IDENTIFIED = math.log10(2)
LEAST_ERROR = 0.1  # of a log minimum; assumed: what a parabola's form is worth, so that no cell outweighs all others
DRAWN = 60  # points of a drawn curve
BATCH_ROOT = 0.5  # the learning rate follows the batch to this power


def judge(study: str, cells: Sequence[Mapping[str, Any]], recipe: Mapping[str, Mapping[str, Any]]) -> Json:
    """Fit every arm of every cell and the laws through their minima.

    A cell has params, tokens, flops, base {learning_rate, batch_tokens} (the recipe's at this cell) and points, each
    {arm, learning_rate, batch_tokens, loss, status, run_id}; `recipe` holds the two laws that the search began with.
    """
    curves = {(i, arm): _curve(cell, arm) for i, cell in enumerate(cells) for arm in ARMS}
    noise, freedom = pooled_noise(list(curves.values()))
    judged: list[Json] = [dict(cell) for cell in cells]
    for (i, arm), curve in curves.items():
        judged[i][arm] = _minimum(curve, noise, freedom) | {"recipe": cells[i]["base"][arm]}
    laws = {arm: _law(arm, judged, [curves[i, arm] for i in range(len(cells))], noise, recipe[arm]) for arm in ARMS}
    for cell in judged:
        for arm in ARMS:
            cell[arm]["law"] = rule(laws[arm], cell)
    _follow_batch(laws, recipe)
    points = [point for cell in cells for point in cell["points"]]
    found = [cell for cell in judged if not cell["learning_rate"]["why"]] or judged
    tuned = {name: _ends(cell[name] for cell in found) for name in ("params", "tokens")}
    tuned |= {name: _ends(point[name] for point in points) for name in ARMS}
    return {
        "schema": 1,
        "study": study,
        "level": LEVEL,
        "identified": IDENTIFIED,
        "noise_nats": _or_none(noise),
        "noise_freedom": freedom,
        "runs": len({point["run_id"] for point in points}),
        "diverged": len({point["run_id"] for point in points if point["loss"] is None}),
        "cells": judged,
        "laws": laws,
        "tuned": tuned,
    }


def rule(law: Mapping[str, Any], cell: Mapping[str, Any]) -> float:
    """value * N**params * D**tokens * C**flops, without the recipe's clipping."""
    powers = (float(cell[name]) ** float(law[name]) for name in ("params", "tokens", "flops"))
    return float(law["value"] * math.prod(powers))


def _curve(cell: Mapping[str, Any], arm: str) -> Curve:
    points = [point for point in cell["points"] if point["arm"] == arm]
    return fit_curve([point[arm] for point in points], [point["loss"] for point in points])


def _minimum(curve: Curve, noise: float, freedom: float) -> Json:
    ends = curve.interval(noise, freedom, LEVEL) if curve.bounded and freedom else None
    drawn: Json | None = None
    if np.isfinite(curve.centre) and len(curve.x) and np.isfinite(curve.coefficients).all():
        x = np.linspace(curve.x[0], curve.x[-1], DRAWN)
        c, b, a = curve.coefficients
        u = x - curve.centre
        drawn = {"x": np.exp(x).tolist(), "loss": (c + b * u + a * u**2).tolist()}
    return {
        "edge": curve.edge,
        "why": _why_not(curve),
        "value": math.exp(curve.at) if curve.bounded else None,
        "low": math.exp(ends[0]) if ends else None,
        "high": math.exp(ends[1]) if ends else None,
        "limit": None if curve.limit is None else math.exp(curve.limit),
        "curve": drawn,
    }


def _why_not(curve: Curve) -> str:
    """Why this arm has no minimum to use; empty when it has one."""
    if curve.bounded:
        return ""
    if not len(curve.x):
        return "not tried" if curve.limit is None else "every run diverged"
    if len(curve.x) < 3:
        diverged = "" if curve.limit is None else ", the others diverged"
        return f"only {len(curve.x)} of its settings could be tried{diverged}"
    if curve.edge:
        return f"still falls towards the {curve.edge} end of what was tried"
    return "the losses do not curve upwards about their lowest"


def _law(arm: str, cells: Sequence[Json], curves: Sequence[Curve], noise: float, recipe: Mapping[str, Any]) -> Json:
    """The law through the cells' minima by weighted least squares in logs; exponents that the cells do not fix stay
    the recipe's. Without any minimum it is the recipe's law whole.
    """
    used = [i for i, curve in enumerate(curves) if curve.bounded and (arm != "batch_tokens" or cells[i][arm]["low"])]
    exponents = {name: float(recipe[name]) for name in ("params", "tokens", "flops")}
    law: Json = {"value": float(recipe["value"]), **exponents, "at_least": None, "at_most": None}
    if not used:
        kept = {name: recipe[name] for name in ("at_least", "at_most")}
        return law | kept | {"intervals": {}, "kept": ["value", *FREE[arm][0]], "cells": 0, "why": _nothing(arm)}
    y = np.array([curves[i].at for i in used])
    errors = [curves[i].standard_error(noise) for i in used]
    weights = 1 / (np.nan_to_num(errors, nan=0.0) ** 2 + LEAST_ERROR**2)
    logs = {name: np.log([cells[i][name] for i in used]) for name in exponents}
    for free in FREE[arm]:
        offset = sum(exponents[name] * logs[name] for name in exponents if name not in free)
        fitted = _least_squares(y - offset, [logs[name] for name in free], weights)
        if fitted is not None and all(half <= IDENTIFIED for half in fitted[1][1:]):
            break
    assert fitted is not None
    (level, *slopes), (factor, *halves) = fitted
    centre = sum(slope * np.average(logs[name], weights=weights) for name, slope in zip(free, slopes, strict=True))
    law |= {"value": float(np.exp(level - centre)), **dict(zip(free, map(float, slopes), strict=True))}
    ends = {name: [s - h, s + h] for name, s, h in zip(free, slopes, halves, strict=True)}
    kept_names = [name for name in FREE[arm][0] if name not in free]
    return law | {"intervals": ends, "factor": float(np.exp(factor)), "kept": kept_names, "cells": len(used), "why": ""}


def _nothing(arm: str) -> str:
    return f"no cell fixes a {arm.replace('_tokens', '').replace('_', ' ')} inside what was tried"


def _least_squares(y: Array, columns: Sequence[Array], weights: Array) -> tuple[Array, Array] | None:
    """Level at the weighted centre and slopes, and the half-widths of their intervals; None when the columns are
    not told apart. Errors are scaled up where the points scatter more than their weights say.
    """
    design = np.stack([np.ones(len(y)), *(one - np.average(one, weights=weights) for one in columns)], axis=1)
    root = np.sqrt(weights)[:, None]
    if np.linalg.matrix_rank(design * root, tol=1e-6 * float(root.max())) < design.shape[1]:
        return None
    spread = np.linalg.inv(design.T @ (design * weights[:, None]))
    solution = spread @ design.T @ (weights * y)
    freedom = len(y) - design.shape[1]
    excess = float((weights * (y - design @ solution) ** 2).sum()) / freedom if freedom else 1.0
    halves = student.ppf((1 + LEVEL) / 2, max(freedom, 1)) * np.sqrt(np.diag(spread) * max(excess, 1.0))
    return solution, halves


def _follow_batch(laws: Mapping[str, Json], recipe: Mapping[str, Mapping[str, Any]]) -> None:
    """The rates were searched at the recipe's batch: where the batch's law moves, they move by its square root."""
    new, old, rate = laws["batch_tokens"], recipe["batch_tokens"], laws["learning_rate"]
    if not rate["cells"] or not new["cells"]:
        return
    moved = BATCH_ROOT * (new["tokens"] - old["tokens"])
    rate["value"] *= (new["value"] / old["value"]) ** BATCH_ROOT
    rate["tokens"] += moved
    if "tokens" in rate["intervals"]:
        rate["intervals"]["tokens"] = [end + moved for end in rate["intervals"]["tokens"]]


def _ends(values: Any) -> list[float]:
    found = [float(value) for value in values]
    return [min(found), max(found)]


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
