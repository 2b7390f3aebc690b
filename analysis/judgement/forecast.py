"""Forecast: loss and allocation at a compute, or loss at a size and token count, with intervals that say what
they hold.

Three spreads add up, in logs: of the parameters (bootstrap draws), of one run's noise (loss only), and of the
form (the other fitted laws that the data do not reject, and the isoFLOP optima's own power law). The sum is
widened by the roll-outs' factor; beyond the longest roll-out nothing has been checked, and the interval is
marked as uncalibrated.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.laws import LAWS
from analysis.laws.cost import Cost
from analysis.laws.law import Law, build, from_columns

Array = NDArray[np.float64]

REJECTED_DELTA_AICC = 10.0  # a law this much worse says nothing about the form (Burnham and Anderson 2002, section 2.6)
REACH_SLACK = 0.02  # decades: 5% of compute, no distance at all
SYMBOLS = {"params": "N", "tokens": "D", "loss": "loss"}


@dataclass(frozen=True)
class Form:
    """One fitted law of params and tokens, and the law of all its draws (parameters of shape (R, 1); None
    without).
    """

    name: str
    point: Law
    draws: Law | None


@dataclass(frozen=True)
class Spread:
    """A quantity at m points with its interval and what each source alone contributes to the log
    half-width, (m,) each.
    """

    value: Array
    low: Array
    high: Array
    parameter: Array
    noise: Array
    form: Array


def spread(
    forms: Sequence[Form],
    quantity: Callable[[Law], ArrayLike],
    *,
    also: Sequence[float],
    noise_sd: float,
    factor: float,
    level: float,
    z: float,
) -> Spread:
    """Value of the first form, interval over all: parameter percentiles, noise and form in quadrature, times
    `factor`.

    `also` holds log gaps to ways that are no law. Without draws the interval is NaN.
    """
    lead, *others = forms
    value = np.atleast_1d(np.asarray(quantity(lead.point), dtype=float))
    middle = np.log(value)
    if lead.draws is None:
        nan = np.full_like(value, np.nan)
        return Spread(value, nan, nan, nan, nan, nan)
    draws = np.log(np.asarray(quantity(lead.draws), dtype=float).reshape(-1, len(value)))
    low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    elsewhere = [np.log(np.atleast_1d(np.asarray(quantity(form.point), dtype=float))) for form in others]
    gaps = np.array([*(other - middle for other in elsewhere), *(np.full_like(middle, gap) for gap in also)])
    form = z * np.sqrt((gaps**2).mean(axis=0)) if len(gaps) else np.zeros_like(value)
    noise = np.full_like(value, z * noise_sd)
    below = factor * np.sqrt(np.maximum(middle - low, 0) ** 2 + noise**2 + form**2)
    above = factor * np.sqrt(np.maximum(high - middle, 0) ** 2 + noise**2 + form**2)
    return Spread(value, np.exp(middle - below), np.exp(middle + above), (high - low) / 2, noise, form)


def forms_of(results: Mapping[str, Any]) -> list[Form]:
    """The laws of params and tokens that the forecast rests on, the leading one first; ValueError when
    there is none.
    """
    entries = {entry["name"]: entry for entry in results["fits"]}
    forms = []
    for name in results["forecast"]["forms"]:
        entry = entries[name]
        law = LAWS[entry["law"]]
        draws = from_columns(law, np.array(entry["draws"]["values"], dtype=float)) if entry["draws"] else None
        forms.append(Form(name, build(law, entry["params"]), draws))
    if not forms:
        raise ValueError("these results hold no fitted law of params and tokens; fit one, such as --law chinchilla")
    return forms


def predict(
    results: Mapping[str, Any],
    *,
    flops: float | None = None,
    params: float | None = None,
    tokens: float | None = None,
) -> dict[str, Any]:
    """Predict from a results document: at `flops` the optimal params, tokens and loss; at `params` and
    `tokens` the loss.

    `params` with `flops` takes the tokens that these buy under the data's own cost, C = k N^gamma D. Every
    quantity is {value, low, high, parameter, noise, form}, the last three log half-widths; `calibrated` and
    `words` say how far the intervals can be trusted. Raises ValueError for other combinations and for values
    that are not positive.
    """
    given = {
        name: value for name, value in (("flops", flops), ("params", params), ("tokens", tokens)) if value is not None
    }
    for name, value in given.items():
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be positive and finite, got {value:g}")
    cost = cost_of(results)
    notes = [f"compute is counted as {cost}, fitted to the runs"] if cost != Cost() else []
    if params is not None and flops is not None and tokens is None:
        tokens = float(cost.tokens(flops, params))
        notes.append(f"tokens = C / ({cost.per_token}) = {tokens:.4g}")
    elif set(given) not in ({"flops"}, {"params", "tokens"}):
        raise ValueError(f"give --flops, or --params with --tokens or --flops; got {', '.join(given) or 'nothing'}")
    if params is None or tokens is None:
        assert flops is not None
        at = {name: _optimal(name, flops, cost) for name in SYMBOLS}
    else:
        flops = float(cost.flops(params, tokens))
        at = {"loss": lambda law: law(N=params, D=tokens)}
        notes += unseen_ratio(results, params, tokens)
    quantities = {name: _quantity(results, name, quantity, flops, free=params is None) for name, quantity in at.items()}
    size = params if params is not None else quantities["params"]["value"]
    notes += extrapolated_cost(results, cost, size)
    trusted = trust(results, flops)
    return {
        "given": given,
        "flops": flops,
        **({} if params is None else {"params_given": params, "tokens_given": tokens}),
        **quantities,
        "level": results["settings"]["level"],
        "law": results["forecast"]["forms"][0],
        **trusted,
        "notes": notes,
    }


def _optimal(name: str, flops: float | Array, cost: Cost) -> Callable[[Law], ArrayLike]:
    def at_optimum(law: Law) -> ArrayLike:
        found: ArrayLike = getattr(law.optimum(flops, cost), SYMBOLS[name])
        return found

    return at_optimum


def _quantity(
    results: Mapping[str, Any], name: str, quantity: Callable[[Law], ArrayLike], flops: float, *, free: bool
) -> dict[str, float | None]:
    settings = results["forecast"]
    found = spread(
        forms_of(results),
        quantity,
        also=_isoflop_gap(results, name, quantity, flops) if free else (),
        noise_sd=settings["noise_sd_log"] if name == "loss" else 0.0,
        factor=settings["calibration"]["loss" if name == "loss" else "params"]["factor"] or 1.0,
        level=results["settings"]["level"],
        z=settings["z"],
    )
    return {field: plain(getattr(found, field)[0]) for field in ("value", "low", "high", "parameter", "noise", "form")}


def _isoflop_gap(
    results: Mapping[str, Any], name: str, quantity: Callable[[Law], ArrayLike], flops: float
) -> tuple[float, ...]:
    """Log gap between the leading law and the power law through the isoFLOP minima, less what the latter's
    own noise explains.
    """
    law = ((results["isoflop"] or {}).get("laws", {}).get("parabola") or {}).get(name)
    if law is None or law["exponent"] is None or law["band"]["low"] is None:
        return ()
    value = law["floor"] + law["coefficient"] * flops ** law["exponent"]
    grid = np.log(law["band"]["flops"])
    low, high = (np.interp(np.log(flops), grid, np.log(law["band"][end])) for end in ("low", "high"))
    own = (high - low) / 2 / results["forecast"]["z"]
    lead = float(np.asarray(quantity(forms_of(results)[0].point)).ravel()[0])
    gap = np.log(value / lead)
    return (float(np.sqrt(max(gap**2 - own**2, 0.0))),)


def plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def trust(results: Mapping[str, Any], flops: float) -> dict[str, Any]:
    """How far a compute lies beyond the data, in decades, and whether the roll-outs reach there, in a flag
    and in words.
    """
    least, most = results["range"]["flops"]
    reach = results["forecast"]["reach_decades"]
    decades = max(float(np.log10(flops / most)), float(np.log10(least / flops)), 0.0)
    where = (
        f"{decades:.2f} decades {'beyond' if flops > most else 'below'} the data"
        if decades
        else "inside the data's range"
    )
    forms = results["forecast"]["forms"]
    single = (
        "" if len(forms) > 1 or results["isoflop"] else "; one law only, so the form's spread is not in the interval"
    )
    checked = f"predictions were checked up to {reach:.2f} decades"
    calibrated = False
    if results["settings"]["bootstrap"] == 0:
        words = f"{where}; no resamples were drawn, so there is no interval: fit with --bootstrap 1000"
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
    return {"decades_beyond": decades, "reach_decades": reach, "calibrated": calibrated, "words": words}


def cost_of(results: Mapping[str, Any]) -> Cost:
    """What a run costs, as the results' own runs say."""
    return Cost(**{name: results["cost"][name] for name in ("k", "gamma", "spread")})


def extrapolated_cost(results: Mapping[str, Any], cost: Cost, params: float | None) -> list[str]:
    if cost.gamma == 1 or params is None:
        return []
    least, most = (results["cost"]["ratio"][end] for end in ("least", "most"))
    ratio = float(cost.flops(params, 1.0)) / params
    if least <= ratio <= most:
        return []
    return [f"that cost is extrapolated: C / (N D) would be {ratio:.3g}, outside the runs' {least:.3g} to {most:.3g}"]


def unseen_ratio(results: Mapping[str, Any], params: float, tokens: float) -> list[str]:
    least, most = results["range"]["tokens_per_param"]
    ratio = tokens / params
    if least <= ratio <= most:
        return []
    return [f"{ratio:.3g} tokens per parameter lie outside the {least:.3g} to {most:.3g} that the data hold"]


def describe(prediction: Mapping[str, Any]) -> str:
    """A prediction in one line: what was predicted with intervals, and how far it can be trusted."""
    parts = [
        f"{symbol} {one['value']:.4g} {interval(one['low'], one['high'])}"
        for name, symbol in (("params", "N*"), ("tokens", "D*"), ("loss", "loss"))
        if isinstance(one := prediction.get(name), Mapping)
    ]
    return "; ".join([", ".join(parts), prediction["words"], *prediction["notes"]])


def interval(low: float | None, high: float | None, digits: int = 4) -> str:
    """An interval in brackets, or the words that there is none."""
    return "[no interval]" if low is None or high is None else f"[{low:.{digits}g}, {high:.{digits}g}]"
