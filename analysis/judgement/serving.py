"""The cheapest model of a given loss when the tokens that it will serve are paid for as well.

Sardana et al. 2024 (arXiv 2401.00448), eq. 2: minimise 6 N D + 2 N S over N and D subject to L(N, D) = loss, where S
tokens are served. Here training costs what the runs' own FLOPs state, and a served token a third of a training
token's FLOPs, its forward pass alone: 2 N where C = 6 N D. S = 0 is the compute optimum of Hoffmann et al. 2022.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scaling.analysis.judgement import forecast
from scaling.analysis.judgement.spread import Form, spread
from scaling.analysis.laws import jet
from scaling.analysis.laws.cost import Cost
from scaling.analysis.laws.law import LOG_TOKENS, SIX_N_D, Law, build
from scaling.analysis.schema.document import Results
from scaling.analysis.schema.forecast import ServedGiven, ServedPrediction
from scaling.analysis.schema.intervals import Band, Estimated
from scaling.analysis.schema.numbers import finite, number, numbers
from scaling.analysis.schema.prices import ServingSection
from scaling.analysis.words import share_text

Array = NDArray[np.float64]

FORWARD_SHARE = 1 / 3  # of a token's training FLOPs: the backward pass costs twice the forward
LOG_SIZES = np.linspace(0.0, 80.0, 97)  # natural logarithm of N: from one parameter to 1e34
HALVINGS = 60  # of intervals this wide, to the last bit
CURVE_POINTS = 25
CURVE_TIMES = (1e-2, 1e4)  # of the training-optimal tokens, the range of served tokens that the curve spans
MOST_CURVE_DRAWS = 200


@dataclass(frozen=True)
class Served:
    """The cheapest N and D at a loss, the FLOPs of training and serving, and those of the training-optimal model."""

    N: Array
    D: Array
    train_flops: Array
    serve_flops: Array
    usual_flops: Array  # of the model that is cheapest to train, trained and serving as much

    @property
    def total_flops(self) -> Array:
        return self.train_flops + self.serve_flops

    @property
    def saving(self) -> Array:
        """Saved share of the training-optimal model's total."""
        return 1 - self.total_flops / self.usual_flops


def cheapest(law: Law, loss: ArrayLike, served: ArrayLike, cost: Cost = SIX_N_D) -> Served:
    """N and D of least cost.flops(N, D) + served * cost.flops(N, 1) / 3 with law(N, D) = loss, broadcasting.

    A scan of log N, then bisection on the first-order condition. nan where a resample cannot reach the loss; ValueError
    when none can, and for a law that is not one of the loss in N and D alone.
    """
    if law.predicts != "loss" or set(law.variables) != {"N", "D"}:
        raise ValueError(f"the law {law.name!r} predicts {law.predicts} from {', '.join(law.inputs)}, not from N and D")
    target, tokens = np.broadcast_arrays(np.asarray(loss, dtype=float), np.asarray(served, dtype=float))
    with np.errstate(all="ignore"):
        log_N, log_D = _solve(law, target, tokens, cost)
        usual_N, usual_D = _solve(law, target, np.zeros_like(tokens), cost)
        if not np.isfinite(log_N).any():
            raise ValueError(_unreachable(law, target))
        N, D = np.exp(log_N), np.exp(log_D)
        usual = cost.flops(np.exp(usual_N), np.exp(usual_D) + FORWARD_SHARE * tokens)
        return Served(N, D, cost.flops(N, D), cost.flops(N, FORWARD_SHARE * tokens), usual)


def _solve(law: Law, target: Array, served: Array, cost: Cost) -> tuple[Array, Array]:
    """Logarithms of N and D; nan where there is no interior minimum."""

    def total(log_N: Array) -> Array:
        log_D = law.log_tokens(target, np.exp(log_N))
        whole = np.log(cost.rate(np.exp(log_N))) + np.log(np.exp(log_D) + FORWARD_SHARE * served)
        # Less than a token is no training: far outside their data, some forms need hardly any.
        return np.where(np.isfinite(log_D) & (log_D >= 0), whole, np.inf)

    def rises(log_N: Array) -> NDArray[np.bool_]:
        """Whether the total grows with N here: slope (D + S/3) > -dD / d log N, along the line of equal loss."""
        log_D = law.log_tokens(target, np.exp(log_N))
        at = law.formula(N=jet.exp(jet.variable(0, log_N)), D=jet.exp(jet.variable(1, log_D)))
        fall = np.asarray(at.first[0]) / np.asarray(at.first[1])
        rise: NDArray[np.bool_] = np.isfinite(log_D) & (
            cost.slope(np.exp(log_N)) * (1 + FORWARD_SHARE * served * np.exp(-log_D)) > fall
        )
        return rise

    scan = np.stack(np.broadcast_arrays(*(total(np.asarray(x)) for x in LOG_SIZES)))
    dips = (scan[1:-1] < scan[:-2]) & (scan[1:-1] <= scan[2:])
    best = 1 + np.argmax(dips, axis=0)  # the first: far beyond their data, some forms find a giant that hardly trains
    inside = dips.any(axis=0)
    low, high = LOG_SIZES[best - 1], LOG_SIZES[best + 1]
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        right = rises(middle)
        low, high = np.where(right, low, middle), np.where(right, middle, high)
    log_N = np.where(inside, high, np.nan)  # the end that reaches the loss
    return log_N, np.where(inside, law.log_tokens(target, np.exp(log_N)), np.nan)


def _unreachable(law: Law, target: Array) -> str:
    least = float(np.nanmin(np.asarray(law.formula(N=np.exp(LOG_SIZES[-1]), D=np.exp(LOG_TOKENS[1])))))
    wanted = float(np.min(target))
    if wanted <= least:
        return f"a loss of {wanted:.4g} is out of reach: the {law.name} law ends at {least:.4g}; ask for more"
    return f"a loss of {wanted:.4g} has no interior cheapest model under the {law.name} law; ask for a lower loss"


def predict_served(
    results: Results, *, served: float, loss: float | None = None, flops: float | None = None
) -> ServedPrediction:
    """The cheapest N and D for a loss, or for the loss of the compute optimum at `flops`, with `served` tokens served.

    ValueError unless exactly one of `loss` and `flops` is given, and for numbers out of range.
    """
    if (loss is None) == (flops is None):
        raise ValueError("--serve takes a quality to reach: give either --loss or --flops (of the compute optimum)")
    given: dict[ServedGiven, float | None] = {"loss": loss, "flops": flops, "serve": served}
    for name, value in given.items():
        if value is not None and not (np.isfinite(value) and (value > 0 or (name == "serve" and value == 0))):
            raise ValueError(f"{name} must be positive and finite, got {value:g}")
    cost, forms = forecast.cost_of(results), forecast.forms_of(results)
    lead = forms[0].point

    def wanted(law: Law) -> ArrayLike:
        if loss is not None:
            return loss
        assert flops is not None
        optimal: ArrayLike = law.optimum(flops, cost).loss
        return optimal

    point, usual = cheapest(lead, wanted(lead), served, cost), cheapest(lead, wanted(lead), 0.0, cost)
    notes = [
        f"training costs {cost}{'' if cost == SIX_N_D else ', fitted to the runs'}; a served token a third of that"
    ]
    solved: dict[int, Served] = {id(lead): point}
    for form in forms:
        for law in (form.point, form.draws):
            if law is None or id(law) in solved:
                continue
            try:
                solved[id(law)] = cheapest(law, wanted(law), served, cost)
            except ValueError as error:
                notes.append(f"not in the intervals: {error}")
    forms = [
        replace(form, draws=form.draws if id(form.draws) in solved else None)
        for form in forms
        if id(form.point) in solved
    ]

    def quantity(name: str) -> Estimated:
        return _interval(results, forms, lambda law: getattr(solved[id(law)], name), signed=name == "saving")

    params, tokens, train = (float(getattr(point, name)) for name in ("N", "D", "train_flops"))
    notes += forecast.unseen_ratio(results, params, tokens) + forecast.extrapolated_cost(results, cost, params)
    if forms[0].draws and (lost := float(np.isnan(solved[id(forms[0].draws)].N).mean())) > 0:
        notes.append(f"{lost:.0%} of the resamples cannot reach that loss at all and are not in the intervals")
    return {
        "given": {name: value for name, value in given.items() if value is not None},
        "params": quantity("N"),
        "tokens": quantity("D"),
        "loss": float(np.asarray(wanted(lead))),
        "train_flops": train,
        "serve_flops": float(point.serve_flops),
        "total_flops": quantity("total_flops"),
        "saving": quantity("saving"),
        "usual_params": float(usual.N),
        "usual_tokens": float(usual.D),
        **forecast.trust(results, train, forms[0].name, notes),
    }


def _interval(results: Results, forms: list[Form], of: Callable[[Law], ArrayLike], *, signed: bool) -> Estimated:
    """A quantity with its interval: the forecast's, but the percentiles alone for a quantity that may be 0."""
    lead = forms[0]
    if signed:
        value = float(np.asarray(of(lead.point)))
        if lead.draws is None:
            return {"value": value, "low": None, "high": None}
        level = results["settings"]["level"]
        low, high = np.nanquantile(np.asarray(of(lead.draws)), [(1 - level) / 2, (1 + level) / 2])
        return {"value": value, "low": number(low), "high": number(high)}
    settings = results["forecast"]
    found = spread(
        forms,
        of,
        also=(),
        noise_sd=0.0,
        factor=settings["calibration"]["params"]["factor"] or 1.0,
        level=results["settings"]["level"],
        z=settings["z"],
    )
    return {"value": float(found.value[0]), "low": number(found.low[0]), "high": number(found.high[0])}


def serving_section(results: Results) -> ServingSection | None:
    """The cheapest model of the target's loss against the tokens that it serves; None without a target."""
    settings = results["forecast"]
    if not settings["forms"] or settings["at_target"] is None:
        return None
    cost, lead, flops = forecast.cost_of(results), forecast.forms_of(results)[0], settings["at_target"]["flops"]
    best = lead.point.optimum(flops, cost)
    served = float(best.D) * np.geomspace(*CURVE_TIMES, CURVE_POINTS)
    try:
        point = cheapest(lead.point, best.loss, served, cost)
    except ValueError:
        return None
    drawn = None
    if lead.draws is not None:
        few = _first(lead.draws, MOST_CURVE_DRAWS)
        drawn = cheapest(few, few.optimum(flops, cost).loss, served, cost)
    level = results["settings"]["level"]
    return {
        "flops": flops,
        "loss": float(best.loss),
        "law": lead.name,
        "served": finite(served),
        "params": _band(point.N, None if drawn is None else drawn.N, level),
        "tokens": _band(point.D, None if drawn is None else drawn.D, level),
        "saving": _band(point.saving, None if drawn is None else drawn.saving, level),
        "usual": {"params": float(best.N), "tokens": float(best.D)},
        "words": f"training costs {cost}, a served token a third of that",
    }


def _band(value: Array, draws: Array | None, level: float) -> Band:
    """A curve (s,) with the percentiles of its resamples (R, s)."""
    if draws is None:
        return {"value": numbers(value), "low": None, "high": None}
    low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return {"value": numbers(value), "low": numbers(low), "high": numbers(high)}


def _first(law: Law, draws: int) -> Law:
    """The law of the first so many resamples."""
    few = build(type(law), {name: np.asarray(value)[:draws] for name, value in law.params.items()})
    return few.tried_at(law.tried)


def describe_served(prediction: ServedPrediction) -> str:
    """The cheapest model in a line: size and tokens with intervals, cost and saving, and how far to trust them."""
    found = {"N*": prediction["params"], "D*": prediction["tokens"], "total FLOPs": prediction["total_flops"]}
    parts = [
        f"{symbol} {one['value']:.4g} {forecast.interval(one['low'], one['high'])}" for symbol, one in found.items()
    ]
    saving = prediction["saving"]
    ends = (
        ""
        if saving["low"] is None or saving["high"] is None
        else f" [{share_text(saving['low'])}, {share_text(saving['high'])}]"
    )
    head = (
        f"loss {prediction['loss']:.4g}, {prediction['given']['serve']:.4g} tokens served: {', '.join(parts)} "
        f"({prediction['train_flops']:.4g} to train, {prediction['serve_flops']:.4g} to serve)"
    )
    usual = (
        f"saves {share_text(saving['value'])}{ends} of what the training-optimal N {prediction['usual_params']:.4g}, "
        f"D {prediction['usual_tokens']:.4g} costs"
    )
    return "; ".join([head, usual, prediction["words"], *prediction["notes"]])
