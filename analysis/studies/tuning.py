"""A search over learning rate and batch, judged: each cell's minima with intervals, and the laws through them.

An arm is one line of points through a cell: the learning rate at the recipe's batch, or the batch with the learning
rate moved by its square root, as Adam wants it (Malladi et al. 2022). `schema.tuning` describes tune.json.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from scaling.analysis.quantiles import t_quantile
from scaling.analysis.schema.numbers import finite, number
from scaling.analysis.schema.tuning import (
    Arm,
    ArmFit,
    JudgedCell,
    RecipeRule,
    Rule,
    Scale,
    ScaleName,
    SearchedCell,
    SettingCurve,
    TunedRanges,
    TunedRule,
    TuneResults,
)
from scaling.analysis.studies.parabola import Curve, fit_curve, pooled_noise

Array = NDArray[np.float64]

ARMS: tuple[Arm, ...] = get_args(Arm)
SCALE: tuple[ScaleName, ...] = get_args(ScaleName)
FREE: Mapping[Arm, tuple[tuple[ScaleName, ...], ...]] = {  # exponents tried free, the most first
    "learning_rate": (("params", "tokens"), ("params",), ("tokens",), ()),
    "batch_tokens": (("tokens",), ()),
}
LEVEL = 0.95
# An exponent not known to ± this leaves the recipe's own in force: a decade beyond the cells it would move the rate by
# more than a factor 2, a step of the search.
IDENTIFIED = math.log10(2)
LEAST_ERROR = 0.1  # of a log minimum; assumed: the worth of a parabola's form, so that no cell outweighs all others
DRAWN = 60  # points of a drawn curve
BATCH_ROOT = 0.5  # the learning rate follows the batch to this power


def judge(study: str, cells: Sequence[SearchedCell], recipe: Mapping[Arm, RecipeRule]) -> TuneResults:
    """Fit every arm of every cell and the laws through their minima; `recipe` holds the laws before the search."""
    curves = {arm: [_curve(cell, arm) for cell in cells] for arm in ARMS}
    noise, freedom = pooled_noise([curve for pair in zip(*curves.values(), strict=True) for curve in pair])
    minima = {arm: [_minimum(curve, noise, freedom) for curve in curves[arm]] for arm in ARMS}
    laws = {arm: _law(arm, cells, minima[arm], curves[arm], noise, recipe[arm]) for arm in ARMS}
    judged = [_judged(cell, {arm: minima[arm][i] for arm in ARMS}, laws) for i, cell in enumerate(cells)]
    _follow_batch(laws, recipe)
    points = [point for cell in cells for point in cell["points"]]
    found = [cell for cell in judged if not cell["learning_rate"]["why"]] or judged
    tuned: TunedRanges = {
        "params": _ends(cell["params"] for cell in found),
        "tokens": _ends(cell["tokens"] for cell in found),
        "learning_rate": _ends(point["learning_rate"] for point in points),
        "batch_tokens": _ends(point["batch_tokens"] for point in points),
    }
    return {
        "schema": 1,
        "study": study,
        "level": LEVEL,
        "identified": IDENTIFIED,
        "noise_nats": number(noise),
        "noise_freedom": freedom,
        "runs": len({point["run_id"] for point in points}),
        "diverged": len({point["run_id"] for point in points if point["loss"] is None}),
        "cells": judged,
        "laws": laws,
        "tuned": tuned,
    }


def _judged(cell: SearchedCell, minima: Mapping[Arm, ArmFit], laws: Mapping[Arm, Rule]) -> JudgedCell:
    scale: Scale = {"params": cell["params"], "tokens": cell["tokens"], "flops": cell["flops"]}
    rate, batch = minima["learning_rate"], minima["batch_tokens"]
    return {
        **cell,
        "learning_rate": {
            **rate,
            "recipe": cell["base"]["learning_rate"],
            "law": rule(laws["learning_rate"], scale),
        },
        "batch_tokens": {
            **batch,
            "recipe": cell["base"]["batch_tokens"],
            "law": rule(laws["batch_tokens"], scale),
        },
    }


def rule(law: Rule, scale: Scale) -> float:
    """The law's value at a scale, value * N**params * D**tokens * C**flops, without the recipe's limits."""
    powers = (float(scale[name]) ** float(law[name]) for name in SCALE)
    return float(law["value"] * math.prod(powers))


def _curve(cell: SearchedCell, arm: Arm) -> Curve:
    points = [point for point in cell["points"] if point["arm"] == arm]
    return fit_curve([point[arm] for point in points], [point["loss"] for point in points])


def _minimum(curve: Curve, noise: float, freedom: float) -> ArmFit:
    ends = curve.interval(noise, freedom, LEVEL) if curve.bounded and freedom else None
    drawn: SettingCurve | None = None
    if np.isfinite(curve.centre) and len(curve.x) and np.isfinite(curve.coefficients).all():
        x = np.linspace(curve.x[0], curve.x[-1], DRAWN)
        c, b, a = curve.coefficients
        u = x - curve.centre
        drawn = {"x": finite(np.exp(x)), "loss": finite(c + b * u + a * u**2)}
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
    """The reason why this arm has no minimum to use; empty where it has one."""
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


def _law(
    arm: Arm,
    cells: Sequence[SearchedCell],
    minima: Sequence[ArmFit],
    curves: Sequence[Curve],
    noise: float,
    recipe: RecipeRule,
) -> TunedRule:
    """The law through the cells' minima by weighted least squares in logs; exponents that the cells do not fix stay
    the recipe's. Without any minimum it is the recipe's law whole.
    """
    used = [i for i, curve in enumerate(curves) if curve.bounded and (arm != "batch_tokens" or minima[i]["low"])]
    rule: Rule = {
        "value": float(recipe["value"]),
        "params": float(recipe["params"]),
        "tokens": float(recipe["tokens"]),
        "flops": float(recipe["flops"]),
    }
    if not used:
        return {
            "value": rule["value"],
            "params": rule["params"],
            "tokens": rule["tokens"],
            "flops": rule["flops"],
            "at_least": recipe["at_least"],
            "at_most": recipe["at_most"],
            "intervals": {},
            "kept": ["value", *FREE[arm][0]],
            "cells": 0,
            "why": _nothing(arm),
        }
    y = np.array([curves[i].at for i in used])
    errors = [curves[i].standard_error(noise) for i in used]
    weights = 1 / (np.nan_to_num(errors, nan=0.0) ** 2 + LEAST_ERROR**2)
    logs = {name: np.log([cells[i][name] for i in used]) for name in SCALE}
    for free in FREE[arm]:
        offset = sum(rule[name] * logs[name] for name in SCALE if name not in free)
        fitted = _least_squares(y - offset, [logs[name] for name in free], weights)
        if fitted is not None and all(half <= IDENTIFIED for half in fitted[1][1:]):
            break
    assert fitted is not None
    (level, *slopes), (factor, *halves) = fitted
    centre = sum(slope * np.average(logs[name], weights=weights) for name, slope in zip(free, slopes, strict=True))
    rule["value"] = float(np.exp(level - centre))
    for name, slope in zip(free, slopes, strict=True):
        rule[name] = float(slope)
    return {
        **rule,
        "at_least": None,
        "at_most": None,
        "intervals": {name: [float(s - h), float(s + h)] for name, s, h in zip(free, slopes, halves, strict=True)},
        "factor": float(np.exp(factor)),
        "kept": [name for name in FREE[arm][0] if name not in free],
        "cells": len(used),
        "why": "",
    }


def _nothing(arm: Arm) -> str:
    return f"no cell fixes a {arm.replace('_tokens', '').replace('_', ' ')} inside what was tried"


def _least_squares(y: Array, columns: Sequence[Array], weights: Array) -> tuple[Array, Array] | None:
    """Level at the weighted centre and slopes, and the half-widths of their intervals; None for dependent columns.

    Errors are scaled up where the points scatter more than their weights imply.
    """
    design = np.stack([np.ones(len(y)), *(one - np.average(one, weights=weights) for one in columns)], axis=1)
    root = np.sqrt(weights)[:, None]
    if np.linalg.matrix_rank(design * root, tol=1e-6 * float(root.max())) < design.shape[1]:
        return None
    spread = np.linalg.inv(design.T @ (design * weights[:, None]))
    solution = spread @ design.T @ (weights * y)
    freedom = len(y) - design.shape[1]
    excess = float((weights * (y - design @ solution) ** 2).sum()) / freedom if freedom else 1.0
    halves = t_quantile((1 + LEVEL) / 2, max(freedom, 1)) * np.sqrt(np.diag(spread) * max(excess, 1.0))
    return solution, halves


def _follow_batch(laws: Mapping[Arm, TunedRule], recipe: Mapping[Arm, RecipeRule]) -> None:
    """Move the rate's law by the square root of the batch's move: rates were searched at the recipe's batch."""
    new, old, rate = laws["batch_tokens"], recipe["batch_tokens"], laws["learning_rate"]
    if not rate["cells"] or not new["cells"]:
        return
    moved = BATCH_ROOT * (new["tokens"] - old["tokens"])
    rate["value"] *= (new["value"] / old["value"]) ** BATCH_ROOT
    rate["tokens"] += moved
    if "tokens" in rate["intervals"]:
        rate["intervals"]["tokens"] = [end + moved for end in rate["intervals"]["tokens"]]


def _ends(values: Iterable[float]) -> list[float]:
    found = [float(value) for value in values]
    return [min(found), max(found)]
