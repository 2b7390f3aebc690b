"""The isoFLOP study in a results document: every budget's points, curves and minima, and the laws through them."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from scaling.analysis.isoflop.minima import (
    LEAST_MINIMA,
    IsoFlop,
    as_draws,
    edge,
    measure,
    percentiles,
    stated,
    vertex_variance,
)
from scaling.analysis.isoflop.power_law import LEAST_BUDGETS_FOR_FLOOR, floored_power_law, power_law
from scaling.analysis.judgement.holdout import LEVEL, MeasuredOptimum
from scaling.analysis.judgement.spread import Form
from scaling.analysis.results.quoted_minima import disagreement, parabola_bias, quoted, surface_minimum
from scaling.analysis.results.request import Request
from scaling.analysis.runs.budgets import TOLERANCE
from scaling.analysis.runs.observations import Observations
from scaling.analysis.schema.intervals import QUANTITIES, Quantity
from scaling.analysis.schema.isoflop import (
    BudgetEntry,
    ComputeLaw,
    CurveModel,
    EstimateEntry,
    IsoflopSection,
    PowerLawEntry,
)
from scaling.analysis.schema.numbers import finite, integers, number, numbers

Array = NDArray[np.float64]

CURVE_POINTS = 61  # of a curve through one budget's runs


def measure_minima(observations: Observations, request: Request) -> tuple[IsoFlop | None, list[str]]:
    """The isoFLOP study, or None and a note with the reason."""
    try:
        return measure(observations, draws=request.bootstrap, seed=request.seed), []
    except ValueError as error:
        return None, [f"isoFLOP: {error}"]


def isoflop_section(
    study: IsoFlop, lead: Form | None, grid: Array, minimum: CurveModel | None = None
) -> IsoflopSection:
    """Every budget's points, curves and minima by every curve model and by the surface, and laws through the minima."""
    budgets = [_budget(study, k, lead) for k in range(len(study.budgets))]
    names: list[CurveModel] = ["parabola", "cubic", "akima", "mean"]
    if lead is not None:
        names.append("surface")
    laws = {name: laws_of(name, study, budgets, lead, grid) for name in names}
    used, why = quoted(study, lead, laws, minimum)
    for budget in budgets:
        of = budget["estimates"].get(used) if used != "surface" else budget["estimates"]["parabola"]
        budget["edge"] = of["edge"] if of else f"at {budget['budget_flops']:.3g} FLOPs too few sizes for {used}"
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
        "disagreement": disagreement(used, budgets, laws),
    }


def _budget(study: IsoFlop, k: int, lead: Form | None) -> BudgetEntry:
    budget, minima = study.budgets[k], study.minima[k]
    estimates = {}
    for name, minimum in minima.items():
        at = np.linspace(*minimum.span, CURVE_POINTS)
        estimates[name] = _estimate(as_draws(budget, minimum), edge(budget, minimum), at, minimum.curve(at))
    if lead is not None:
        at = np.linspace(budget.log_params[0], budget.log_params[-1], CURVE_POINTS)
        curve = lead.point(N=np.exp(at), D=budget.tokens_at(at))
        estimates["surface"] = _estimate(surface_minimum(budget, lead), "", at, curve)
    return {
        "budget_flops": budget.flops,
        "n": len(budget.rows),
        "observations": integers(budget.rows),
        "params": finite(np.exp(budget.log_params)),
        "tokens": finite(np.exp(budget.log_tokens)),
        "loss": finite(budget.loss),
        "edge": estimates["parabola"]["edge"],
        "parabola_bias": None if lead is None else parabola_bias(study.followed[k], lead),
        "estimates": estimates,
    }


def _estimate(values: Mapping[Quantity, Array], edge: str, at: Array, curve: Array) -> EstimateEntry:
    """One curve model's minimum, (1 + draws,) each quantity, with its curve over log params (m,)."""
    return {
        "params": stated(values["params"], LEVEL),
        "tokens": stated(values["tokens"], LEVEL),
        "loss": stated(values["loss"], LEVEL),
        "tokens_per_param": stated(values["tokens_per_param"], LEVEL),
        "edge": edge,
        "curve": {"params": finite(np.exp(at)), "loss": numbers(curve)},
    }


def laws_of(
    name: CurveModel, study: IsoFlop, budgets: Sequence[BudgetEntry], lead: Form | None, grid: Array
) -> dict[Quantity, ComputeLaw]:
    """Power laws in compute through one curve model's trusted minima, with bands over the grid (g,)."""
    trusted = [
        k
        for k, budget in enumerate(budgets)
        if (one := budget["estimates"].get(name)) and not one["edge"] and one["params"]["value"]
    ]
    if len(trusted) < 2:
        why = f"{len(trusted)} of {len(budgets)} budgets have a trusted minimum; a law in compute needs two"
        return {q: {"exponent": None, "why": why, "budgets": [*trusted]} for q in QUANTITIES}
    columns: dict[Quantity, list[Array]] = {quantity: [] for quantity in QUANTITIES}
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
    variance = np.array([vertex_variance(study.followed[k], study.noise) for k in trusted])
    middle = float(np.median(variance))
    weights = 1 / (variance + middle) if np.isfinite(middle) and middle > 0 else np.ones(len(trusted))
    return {
        quantity: _law(compute, np.array(found), weights, trusted, grid, floor=quantity == "loss")
        for quantity, found in columns.items()
    }


def _law(
    compute: Array,
    values: Array,
    weights: Array,
    trusted: list[int],
    grid: Array,
    *,
    floor: bool,
) -> ComputeLaw:
    """The law value = floor + coefficient · compute^exponent through `values` (b, 1 + draws).

    The weights of a size or token law hold half the typical variance for each minimum alike, so that none rules alone.
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
    if not np.isfinite(exponent[0]):
        return {"exponent": None, "why": "no law that falls to a floor fits these minima", "budgets": [*trusted]}
    section: PowerLawEntry = {
        "equation": "floor + coefficient * C^exponent" if floored else "coefficient * C^exponent",
        "exponent": float(exponent[0]),
        "coefficient": float(coefficient[0]),
        "floor": float(bottom[0]),
        "interval": None,
        "budgets": [*trusted],
        "excess_scatter": number(scatter),
        "band": {"flops": finite(grid), "value": numbers(lines[:, 0]), "low": None, "high": None},
    }
    if values.shape[1] > 1:
        (low,), (high,) = percentiles((exponent[0] + (exponent[1:] - exponent[0]) * scatter)[None, :], LEVEL)
        section["interval"] = {"low": number(low), "high": number(high), "level": LEVEL}
        logs = np.log(np.maximum(lines, 1e-300))
        wide = logs[:, :1] + (logs[:, 1:] - logs[:, :1]) * scatter
        below, above = (numbers(np.exp(end)) for end in percentiles(wide[:, 1:], LEVEL))
        section["band"]["low"], section["band"]["high"] = below, above
    return section


def _excess_scatter(compute: Array, values: Array, weights: Array, exponent: float, coefficient: float) -> float:
    """The scatter of the minima about their law over that of their own intervals: Birge's ratio (1932), at least 1."""
    free = len(compute) - 2
    if free < 2 or values.shape[1] < 3:
        return 1.0
    variance = np.nanvar(np.log(values[:, 1:]), axis=1)
    off = np.log(values[:, 0]) - np.log(coefficient) - exponent * np.log(compute)
    share = weights / weights.sum()
    return max(1.0, float(np.sqrt((share * off**2).sum() / ((share * variance).sum() * free / len(compute)))))


def optima_of(study: IsoFlop) -> list[MeasuredOptimum]:
    """The measured minima that score a law's allocation: inside the grid, with a standard deviation."""
    found = []
    for budget, minima in zip(study.budgets, study.minima, strict=True):
        minimum = minima[study.quoted]
        draws = minimum.log_params[1:]
        if edge(budget, minimum) or len(draws) == 0 or np.isfinite(draws).mean() < LEAST_MINIMA:
            continue
        x = float(minimum.log_params[0])
        low, high = np.nanquantile(draws, [0.16, 0.84])  # a vertex has heavy tails: its standard deviation has none
        found.append(MeasuredOptimum(budget.flops, x, float(high - low) / 2, budget.cost))
    return found
