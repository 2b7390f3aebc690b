"""Minima at equal compute: every budget's runs, the curves through them, and power laws through the minima."""

from typing import Annotated, Literal, NotRequired, TypeAlias, TypedDict

from scaling.analysis.schema.intervals import Band, LevelInterval, Quantity

CurveModel: TypeAlias = Literal["parabola", "cubic", "akima", "mean", "surface"]
ASKABLE: tuple[CurveModel, ...] = ("cubic", "parabola", "akima", "surface")  # that can be asked for
NoiseMethod: TypeAlias = Literal["seeds", "wild", "parametric"]


class MinimumEntry(TypedDict):
    """One quantity at a budget's minimum."""

    value: Annotated[float | None, "the quantity; null where the curve has no minimum"]
    low: Annotated[float | None, "lower end; null where too few redraws have a minimum"]
    high: Annotated[float | None, "upper end; null where too few redraws have a minimum"]
    draws_with_minimum: Annotated[float, "share of the redraws whose curve has a minimum"]


class SampledCurve(TypedDict):
    """A curve through one budget's runs."""

    params: Annotated[list[float], "parameters, rising"]
    loss: Annotated[list[float | None], "loss, nats per token"]


class EstimateEntry(TypedDict):
    """The minimum of one curve model at one budget."""

    params: Annotated[MinimumEntry, "parameters N*"]
    tokens: Annotated[MinimumEntry, "tokens D*"]
    loss: Annotated[MinimumEntry, "loss, nats per token"]
    tokens_per_param: Annotated[MinimumEntry, "D* / N*"]
    edge: Annotated[str, "reason to distrust the minimum; empty where it lies inside the sizes"]
    curve: Annotated[SampledCurve, "the curve"]


class BudgetEntry(TypedDict):
    """The runs of one compute budget, by size, and their minima."""

    budget_flops: Annotated[float, "compute of the budget: median of its runs, FLOPs"]
    n: Annotated[int, "runs"]
    observations: Annotated[list[int], "position of each run in the observations, from 0"]
    params: Annotated[list[float], "parameters of each run"]
    tokens: Annotated[list[float], "tokens of each run"]
    loss: Annotated[list[float], "loss of each run, nats per token"]
    edge: Annotated[str, "reason to distrust the quoted minimum; empty inside the sizes"]
    parabola_bias: Annotated[
        float | None, "relative error in N* of a noise-free parabola on its sizes; null without a surface"
    ]
    estimates: Annotated[dict[CurveModel, EstimateEntry], "minimum by curve model"]


class LawBand(Band):
    """A power law over the compute grid, with its interval."""

    flops: Annotated[list[float], "compute grid, FLOPs"]


class PowerLawEntry(TypedDict):
    """A quantity at the optimum as a power of compute, over a floor where there are four budgets or more."""

    equation: Annotated[str, "the formula"]
    exponent: Annotated[float, "exponent of compute"]
    coefficient: Annotated[float, "factor"]
    floor: Annotated[float, "floor, 0 where the law has none"]
    interval: Annotated[LevelInterval | None, "interval of the exponent; null without redraws"]
    budgets: Annotated[list[int], "budgets whose minima the law goes through, from 0"]
    excess_scatter: Annotated[float | None, "scatter of the minima about the law over what their noise explains, >= 1"]
    band: Annotated[LawBand, "the law over compute"]


class NoPowerLaw(TypedDict):
    """No power law, and the reason."""

    exponent: Annotated[None, "null"]
    why: Annotated[str, "reason"]
    budgets: NotRequired[Annotated[list[int], "budgets with a trusted minimum; absent without an isoFLOP study"]]


ComputeLaw: TypeAlias = PowerLawEntry | NoPowerLaw


class NoiseEntry(TypedDict):
    """The noise behind the intervals of the minima."""

    method: Annotated[NoiseMethod, "way in which losses are redrawn"]
    words: Annotated[str, "way in which losses are redrawn"]
    loss_sd_nats: Annotated[float, "standard deviation of one loss, nats"]
    degrees_of_freedom: Annotated[int, "degrees of freedom behind it"]
    draws: Annotated[int, "redraws of every budget"]


class IsoflopSection(TypedDict):
    """The isoFLOP study."""

    budgets: Annotated[list[BudgetEntry], "budgets, by rising compute"]
    runs_in_no_budget: Annotated[int, "runs that no budget holds"]
    tolerance: Annotated[float, "relative difference in compute within which runs share a budget"]
    noise: Annotated[NoiseEntry, "noise of one loss"]
    laws: Annotated[dict[CurveModel, dict[Quantity, ComputeLaw]], "power laws in compute, by curve model and quantity"]
    used: Annotated[CurveModel, "curve model whose numbers are quoted"]
    why: Annotated[str, "reason for that choice"]
    disagreement: NotRequired[
        Annotated[str, "curve models whose intervals lie apart from the quoted one's; absent in older documents"]
    ]
