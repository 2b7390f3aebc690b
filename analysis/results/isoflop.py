"""The isoFLOP part of a results document: every budget's points, curves and minima, and the laws through them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from analysis.isoflop.curve_models import CURVES, parabola
from analysis.isoflop.minima import LEAST_MINIMA, IsoFlop, as_draws, edge, percentiles, stated, vertex_variance
from analysis.isoflop.power_law import LEAST_BUDGETS_FOR_FLOOR, floored_power_law, power_law
from analysis.judgement.forecast import Form
from analysis.judgement.holdout import MeasuredOptimum
from analysis.runs.budgets import TOLERANCE, BudgetRuns

Array = NDArray[np.float64]

QUANTITIES = ("params", "tokens", "loss", "tokens_per_param")
LEAST_AGREEMENT = 0.01  # of the surface with the runs' own minima: a probability
CURVE_POINTS = 61  # of a curve through one budget's runs


def isoflop_section(study: IsoFlop, lead: Form | None, grid: Array, level: float) -> dict[str, Any]:
    """Every budget's points, curves and minima by every curve model and by the surface, and the laws
    through the minima.
    """
    budgets = [_budget(study, k, lead, level) for k in range(len(study.budgets))]
    names = [*CURVES, *(["surface"] if lead is not None else [])]
    laws = {name: laws_of(name, study, budgets, lead, grid, level) for name in names}
    biases = [b["parabola_bias"] for b in budgets if b["parabola_bias"] is not None and not b["edge"]]
    used, why = _used(study, lead, budgets, biases, laws)
    return {
        "budgets": budgets,
        "runs_in_no_budget": study.outside,
        "tolerance": TOLERANCE,
        "noise": {
            "method": study.noise.method,
            "words": study.noise.words,
            "loss_sd_nats": study.noise.loss_sd_nats,
            "degrees_of_freedom": study.noise.degrees_of_freedom,
            "draws": study.draws,
        },
        "laws": laws,
        "used": used,
        "why": why,
    }


def _used(
    study: IsoFlop,
    lead: Form | None,
    budgets: Sequence[Mapping[str, Any]],
    biases: Sequence[float],
    laws: Mapping[str, Any],
) -> tuple[str, str]:
    """Which estimator's numbers to quote, and why: the parabola unless its known bias outweighs its interval.

    A surface tells that bias only where it agrees with the runs' own minima.
    """
    if lead is None or not biases or laws["surface"]["params"]["exponent"] is None:
        return "parabola", "the parabola is used: no fitted surface tells its bias"
    widths = [
        np.log(one["high"] / one["low"]) / 2
        for budget in budgets
        if (one := budget["estimates"]["parabola"]["params"])["low"] and not budget["edge"]
    ]
    bias, width = float(np.median(np.abs(biases))), float(np.median(widths)) if widths else np.inf
    miss = f"{np.median(biases):+.1%} in params"
    said = f"on these grids a noise-free parabola misses the fitted surface's optimum by {miss}"
    if bias > width and (agreement := surface_agreement(study, lead)) < LEAST_AGREEMENT:
        return "parabola", (
            f"the parabola is used: {said}, but parabolas through that surface have minima that those through the runs "
            f"rule out (p = {agreement:.1g}), so that it does not tell"
        )
    if bias > width:
        return "surface", f"the surface is used: {said}, more than its ±{width:.0%} interval"
    return "parabola", f"the parabola is used: {said}, " + (
        "and no interval is stated" if np.isinf(width) else f"less than its ±{width:.0%} interval"
    )


def _budget(study: IsoFlop, k: int, lead: Form | None, level: float) -> dict[str, Any]:
    budget, minima = study.budgets[k], study.minima[k]
    at = np.linspace(budget.log_params[0], budget.log_params[-1], CURVE_POINTS)
    estimates: dict[str, Any] = {}
    for name, minimum in minima.items():
        values = as_draws(budget, minimum)
        estimates[name] = {quantity: stated(values[quantity], level) for quantity in values}
        estimates[name]["edge"] = edge(budget, minimum)
        estimates[name]["curve"] = {"params": np.exp(at), "loss": minimum.curve(at)}
    bias = None
    if lead is not None:
        values = surface_minimum(budget, lead)
        estimates["surface"] = {quantity: stated(values[quantity], level) for quantity in values}
        estimates["surface"]["edge"] = ""
        curve = lead.point(N=np.exp(at), D=budget.tokens_at(at))
        estimates["surface"]["curve"] = {"params": np.exp(at), "loss": curve}
        bias = parabola_bias(budget, lead)
    return {
        "budget_flops": budget.flops,
        "n": len(budget.rows),
        "observations": budget.rows,
        "params": np.exp(budget.log_params),
        "tokens": np.exp(budget.log_tokens),
        "loss": budget.loss,
        "edge": estimates["parabola"]["edge"],
        "parabola_bias": bias,
        "estimates": estimates,
    }


def laws_of(
    name: str,
    study: IsoFlop,
    budgets: Sequence[Mapping[str, Any]],
    lead: Form | None,
    grid: Array,
    level: float,
) -> dict[str, Any]:
    """Power laws of params, tokens and loss in compute through one estimator's trusted minima, with bands
    over the grid.
    """
    trusted = [
        k
        for k, budget in enumerate(budgets)
        if (one := budget["estimates"].get(name))
        and not one["edge"]
        and one["params"]["value"]
        and (study.draws == 0 or one["params"]["low"] is not None or name == "surface")
    ]
    if len(trusted) < 2:
        why = f"{len(trusted)} of {len(budgets)} budgets have a trusted minimum; a law in compute needs two"
        return {q: {"exponent": None, "why": why, "budgets": trusted} for q in QUANTITIES}
    columns: dict[str, list[Array]] = {name: [] for name in QUANTITIES}
    for k in trusted:
        budget = study.budgets[k]
        if name == "surface":
            assert lead is not None
            values = surface_minimum(budget, lead)
        else:
            values = as_draws(budget, study.minima[k][name])
        for quantity in columns:
            columns[quantity].append(values[quantity])
    compute = np.array([study.budgets[k].flops for k in trusted])
    variance = np.array([vertex_variance(study.budgets[k], study.noise) for k in trusted])
    middle = float(np.median(variance))
    weights = 1 / (variance + middle) if np.isfinite(middle) and middle > 0 else np.ones(len(trusted))
    return {
        quantity: _law(compute, np.array(found), weights, trusted, grid, level, floor=quantity == "loss")
        for quantity, found in columns.items()
    }


def _law(
    compute: Array,
    values: Array,
    weights: Array,
    trusted: list[int],
    grid: Array,
    level: float,
    *,
    floor: bool,
) -> dict[str, Any]:
    """value = floor + coefficient · compute^exponent; `values` (b, 1 + draws).

    The weights of a size or token law hold half the typical variance for each minimum alike, so that none
    rules alone.
    """
    floored = floor and len(compute) >= LEAST_BUDGETS_FOR_FLOOR
    with np.errstate(invalid="ignore"):
        bottom, exponent, coefficient = (
            floored_power_law(compute, values)
            if floored
            else (np.zeros(values.shape[1]), *power_law(compute, values, None if floor else weights))
        )
        lines = bottom + coefficient * grid[:, None] ** exponent
        scatter = 1.0 if floored else _excess_scatter(compute, values, weights, exponent[0], coefficient[0])
    section: dict[str, Any] = {
        "equation": "floor + coefficient * C^exponent" if floored else "coefficient * C^exponent",
        "exponent": exponent[0],
        "coefficient": coefficient[0],
        "floor": bottom[0],
        "interval": None,
        "budgets": trusted,
        "excess_scatter": scatter,
        "band": {"flops": grid, "value": lines[:, 0], "low": None, "high": None},
    }
    if not np.isfinite(exponent[0]):
        return {"exponent": None, "why": "no law that falls to a floor fits these minima", "budgets": trusted}
    if values.shape[1] > 1:
        low, high = percentiles((exponent[0] + (exponent[1:] - exponent[0]) * scatter)[None, :], level)
        section["interval"] = {"low": low[0], "high": high[0], "level": level}
        logs = np.log(np.maximum(lines, 1e-300))
        wide = logs[:, :1] + (logs[:, 1:] - logs[:, :1]) * scatter
        section["band"]["low"], section["band"]["high"] = (np.exp(end) for end in percentiles(wide[:, 1:], level))
    return section


def _excess_scatter(compute: Array, values: Array, weights: Array, exponent: float, coefficient: float) -> float:
    """By how much the minima scatter about their law beyond their own intervals: Birge's ratio (Birge
    1932), at least 1.
    """
    free = len(compute) - 2
    if free < 2 or values.shape[1] < 3:
        return 1.0
    variance = np.nanvar(np.log(values[:, 1:]), axis=1)
    off = np.log(values[:, 0]) - np.log(coefficient) - exponent * np.log(compute)
    share = weights / weights.sum()
    return max(1.0, float(np.sqrt((share * off**2).sum() / ((share * variance).sum() * free / len(compute)))))


def surface_minimum(budget: BudgetRuns, lead: Form) -> dict[str, Array]:
    """The surface's optimum at a budget under the cost of the budget's own runs, (1 + draws,) each."""
    found = {}
    point = lead.point.optimum(budget.flops, budget.cost)
    drawn = lead.draws.optimum(budget.flops, budget.cost) if lead.draws is not None else None
    for name, symbol in (("params", "N"), ("tokens", "D"), ("loss", "loss")):
        parts = [np.atleast_1d(np.asarray(getattr(point, symbol), dtype=float))]
        if drawn is not None:
            parts.append(np.asarray(getattr(drawn, symbol), dtype=float).ravel())
        found[name] = np.concatenate(parts)
    return found | {"tokens_per_param": found["tokens"] / found["params"]}


def parabola_bias(budget: BudgetRuns, lead: Form) -> float | None:
    """Relative error in params of a noise-free parabola on this budget's grid, against the surface along
    the same grid.
    """
    vertex = _vertex_on_surface(budget, lead)
    at = np.linspace(budget.log_params[0], budget.log_params[-1], 4001)
    lowest = int(np.argmin(lead.point(N=np.exp(at), D=budget.tokens_at(at))))
    if not np.isfinite(vertex) or lowest in (0, len(at) - 1):
        return None
    return float(np.exp(vertex - at[lowest]) - 1)


def surface_agreement(study: IsoFlop, lead: Form) -> float:
    """How probable it is that parabolas through runs with the surface's losses lie as far from those through the
    runs: of the squared distances in log params over their variances, chi-squared over budgets; 1 without any.
    """
    measured = {optimum.flops: optimum for optimum in optima_of(study)}
    squares = [
        ((measured[budget.flops].log_params - _vertex_on_surface(budget, lead)) / sd) ** 2
        for budget in study.budgets
        if budget.flops in measured and (sd := measured[budget.flops].sd) > 0
    ]
    told = [square for square in squares if np.isfinite(square)]
    return float(chi2.sf(sum(told), len(told))) if told else 1.0


def _vertex_on_surface(budget: BudgetRuns, lead: Form) -> float:
    """Log params of the minimum of a parabola through the surface's losses at this budget's runs."""
    exact = lead.point(N=np.exp(budget.log_params), D=np.exp(budget.log_tokens))
    return float(parabola(budget.log_params, exact[:, None], budget.weights).log_params[0])


def optima_of(study: IsoFlop) -> list[MeasuredOptimum]:
    """The measured minima a law's allocation can be scored against: inside the grid, with a standard
    deviation.
    """
    found = []
    for budget, minima in zip(study.budgets, study.minima, strict=True):
        minimum = minima["parabola"]
        draws = minimum.log_params[1:]
        if edge(budget, minimum) or len(draws) == 0 or np.isfinite(draws).mean() < LEAST_MINIMA:
            continue
        x = float(minimum.log_params[0])
        low, high = np.nanquantile(draws, [0.16, 0.84])  # a vertex has heavy tails: its standard deviation has none
        found.append(MeasuredOptimum(budget.flops, x, float(high - low) / 2, budget.cost))
    return found
