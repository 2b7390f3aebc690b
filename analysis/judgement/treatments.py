"""Treatments of one measure compared: paired losses at equal cells, and the FLOPs that each needs for the same loss.

A cell is one shape at one budget; a difference is of its mean losses, so that all else that goes with shape and budget
drops out. The compute multiplier follows from the laws of the loss at the optimum, each through its own isoFLOP minima,
where both reach one loss at computes equally far from the middle of their common budgets: the laws are surest there,
and a power law without a floor misses as much of one curve as of the other.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Final, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scaling.analysis.quantiles import t_quantile
from scaling.analysis.runs.budgets import distinct, nearest
from scaling.analysis.runs.comparable import Parts, treatments
from scaling.analysis.runs.observations import Observations
from scaling.analysis.schema.document import Results
from scaling.analysis.schema.isoflop import PowerLawEntry
from scaling.analysis.schema.numbers import finite
from scaling.analysis.schema.treatments import (
    ComparisonSection,
    MeanDifference,
    Multiplier,
    NoMultiplier,
    OptimumLoss,
    TreatmentEntry,
    TreatmentPair,
)
from scaling.analysis.words import bounded, flops_text

Array = NDArray[np.float64]
Number = TypeVar("Number", float, Array)
Optima = Mapping[str, TreatmentEntry]  # by the treatment's name
Laws = Mapping[str, PowerLawEntry]

SHAPE = ("model.n_layers", "model.d_model", "model.n_heads")
# One curve model for every treatment, whichever a part's own analysis quotes: a difference between two treatments must
# not be one between models, and the parabola's known bias moves a minimum sideways, its loss only to second order.
CURVE: Final = "parabola"
SEARCH_POINTS = 4001  # of compute, where the multiplier's interval is looked for


def compare(parts: Parts, analysed: Mapping[str, Results]) -> ComparisonSection | None:
    """Treatments of one measure compared in pairs; None unless two or more of `parts` were analysed."""
    parts = {name: part for name, part in parts.items() if name in analysed}
    if len(parts) < 2:
        return None
    whole = pd.concat([part.table for part in parts.values()], ignore_index=True)
    level = analysed[next(iter(parts))]["settings"]["level"]
    budgets = distinct([c for part in parts.values() for c in _compute(part.table)])
    return {
        "settings": treatments(whole),
        "level": level,
        "treatments": {name: _optima(analysed[name]) for name in parts},
        "pairs": [_pair(names, parts, analysed, budgets, level) for names in combinations(parts, 2)],
    }


def _optima(results: Results) -> TreatmentEntry:
    """The loss at every budget's minimum, and its law, by one curve model for all treatments."""
    study = results["isoflop"]
    if study is None:
        return {"budgets": [], "law": {"exponent": None, "why": "no budget of enough sizes"}}
    each = [(budget["budget_flops"], budget["estimates"][CURVE]) for budget in study["budgets"]]
    budgets: list[OptimumLoss] = [{"flops": flops, "edge": one["edge"], **one["loss"]} for flops, one in each]
    return {"budgets": budgets, "law": study["laws"][CURVE]["loss"], "noise": study["noise"]["words"]}


def _pair(
    names: tuple[str, str], parts: Parts, analysed: Mapping[str, Results], budgets: Sequence[float], level: float
) -> TreatmentPair:
    cells = paired_cells(parts[names[0]], parts[names[1]], budgets)
    found = mean_difference(cells["difference"].to_numpy(), level)
    ratio = multiplier({name: _optima(analysed[name]) for name in names})
    return {
        "names": list(names),
        "cells": {
            "flops": [budgets[k] for k in cells["budget"]],
            "params": finite(cells["params"]),
            "difference": finite(cells["difference"]),
        },
        "difference": found,
        "by_budget": [
            {"flops": budgets[k], **mean_difference(cells.loc[cells["budget"] == k, "difference"].to_numpy(), level)}
            for k in sorted(set(cells["budget"]))
        ],
        "multiplier": ratio,
        "verdict": _verdict(names, found, ratio, level),
    }


def paired_cells(first: Observations, second: Observations, budgets: Sequence[float]) -> pd.DataFrame:
    """A row for every shape and budget trained under both: budget (its number), params, difference second - first.

    Shapes are equal where their layers, width and heads are, or, in a table without these, their parameters.
    Difference in nats between mean losses, over seeds and whatever else was repeated.
    """
    shape = [*SHAPE] if all(set(SHAPE) <= set(one.table.columns) for one in (first, second)) else ["params"]
    means = []
    for one in (first, second):
        table = one.table.assign(budget=[nearest(c, budgets) for c in _compute(one.table)], size=one.table["params"])
        means.append(table.groupby(["budget", *shape])[["loss", "size"]].mean())
    both = pd.concat(means, axis=1, join="inner", keys=["first", "second"])
    difference, params = both["second"]["loss"] - both["first"]["loss"], both["first"]["size"]
    return pd.DataFrame({"budget": both.index.get_level_values("budget"), "params": params, "difference": difference})


def mean_difference(difference: Array, level: float) -> MeanDifference:
    """Mean over cells (c,), nats, with its standard error and Student's interval, and the cells that are lower."""
    n = len(difference)
    found: MeanDifference = {
        "cells": n,
        "lower": int((difference < 0).sum()),
        "mean_nats": None,
        "se_nats": None,
        "low": None,
        "high": None,
    }
    if n > 0:
        found["mean_nats"] = mean = float(difference.mean())
    if n > 1:
        found["se_nats"] = se = float(difference.std(ddof=1) / np.sqrt(n))
        half = float(t_quantile((1 + level) / 2, n - 1)) * se
        found["low"], found["high"] = mean - half, mean + half
    return found


def multiplier(optima: Optima) -> Multiplier | NoMultiplier:
    """The times that the worse of two treatments needs the better one's FLOPs for one loss, or why there is no number.

    The interval holds every ratio of computes, about the same middle, at which the laws' log losses are no further
    apart than both half-intervals, added in squares. An end beyond the common budgets is open.
    """
    laws: dict[str, PowerLawEntry] = {}
    for name, each in optima.items():
        if each["law"]["exponent"] is None:
            return {"why": f"{name}: {each['law']['why']}"}
        laws[name] = each["law"]
    if why := _incomparable(optima, laws):
        return {"why": why}
    (first, one), (second, other) = laws.items()
    low, high = _common(optima, laws)
    middle = float(np.sqrt(low * high))
    away = np.linspace(-1, 1, SEARCH_POINTS) * np.log(high / low) / 2
    left, right = middle * np.exp(away), middle * np.exp(-away)
    gap = np.log(_loss(one, left) / _loss(other, right))
    if (np.diff(gap) >= 0).any() or not gap[-1] < 0 < gap[0]:
        return {"why": f"no loss is reached by both within {flops_text(low)} to {flops_text(high)}"}
    root = float(np.interp(0, -gap, away))
    loss = _loss(one, middle * float(np.exp(root)))
    why = next((f"{name}: {why}" for name, law in laws.items() if (why := _no_band(law, optima[name]))), "")
    ends: list[float | None] = [None, None]
    if not why:
        half = np.hypot(_half_interval(one, left), _half_interval(other, right))
        inside = np.flatnonzero(np.abs(gap) <= np.maximum(half, np.abs(gap).min()))
        ends = [None if k in (0, len(away) - 1) else float(away[k]) for k in (inside[0], inside[-1])]
    names = [first, second]
    if root < 0:
        root, ends, names = -root, [None if end is None else -end for end in reversed(ends)], names[::-1]
    least, most = (None if end is None else float(np.exp(2 * end)) for end in ends)
    return {
        "why": "",
        "at_flops": middle,
        "loss": loss,
        "worse": names[0],
        "better": names[1],
        "value": float(np.exp(2 * root)),
        "low": least,
        "high": most,
        "told": least is not None and least > 1,
        "no_interval": why,
    }


def _incomparable(optima: Optima, laws: Laws) -> str:
    """The reason why two laws of the loss determine no multiplier; empty where they do."""
    low, high = _common(optima, laws)
    if not low < high:
        return "they have fewer than two budgets with trusted minima in common"
    bare = [name for name, law in laws.items() if "floor" not in law["equation"]]
    first, second = (_budgets(optima[name], law) for name, law in laws.items())
    if bare and not len(distinct(first + second)) == len(first) == len(second):
        missed = f"what a power law without a floor misses, as {bare[0]}'s does, is not missed of both alike"
        return f"their laws go through trusted minima of different budgets, so that {missed}"
    return ""


def _budgets(one: TreatmentEntry, law: PowerLawEntry) -> list[float]:
    """The computes of the minima that a treatment's law goes through, ascending."""
    return [one["budgets"][k]["flops"] for k in law["budgets"]]


def _common(optima: Optima, laws: Laws) -> tuple[float, float]:
    """The least and the largest compute between which every law has minima."""
    spans = [_budgets(optima[name], law) for name, law in laws.items()]
    return max(span[0] for span in spans), min(span[-1] for span in spans)


def _no_band(law: PowerLawEntry, one: TreatmentEntry) -> str:
    """The reason why a treatment's law has no interval; empty where it has one."""
    low = law["band"]["low"]
    if low is None:
        return one["noise"]
    return "too few redraws of its losses have a minimum at every budget" if None in low else ""


def _half_interval(law: PowerLawEntry, flops: Array) -> Array:
    """Half the width of a law's interval in log loss."""
    band = law["band"]
    low, high = (np.array(band[end], dtype=float) for end in ("low", "high"))
    found: Array = np.interp(np.log(flops), np.log(band["flops"]), np.log(high / low) / 2)
    return found


def _loss(law: PowerLawEntry, flops: Number) -> Number:
    found: Number = law["floor"] + law["coefficient"] * flops ** law["exponent"]
    return found


def _compute(table: pd.DataFrame) -> Array:
    """The budget that each run names, else its own FLOPs."""
    found: Array = table["budget"].fillna(table["flops"]).to_numpy(float)
    return found


def _verdict(names: tuple[str, str], found: MeanDifference, ratio: Multiplier | NoMultiplier, level: float) -> str:
    """One sentence: the paired difference, then the multiplier, each with the limits of its evidence."""
    return f"{_said_difference(names, found)}; {_said_multiplier(ratio, level)}."


def _said_difference(names: tuple[str, str], found: MeanDifference) -> str:
    first, second = names
    mean, se, n, lower = found["mean_nats"], found["se_nats"], found["cells"], found["lower"]
    if mean is None:
        return f"No shape was trained at one budget under both {first} and {second}, so their losses are not paired"
    if mean > 0:
        first, second, lower = second, first, n - lower
    if se is None or found["low"] is None or found["high"] is None:
        return f"At the one cell that both trained {second}'s loss is {abs(mean):.2g} nats below {first}'s"
    statement = (
        f"{second}'s loss is {abs(mean):.2g} ± {se:.1g} nats below {first}'s (mean over cells ± its standard error)"
    )
    told = "" if found["low"] * found["high"] > 0 else ", an interval that holds 0,"
    return f"At equal shape and budget {statement}{told} and lower in {lower} of {n} cells"


def _said_multiplier(ratio: Multiplier | NoMultiplier, level: float) -> str:
    if "value" not in ratio:
        return f"the ratio of their FLOPs at the same loss is not determined ({ratio['why']})"
    low, high = ratio["low"], ratio["high"]
    ends = " to ".join("an end beyond the budgets" if end is None else bounded(end) for end in (low, high))
    spent = f"around {flops_text(ratio['at_flops'])} {ratio['worse']} spends {bounded(ratio['value'])} times"
    what = f"{spent} what {ratio['better']}"
    if ratio["no_interval"]:
        return f"{what} needs for the same loss, without an interval ({ratio['no_interval']})"
    told = "" if ratio["told"] else ": the runs do not determine which needs fewer FLOPs"
    return f"{what} needs for the same loss ({level:.0%} interval {ends}){told}"
