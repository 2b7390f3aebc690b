"""Forecast: loss and allocation at a compute, or loss at a size and token count, with intervals that name their parts.

The log mean of forecasters answers where the results hold one (see `ensemble`). Else the laws that were asked for do,
and three spreads add up, in logs: of the parameters (bootstrap draws), of one run's noise (loss only), and of the form
(the other fitted laws that the data do not reject, and the isoFLOP optima's own power law). The roll-outs' factor
widens the first two, on which it was calibrated. Beyond the longest roll-out nothing was checked, and the interval is
marked as uncalibrated, as is the answer of a law that its own runs reject.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scaling.analysis.judgement import ensemble
from scaling.analysis.judgement.one_variable import one_variable_fit, predict_variable
from scaling.analysis.judgement.spread import Form, OfLaw, predicted, spread
from scaling.analysis.laws import LAWS
from scaling.analysis.laws.cost import Cost
from scaling.analysis.laws.law import REACH, Law, build, from_columns
from scaling.analysis.schema.document import Results
from scaling.analysis.schema.ensemble import EnsembleSection, MemberPrediction
from scaling.analysis.schema.fits import no_interval
from scaling.analysis.schema.forecast import (
    Given,
    LossPrediction,
    OptimumPrediction,
    PredictedQuantity,
    Prediction,
    Trust,
)
from scaling.analysis.schema.verdicts import is_rejected
from scaling.analysis.words import share_text

Array = NDArray[np.float64]

Optimal = Literal["params", "tokens", "loss"]  # quantities of the compute optimum

REJECTED_DELTA_AICC = (
    10.0  # a law this much worse bears no witness to the form (Burnham and Anderson 2002, section 2.6)
)
REACH_SLACK = 0.02  # decades: 5% of compute, no distance at all
SYMBOLS: Mapping[Optimal, str] = {"params": "N", "tokens": "D", "loss": "loss"}


def forms_of(results: Results) -> list[Form]:
    """The laws of params and tokens that the forecast rests on, the leading one first; ValueError without any."""
    entries = {entry["name"]: entry for entry in results["fits"]}
    least, most = results["range"]["tokens_per_param"]
    forms = []
    for name in results["forecast"]["forms"]:
        entry = entries[name]
        law = LAWS[entry["law"]]
        drawn = from_columns(law, np.array(entry["draws"]["values"], dtype=float)) if entry["draws"] else None
        point = build(law, entry["params"]).tried_at((least, most))
        forms.append(Form(name, point, None if drawn is None else drawn.tried_at((least, most))))
    if not forms:
        raise ValueError("these results hold no fitted law of params and tokens; fit one, such as --law chinchilla")
    return forms


def predict(
    results: Results, *, flops: float | None = None, params: float | None = None, tokens: float | None = None
) -> Prediction:
    """Predict from a results document: the optimum at `flops`, or the loss at `params` and `tokens`.

    `params` with `flops` takes the tokens that these buy under the data's own cost. A single number
    that a law of one variable was fitted to gives that law's loss; of `flops`, where no law has an optimum. ValueError
    for other combinations, and for values that are not positive.
    """
    asked: dict[Given, float | None] = {"flops": flops, "params": params, "tokens": tokens}
    given = {name: value for name, value in asked.items() if value is not None}
    for name, value in given.items():
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be positive and finite, got {value:g}")
    if params is not None and (tokens is None) != (flops is None):
        return _predict_loss(results, params, tokens, flops, given)
    if len(given) == 1:
        ((name, value),) = given.items()
        entry = one_variable_fit(results, name)
        if entry is not None and (name != "flops" or not results["forecast"]["forms"]):
            return predict_variable(results, entry, name, value)
    if flops is not None and params is None and tokens is None:
        return predict_optimum(results, flops)
    raise ValueError(f"give --flops, or --params with --tokens or --flops; got {', '.join(given) or 'nothing'}")


def predict_optimum(results: Results, flops: float) -> OptimumPrediction:
    """The compute optimum at `flops`; ValueError where no forecaster, or no law that was asked for, has one."""
    cost, section = cost_of(results), results["forecast"].get("ensemble")
    if section is not None:
        return _mean_optimum(results, section, flops, cost)
    forms = forms_of(results)
    params, tokens, loss = (_optimum(results, forms, name, flops, cost) for name in SYMBOLS)
    alone = results["forecast"].get("alone")
    notes = [*([alone] if alone else []), *_fitted_cost(cost), *extrapolated_cost(results, cost, params["value"])]
    notes += unseen_ratio(results, params["value"], tokens["value"], slack=REACH)
    return {
        "given": {"flops": flops},
        "flops": flops,
        "params": params,
        "tokens": tokens,
        "loss": loss,
        **trust(results, flops, forms[0].name, notes),
    }


def _mean_optimum(results: Results, section: EnsembleSection, flops: float, cost: Cost) -> OptimumPrediction:
    """The log mean of the forecasters' optima, its members beside it."""
    params, loss, members = ensemble.optimum(results, section, flops, decades_beyond(results, flops), cost)
    notes = [*_fitted_cost(cost), *extrapolated_cost(results, cost, params["value"])]
    trusted = _trust_of_ensemble(results, section, flops, notes)
    trusted["members"] = members
    return {
        "given": {"flops": flops},
        "flops": flops,
        "params": params,
        "tokens": ensemble.tokens_of(params, flops, cost),
        "loss": loss,
        **trusted,
    }


def _predict_loss(
    results: Results, params: float, tokens: float | None, flops: float | None, given: dict[Given, float]
) -> LossPrediction:
    """The loss of `params` trained on `tokens`, or on the tokens that `flops` buy."""
    cost, section = cost_of(results), results["forecast"].get("ensemble")
    notes = _fitted_cost(cost)
    if tokens is None:
        tokens = float(cost.tokens(flops, params))
        notes.append(f"tokens = C / ({cost.per_token}) = {tokens:.4g}")
    spent = float(cost.flops(params, tokens))
    notes += unseen_ratio(results, params, tokens)
    notes += extrapolated_cost(results, cost, params)
    beyond = decades_beyond(results, spent)
    near = None if section is None else ensemble.loss_near(results, section, params, spent, beyond, cost)
    if section is not None and near is not None:
        loss, trusted = near, _trust_of_ensemble(results, section, spent, notes)
    else:
        forms = forms_of(results)
        if section is not None:
            notes.append(f"that size lies far from the optimum: the {forms[0].name} law of all runs answers alone")
        loss = _quantity(results, forms, "loss", lambda law: law(N=params, D=tokens))
        trusted = trust(results, spent, forms[0].name, notes)
    return {
        "given": given,
        "flops": spent,
        "params_given": params,
        "tokens_given": tokens,
        "loss": loss,
        **trusted,
    }


def _fitted_cost(cost: Cost) -> list[str]:
    return [f"compute is counted as {cost}, fitted to the runs"] if cost != Cost() else []


def _optimum(results: Results, forms: Sequence[Form], name: Optimal, flops: float, cost: Cost) -> PredictedQuantity:
    """A quantity of the compute optimum at `flops`, the isoFLOP minima's own law among the forms."""

    def of(law: Law) -> ArrayLike:
        found: ArrayLike = getattr(law.optimum(flops, cost), SYMBOLS[name])
        return found

    lead = float(np.asarray(of(forms[0].point)).ravel()[0])
    return _quantity(results, forms, name, of, also=_isoflop_gap(results, name, lead, flops))


def _quantity(
    results: Results, forms: Sequence[Form], name: Optimal, of: OfLaw, also: Sequence[float] = ()
) -> PredictedQuantity:
    settings = results["forecast"]
    found = spread(
        forms,
        of,
        also=also,
        noise_sd=(settings["noise_sd_log"] or 0.0) if name == "loss" else 0.0,
        factor=settings["calibration"]["loss" if name == "loss" else "params"]["factor"] or 1.0,
        level=results["settings"]["level"],
        z=settings["z"],
    )
    return predicted(found)


def _isoflop_gap(results: Results, name: Optimal, lead: float, flops: float) -> tuple[float, ...]:
    """Log gap of the leading law's value to that of the law through the isoFLOP minima, less the latter's noise."""
    study = results["isoflop"]
    law = None if study is None else study["laws"]["parabola"][name]
    if law is None or law["exponent"] is None or law["band"]["low"] is None or law["band"]["high"] is None:
        return ()
    value = law["floor"] + law["coefficient"] * flops ** law["exponent"]
    grid, ends = np.log(law["band"]["flops"]), np.array([law["band"]["low"], law["band"]["high"]], dtype=float)
    if np.isnan(ends).any():  # too few redraws have a law
        return ()
    low, high = (np.interp(np.log(flops), grid, np.log(end)) for end in ends)
    own = (high - low) / 2 / results["forecast"]["z"]
    gap = np.log(value / lead)
    return (float(np.sqrt(max(gap**2 - own**2, 0.0))),)


def trust(results: Results, flops: float, law: str, notes: list[str]) -> Trust:
    """The distance of a compute from the data and whether the roll-outs reach there, beside the law and the notes."""
    forms = results["forecast"]["forms"]
    single = (
        "" if len(forms) > 1 or results["isoflop"] else "; one law only, so the form's spread is not in the interval"
    )
    entry = next((one for one in results["fits"] if one["name"] == law and one["status"] != "refused"), None)
    why = "" if entry is None else no_interval(entry)
    return _trust(results, flops, law, notes, results["forecast"]["reach_decades"], why, single, doubt_of(results, law))


def _trust_of_ensemble(results: Results, section: EnsembleSection, flops: float, notes: list[str]) -> Trust:
    gone = [f"{one['name']} falls out: {one['why']}" for one in section["absent"]]
    return _trust(results, flops, section["name"], [*gone, *notes], section["reach_decades"], "", "", doubt_of(results))


def doubt_of(results: Results, law: str | None = None) -> str:
    """The verdict that rejects a law, by default the headline's forecasters all together; empty where none does."""
    if law is None and (section := results["forecast"].get("ensemble")) is not None:
        rejected = all(is_rejected(one.get("verdict")) for one in section["members"])
        return "the runs reject every forecaster behind it" if rejected else ""
    name = law or results["forecast"]["forms"][0]
    entry = next((one for one in results["fits"] if one["name"] == name and one["status"] != "refused"), None)
    return f"the runs reject the {name} law" if entry is not None and is_rejected(entry.get("verdict")) else ""


def decades_beyond(results: Results, flops: float) -> float:
    """The distance of a compute from the data, decades; 0 inside them."""
    least, most = results["range"]["flops"]
    return max(float(np.log10(flops / most)), float(np.log10(least / flops)), 0.0)


def _trust(
    results: Results, flops: float, law: str, notes: list[str], reach: float, no_ends: str, single: str, doubt: str
) -> Trust:
    """The trust at a distance; `no_ends` is the reason why there is no interval, `single` words about its terms.

    `doubt` states the verdict that rejects the answer's laws; empty where none does.
    """
    least, most = results["range"]["flops"]
    decades = decades_beyond(results, flops)
    where = (
        f"{decades:.2f} decades {'beyond' if flops > most else 'below'} the data"
        if decades
        else "inside the data's range"
    )
    checked = f"predictions were checked up to {reach:.2f} decades"
    calibrated = False
    if results["settings"]["bootstrap"] == 0:
        words = f"{where}; no resamples were drawn, so there is no interval: fit with --bootstrap 1000"
    elif no_ends:
        words = f"{where}; no interval: {no_ends}"
    elif doubt:
        words = f"{where}; the interval is UNCALIBRATED ({doubt}, so it may be too narrow){single}"
    elif reach == 0:
        words = (
            f"{where}; the interval is UNCALIBRATED (no prediction could be tested, so it may be too narrow){single}"
        )
    elif decades > reach + REACH_SLACK or flops < least / 10**REACH_SLACK:
        words = (
            f"{where}; {checked} only: the interval is UNCALIBRATED "
            f"(nothing tested it this far out, so it may be too narrow){single}"
        )
    else:
        calibrated = True
        words = f"{where}; {checked}{single}"
    return {
        "level": results["settings"]["level"],
        "law": law,
        "decades_beyond": decades,
        "reach_decades": reach,
        "calibrated": calibrated,
        "words": words,
        "notes": notes,
    }


def cost_of(results: Results) -> Cost:
    """The cost of a run, fitted to the results' own runs."""
    cost = results["cost"]
    return Cost(k=cost["k"], gamma=cost["gamma"], spread=cost["spread"], limit=cost.get("limit", 0.0))


def extrapolated_cost(results: Results, cost: Cost, params: float) -> list[str]:
    """A note where the cost at a size lies outside the runs' range of C / (N D)."""
    if cost.gamma == 1:
        return []
    least, most = (results["cost"]["ratio"][end] for end in ("least", "most"))
    ratio = float(cost.flops(params, 1.0)) / params
    if least <= ratio <= most:
        return []
    return [f"that cost is extrapolated: C / (N D) would be {ratio:.3g}, outside the runs' {least:.3g} to {most:.3g}"]


def unseen_ratio(results: Results, params: float, tokens: float, slack: float = 1.0) -> list[str]:
    """A note where tokens per parameter lie outside the runs' range, by more than a factor `slack`."""
    least, most = results["range"]["tokens_per_param"]
    ratio = tokens / params
    if least / slack <= ratio <= most * slack:
        return []
    return [f"{ratio:.3g} tokens per parameter lie outside the {least:.3g} to {most:.3g} that the data hold"]


def describe(prediction: Prediction) -> str:
    """A prediction in one line: every quantity with its interval, and how far the interval can be trusted."""
    found = {"loss": prediction["loss"]}
    if "params" in prediction:
        found = {"N*": prediction["params"], "D*": prediction["tokens"], **found}
    parts = [f"{symbol} {one['value']:.4g} {interval(one['low'], one['high'])}" for symbol, one in found.items()]
    return "; ".join([", ".join(parts), prediction["words"], *prediction["notes"]])


def members_in_words(prediction: Prediction) -> list[str]:
    """A line for every forecaster behind a log mean, with roll-out error and verdict; none of one law alone."""

    members = prediction.get("members", [])
    return [
        f"{one['name']}: N* {one['params']:.4g}, loss {one['loss']:.4g}{_tried(one)}"
        + (f"; {one['verdict']}" if "verdict" in one else "")
        for one in members
    ]


def _tried(one: MemberPrediction) -> str:
    """The errors of a member's roll-outs in brackets; empty without any."""
    params, loss = one["error"]["params"], one["error"]["loss"]
    if params is None or loss is None:
        return ""
    noun = "roll-out" if one["trials"] == 1 else "roll-outs"
    return f" (off by {share_text(params, 0)} and {share_text(loss)} in {one['trials']} {noun})"


def interval(low: float | None, high: float | None, digits: int = 4) -> str:
    """An interval in brackets, or the words that there is none."""
    return "[no interval]" if low is None or high is None else f"[{low:.{digits}g}, {high:.{digits}g}]"
