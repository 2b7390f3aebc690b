"""The curve model whose minima are quoted, the surface's own minima, and the models that disagree with the quoted."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from scaling.analysis.isoflop.curve_models import LEAST_SIZES_OF_CUBIC, parabola
from scaling.analysis.isoflop.minima import IsoFlop, edge, vertex_variance
from scaling.analysis.judgement.holdout import Z_LEVEL
from scaling.analysis.judgement.spread import Form
from scaling.analysis.quantiles import chi2_tail
from scaling.analysis.runs.budgets import BudgetRuns
from scaling.analysis.schema.intervals import Quantity
from scaling.analysis.schema.isoflop import BudgetEntry, ComputeLaw, CurveModel
from scaling.analysis.words import count, flops_text, listed, percent

Array = NDArray[np.float64]
Laws = Mapping[CurveModel, Mapping[Quantity, ComputeLaw]]

LEAST_AGREEMENT = 0.01  # of the surface with the runs' own minima: a probability
IN_WORDS: Mapping[CurveModel, str] = {
    "parabola": "parabolas",
    "cubic": "local cubics",
    "akima": "Akima splines",
    "mean": "log means of a local cubic's and an Akima spline's",
    "surface": "the fitted surface",
}


def quoted(study: IsoFlop, lead: Form | None, laws: Laws, asked: CurveModel | None) -> tuple[CurveModel, str]:
    """The curve model whose numbers to quote, and the reason: the one asked for, else by the evidence of the runs.

    The fitted surface stands in where the bias of a parabola on these sizes outweighs its uncertainty and the surface
    agrees with the runs' own minima. ValueError where a surface is asked for and no fitted law has an optimum.
    """
    if asked == "surface" and lead is None:
        raise ValueError("--minimum surface needs a fitted law of params and tokens with an optimum; ask for another")
    if asked is not None:
        return asked, f"Minima come from {IN_WORDS[asked]}, as asked for"
    if study.misfit.rejected:
        plain = (
            f"Minima are {IN_WORDS['mean']}: parabolas through all sizes miss the losses by more than noise does "
            f"(F = {study.misfit.F:.3g}, p = {study.misfit.probability:.1g})"
        )
    else:
        plain = "Minima come from parabolas"
    inside = [k for k, budget in enumerate(study.budgets) if not edge(budget, study.minima[k]["parabola"])]
    known = [] if lead is None else [parabola_bias(study.followed[k], lead) for k in inside]
    biases = [bias for bias in known if bias is not None]
    if lead is None or not biases or laws["surface"]["params"]["exponent"] is None:
        return study.quoted, plain + ("; no fitted surface states their bias" if study.quoted == "parabola" else "")
    widths = [Z_LEVEL * sd for k in inside if 0 < (sd := vertex_sd(study, k)) < np.inf]
    bias, width = float(np.median(np.abs(biases))), float(np.median(widths)) if widths else np.inf
    shown, uncertainty = _whole(float(np.median(biases))), f"±{_whole(width).lstrip('+')}"
    if bias > width and (agreement := surface_agreement(study, lead)) < LEAST_AGREEMENT:
        return study.quoted, (
            f"{plain}; the fitted surface puts the bias of parabolas at {shown}, but its own minima are ones that the "
            f"runs rule out (p = {agreement:.1g})"
        )
    if bias > width:
        return "surface", (
            f"Minima come from the fitted surface; the known bias of parabolas here ({shown}) is larger than their "
            f"uncertainty ({uncertainty})"
        )
    if study.quoted == "mean":
        return "mean", plain
    if np.isinf(width):
        return "parabola", f"{plain}; their known bias here is {shown}, and no uncertainty is stated"
    return "parabola", f"{plain}; their known bias here ({shown}) is smaller than their uncertainty ({uncertainty})"


def _whole(share: float) -> str:
    """A share in percent, whole from 1% on."""
    return percent(share, 0 if abs(share) >= 0.01 else 1)


def vertex_sd(study: IsoFlop, k: int) -> float:
    """Standard deviation of the log params at a budget's parabola's vertex; 0 where no noise is known."""
    return float(np.sqrt(vertex_variance(study.followed[k], study.noise)))


def disagreement(used: CurveModel, budgets: Sequence[BudgetEntry], laws: Laws) -> str:
    """The curve models whose interval of N*'s exponent, or of N* at a budget, lies apart from the quoted one's."""
    apart = [
        words for name in _compared(budgets, laws) if name != used and (words := _apart(used, name, budgets, laws))
    ]
    if not apart:
        return ""
    own = _exponent_ends(laws[used]["params"])
    stated = "" if own is None else f" (N*'s exponent {own[0]:.3g} to {own[1]:.3g})"
    return (
        f"IsoFLOP minima depend on the curve beyond their intervals: {IN_WORDS[used]} are quoted{stated}, but "
        f"{listed(apart)}; --minimum quotes another, and more sizes near the minimum decide between them"
    )


def _compared(budgets: Sequence[BudgetEntry], laws: Laws) -> list[CurveModel]:
    """The curve models that can contradict each other.

    With few sizes a spline passes through every loss, and its minimum moves with the noise of one; the local cubic is
    the parabola. The mean of both then stands for them.
    """
    few = min(len(set(budget["params"])) for budget in budgets) < LEAST_SIZES_OF_CUBIC
    return [name for name in laws if not few or name not in ("cubic", "akima")]


def _apart(used: CurveModel, name: CurveModel, budgets: Sequence[BudgetEntry], laws: Laws) -> str:
    """The other model's interval of N*'s exponent, else of N* at the largest budget, that misses the quoted model's."""
    own, other = (_exponent_ends(laws[one]["params"]) for one in (used, name))
    if own and other and _disjoint(own, other):
        return f"{IN_WORDS[name]} put N*'s exponent at {other[0]:.3g} to {other[1]:.3g}"
    for budget in reversed(budgets):
        found = [budget["estimates"].get(one) for one in (used, name)]
        spans = [
            (one["params"]["low"], one["params"]["high"])
            for one in found
            if one and not one["edge"] and one["params"]["low"] and one["params"]["high"]
        ]
        if len(spans) == 2 and _disjoint(spans[0], spans[1]):
            low, high = spans[1]
            return f"{IN_WORDS[name]} put N* at {flops_text(budget['budget_flops'])} at {count(low)} to {count(high)}"
    return ""


def _exponent_ends(law: ComputeLaw) -> tuple[float, float] | None:
    if law["exponent"] is None or law["interval"] is None:
        return None
    low, high = law["interval"]["low"], law["interval"]["high"]
    return None if low is None or high is None else (low, high)


def _disjoint(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[1] < other[0] or other[1] < one[0]


def surface_minimum(budget: BudgetRuns, lead: Form) -> dict[Quantity, Array]:
    """The surface's optimum at a budget under the cost of the budget's own runs, (1 + draws,) each."""
    optima = [law.optimum(budget.flops, budget.cost) for law in (lead.point, lead.draws) if law is not None]
    params, tokens, loss = (
        np.concatenate([np.asarray(getattr(one, symbol), dtype=float).ravel() for one in optima])
        for symbol in ("N", "D", "loss")
    )
    return {"params": params, "tokens": tokens, "loss": loss, "tokens_per_param": tokens / params}


def parabola_bias(budget: BudgetRuns, lead: Form) -> float | None:
    """Relative error in params of a noise-free parabola on these sizes, against the surface along them."""
    vertex = _vertex_on_surface(budget, lead)
    at = np.linspace(budget.log_params[0], budget.log_params[-1], 4001)
    lowest = int(np.argmin(lead.point(N=np.exp(at), D=budget.tokens_at(at))))
    if not np.isfinite(vertex) or lowest in (0, len(at) - 1):
        return None
    return float(np.exp(vertex - at[lowest]) - 1)


def surface_agreement(study: IsoFlop, lead: Form) -> float:
    """The probability that minima of parabolas on the surface's losses lie as far from the runs' own as these do.

    Squared distances in log params over their variances are chi-squared over budgets; 1 without any.
    """
    squares = [
        ((float(study.minima[k]["parabola"].log_params[0]) - _vertex_on_surface(study.followed[k], lead)) / sd) ** 2
        for k, budget in enumerate(study.budgets)
        if not edge(budget, study.minima[k]["parabola"]) and 0 < (sd := vertex_sd(study, k)) < np.inf
    ]
    known = [square for square in squares if np.isfinite(square)]
    return float(chi2_tail(sum(known), len(known))) if known else 1.0


def _vertex_on_surface(budget: BudgetRuns, lead: Form) -> float:
    """Log params of the minimum of a parabola through the surface's losses at these runs."""
    exact = lead.point(N=np.exp(budget.log_params), D=np.exp(budget.log_tokens))
    return float(parabola(budget.log_params, exact[:, None], budget.weights).log_params[0])
