"""Treatments of one measure compared: paired losses at equal cells, and the compute that each needs for one loss."""

from typing import Annotated, Literal, NotRequired, TypedDict, final

from scaling.analysis.schema.isoflop import ComputeLaw, MinimumEntry


class OptimumLoss(MinimumEntry):
    """The loss at one budget's minimum, nats per token."""

    flops: Annotated[float, "compute of the budget, FLOPs"]
    edge: Annotated[str, "reason to distrust the minimum; empty where it lies inside the sizes"]


class TreatmentEntry(TypedDict):
    """One treatment's loss at its optima, by one curve model for all treatments."""

    budgets: Annotated[list[OptimumLoss], "loss at each budget's minimum"]
    law: Annotated[ComputeLaw, "power law of that loss in compute"]
    noise: NotRequired[Annotated[str, "way in which losses are redrawn; absent without an isoFLOP study"]]


class PairedCells(TypedDict):
    """The shapes that both treatments trained at one budget, one entry a cell."""

    flops: Annotated[list[float], "compute of the budget, FLOPs"]
    params: Annotated[list[float], "parameters, the first treatment's"]
    difference: Annotated[list[float], "difference of the mean losses, second - first, nats per token"]


class MeanDifference(TypedDict):
    """The mean of paired differences, second - first, nats per token."""

    cells: Annotated[int, "cells"]
    lower: Annotated[int, "cells in which the second's loss is the lower"]
    mean_nats: Annotated[float | None, "mean; null without a cell"]
    se_nats: Annotated[float | None, "standard error of the mean; null of fewer than two cells"]
    low: Annotated[float | None, "lower end; null of fewer than two cells"]
    high: Annotated[float | None, "upper end; null of fewer than two cells"]


class BudgetDifference(MeanDifference):
    """The mean difference at one budget."""

    flops: Annotated[float, "compute of the budget, FLOPs"]


@final
class Multiplier(TypedDict):
    """The worse treatment's compute over the better one's, for the same loss."""

    why: Annotated[Literal[""], "empty"]
    at_flops: Annotated[float, "geometric middle of the two computes, FLOPs"]
    loss: Annotated[float, "the loss that both reach, nats per token"]
    worse: Annotated[str, "treatment that needs more"]
    better: Annotated[str, "treatment that needs less"]
    value: Annotated[float, "ratio of the computes, at least 1"]
    low: Annotated[float | None, "lower end; null where it lies beyond the common budgets"]
    high: Annotated[float | None, "upper end; null where it lies beyond the common budgets"]
    told: Annotated[bool, "whether the interval leaves 1 out"]
    no_interval: Annotated[str, "reason why there is no interval; empty where there is one"]


@final
class NoMultiplier(TypedDict):
    """No ratio of computes, and the reason."""

    why: Annotated[str, "reason"]


class TreatmentPair(TypedDict):
    """Two treatments compared."""

    names: Annotated[list[str], "[first, second]"]
    cells: Annotated[PairedCells, "cells that both trained"]
    difference: Annotated[MeanDifference, "mean over all cells"]
    by_budget: Annotated[list[BudgetDifference], "mean at each budget"]
    multiplier: Annotated[Multiplier | NoMultiplier, "ratio of computes for one loss"]
    verdict: Annotated[str, "verdict in a sentence"]


class ComparisonSection(TypedDict):
    """The treatments of one measure: this part's and the others'."""

    settings: Annotated[list[str], "settings that differ"]
    level: Annotated[float, "confidence level of the intervals, a share"]
    treatments: Annotated[dict[str, TreatmentEntry], "treatment by the name of its part"]
    pairs: Annotated[list[TreatmentPair], "every pair"]
