"""Treatments of one measure compared: paired losses at equal cells, and the FLOPs that each needs for the same loss.

A cell is one shape at one budget; a difference is of its mean losses, so whatever else goes with shape and budget drops
out. The compute multiplier is read off the laws of the loss at the optimum, each through its own isoFLOP minima, at the
largest budget that both have: what the worse one spends there, over what the better one's law says it needs for
that loss. The better law is followed downwards, so neither is asked beyond its runs.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student

from analysis.budgets import distinct, nearest
from analysis.comparable import Parts, treatments
from analysis.observations import Observations
from analysis.plots.words import flops_text
from analysis.sections import plain

Array = NDArray[np.float64]
Results = Mapping[str, Any]
Json = dict[str, Any]

SHAPE = ("model.n_layers", "model.d_model", "model.n_heads")
SEARCH_POINTS = 4001  # of compute, where the multiplier's interval is looked for


def compare(parts: Parts, analysed: Mapping[str, Results]) -> Json | None:
    """Treatments of one measure in the schema of `results`; None unless two or more of `parts` were analysed."""
    parts = {name: part for name, part in parts.items() if name in analysed}
    if len(parts) < 2:
        return None
    whole = pd.concat([part.table for part in parts.values()], ignore_index=True)
    level = analysed[next(iter(parts))]["settings"]["level"]
    budgets = distinct([c for part in parts.values() for c in _compute(part.table)])
    document = {
        "settings": treatments(whole),
        "level": level,
        "treatments": {name: _optima(analysed[name]) for name in parts},
        "pairs": [_pair(names, parts, analysed, budgets, level) for names in combinations(parts, 2)],
    }
    found: Json = plain(document)
    return found


def _optima(results: Results) -> Json:
    """The loss at every budget's minimum, and its law, as the isoFLOP analysis gives them."""
    study = results["isoflop"]
    if study is None:
        return {"budgets": [], "law": {"exponent": None, "why": "no budget of enough sizes"}}
    used = study["used"]
    each = [(budget["budget_flops"], budget["estimates"][used]) for budget in study["budgets"]]
    budgets = [{"flops": flops, "edge": one["edge"], **one["loss"]} for flops, one in each]
    return {"budgets": budgets, "law": study["laws"][used]["loss"], "noise": study["noise"]["words"]}


def _pair(
    names: tuple[str, str], parts: Parts, analysed: Mapping[str, Results], budgets: Sequence[float], level: float
) -> Json:
    cells = paired_cells(parts[names[0]], parts[names[1]], budgets)
    found = mean_difference(cells["difference"].to_numpy(), level)
    each = [
        {"flops": budgets[k], **mean_difference(cells.loc[cells["budget"] == k, "difference"].to_numpy(), level)}
        for k in sorted(set(cells["budget"]))
    ]
    ratio = multiplier({name: _optima(analysed[name]) for name in names})
    return {
        "names": list(names),
        "cells": {"flops": [budgets[k] for k in cells["budget"]], **cells[["params", "difference"]].to_dict("list")},
        "difference": found,
        "by_budget": each,
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


def mean_difference(difference: Array, level: float) -> Json:
    """Mean over cells, nats, with its standard error and Student's interval; how many of the cells are lower."""
    n = len(difference)
    found: Json = {"cells": n, "lower": int((difference < 0).sum()), "mean_nats": None, "se_nats": None}
    found |= {"low": None, "high": None}
    if n > 0:
        found["mean_nats"] = mean = float(difference.mean())
    if n > 1:
        found["se_nats"] = se = float(difference.std(ddof=1) / np.sqrt(n))
        half = float(student.ppf((1 + level) / 2, n - 1)) * se
        found |= {"low": mean - half, "high": mean + half}
    return found


def multiplier(optima: Mapping[str, Results]) -> Json:
    """How many times the FLOPs of the better of two treatments the worse one needs, in the schema of `results`.

    The interval holds every compute at which the better law is not told from the worse one's loss: where the log
    losses are no further apart than both laws' half-intervals, added in squares. An end beyond the laws' drawn range
    is open.
    """
    for name, one in optima.items():
        if one["law"]["exponent"] is None:
            return {"why": f"{name}: {one['law']['why']}"}
        if one["law"]["exponent"] >= 0:
            return {"why": f"{name}'s loss at the optimum does not fall with compute"}
    at = min(one["budgets"][one["law"]["budgets"][-1]]["flops"] for one in optima.values())
    losses = {name: _loss(one["law"], at) for name, one in optima.items()}
    better, worse = sorted(losses, key=losses.__getitem__)
    law, loss = optima[better]["law"], losses[worse]
    needed = float(((loss - law["floor"]) / law["coefficient"]) ** (1 / law["exponent"]))
    found: Json = {"why": "", "better": better, "worse": worse, "at_flops": at, "loss": loss, "value": at / needed}
    for name, one in optima.items():
        if why := _no_band(one):
            return found | {"low": None, "high": None, "told": False, "no_interval": f"{name}: {why}"}
    grid = np.log(law["band"]["flops"])
    x = np.linspace(grid[0], grid[-1], SEARCH_POINTS)
    half = np.hypot(_half_interval(law, x), _half_interval(optima[worse]["law"], np.log(at)))
    inside = np.flatnonzero(np.abs(np.log(_loss(law, np.exp(x)) / loss)) <= half)
    low, high = (inside[0], inside[-1]) if len(inside) else (0, len(x) - 1)
    return found | {
        "low": float(at / np.exp(x[high])) if high < len(x) - 1 else None,
        "high": float(at / np.exp(x[low])) if low > 0 else None,
        "told": bool(high < len(x) - 1 and x[high] < np.log(at)),
        "no_interval": "",
    }


def _no_band(one: Results) -> str:
    """Why a law has no interval; empty where it has one."""
    low = one["law"]["band"]["low"]
    if low is None:
        return str(one["noise"])
    return "too few redraws of its losses have a minimum at every budget" if None in low else ""


def _half_interval(law: Results, log_flops: Any) -> Any:
    """Half the width of a law's interval in log loss."""
    band = law["band"]
    return np.interp(log_flops, np.log(band["flops"]), np.log(np.array(band["high"]) / np.array(band["low"])) / 2)


def _loss(law: Results, flops: Any) -> Any:
    return law["floor"] + law["coefficient"] * flops ** law["exponent"]


def _compute(table: pd.DataFrame) -> Array:
    """The budget that each run names, else its own FLOPs."""
    found: Array = table["budget"].fillna(table["flops"]).to_numpy(float)
    return found


def _verdict(names: tuple[str, str], found: Results, ratio: Results, level: float) -> str:
    """One sentence: the paired difference, then the multiplier, each with what it can and cannot tell."""
    return f"{_said_difference(names, found)}; {_said_multiplier(ratio, level)}."


def _said_difference(names: tuple[str, str], found: Results) -> str:
    first, second = names
    if not found["cells"]:
        return f"No shape was trained at one budget under both {first} and {second}, so their losses are not paired"
    mean, se, n, lower = (found[name] for name in ("mean_nats", "se_nats", "cells", "lower"))
    if mean > 0:
        first, second, lower = second, first, n - lower
    if se is None:
        return f"At the one cell that both trained {second}'s loss is {abs(mean):.2g} nats below {first}'s"
    said = f"{second}'s loss is {abs(mean):.2g} ± {se:.1g} nats below {first}'s (mean over cells ± its standard error)"
    told = "" if found["low"] * found["high"] > 0 else ", which is not told from none,"
    return f"At equal shape and budget {said}{told} and lower in {lower} of {n} cells"


def _said_multiplier(ratio: Results, level: float) -> str:
    if ratio["why"]:
        return f"how many times the FLOPs the other needs for the same loss cannot be told ({ratio['why']})"
    low, high = ratio["low"], ratio["high"]
    ends = f"{low:.2f} to {high:.2f}" if low and high else f"{low:.2f} or more" if low else "without an end"
    spent = f"at {flops_text(ratio['at_flops'])} {ratio['worse']} spends {ratio['value']:.2f} times"
    what = f"{spent} what {ratio['better']}"
    if ratio["no_interval"]:
        return f"{what} needs for the same loss, of which nothing tells how far it is off ({ratio['no_interval']})"
    told = "" if ratio["told"] else ": which of them needs fewer FLOPs cannot be told"
    return f"{what} needs for the same loss ({level:.0%} interval {ends}){told}"
