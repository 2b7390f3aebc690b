"""tune.json: a search over learning rate and batch, judged; each cell's minima and the laws through them."""

from typing import Annotated, Literal, NotRequired, TypeAlias, TypedDict

Arm: TypeAlias = Literal["learning_rate", "batch_tokens"]
ScaleName: TypeAlias = Literal["params", "tokens", "flops"]


class Scale(TypedDict):
    """The scale of a run."""

    params: Annotated[float, "parameters"]
    tokens: Annotated[float, "training tokens"]
    flops: Annotated[float, "training FLOPs"]


class Rule(TypedDict):
    """The power law value * N^params * D^tokens * C^flops."""

    value: Annotated[float, "factor"]
    params: Annotated[float, "exponent of parameters"]
    tokens: Annotated[float, "exponent of tokens"]
    flops: Annotated[float, "exponent of compute"]


class RecipeRule(Rule):
    """A recipe's law with its limits."""

    at_least: Annotated[float | None, "lower limit; null without"]
    at_most: Annotated[float | None, "upper limit; null without"]


class ArmValues(TypedDict):
    """One number for each setting that is searched."""

    learning_rate: Annotated[float, "learning rate"]
    batch_tokens: Annotated[float, "batch, tokens"]


class SearchedPoint(ArmValues):
    """One run of an arm: a line of settings through a cell."""

    arm: Annotated[Arm, "setting that the arm varies"]
    run_id: Annotated[str, "the run"]
    status: Annotated[str, "end of the run: done or diverged"]
    loss: Annotated[float | None, "validation loss, nats per token; null where the run diverged before it"]


class SearchedCell(Scale):
    """One size at one budget, and its runs."""

    shape: Annotated[str, "layers, width and heads"]
    budget_flops: Annotated[float, "compute of the budget, FLOPs"]
    base: Annotated[ArmValues, "the recipe's values here"]
    points: Annotated[list[SearchedPoint], "runs"]


class SettingCurve(TypedDict):
    """The parabola through the lowest losses of an arm."""

    x: Annotated[list[float], "the setting, rising"]
    loss: Annotated[list[float], "loss, nats per token"]


class ArmFit(TypedDict):
    """The minimum of one arm at one cell."""

    edge: Annotated[Literal["low", "high", ""], "end at which the search should go on; empty inside what was tried"]
    why: Annotated[str, "reason why there is no minimum; empty where there is one"]
    value: Annotated[float | None, "the setting at the minimum; null without"]
    low: Annotated[float | None, "lower end of its interval (Fieller 1954); null where open"]
    high: Annotated[float | None, "upper end of its interval; null where open"]
    limit: Annotated[float | None, "lowest setting above the best that diverged; null without"]
    curve: Annotated[SettingCurve | None, "parabola; null where too few losses are known"]


class ArmMinimum(ArmFit):
    """The minimum of one arm beside the recipe's value and the law's."""

    recipe: Annotated[float, "the recipe's value here"]
    law: Annotated[float, "the value here of the law through the minima"]


class JudgedCell(SearchedCell):
    """A cell with the minimum of each arm."""

    learning_rate: Annotated[ArmMinimum, "minimum along the learning rate at the recipe's batch"]
    batch_tokens: Annotated[ArmMinimum, "minimum along the batch, the learning rate moved by its square root"]


class TunedRule(RecipeRule):
    """The law through the minima; exponents that the cells do not fix stay the recipe's."""

    intervals: Annotated[dict[ScaleName, list[float]], "[low, high] of each exponent that was fitted"]
    factor: NotRequired[Annotated[float, "the middle of the law lies within this factor; absent without a minimum"]]
    kept: Annotated[list[str], "numbers that stay the recipe's"]
    cells: Annotated[int, "cells that the law goes through"]
    why: Annotated[str, "reason why there is no law; empty where there is one"]


class TunedRanges(TypedDict):
    """The ranges in which the laws were searched."""

    params: Annotated[list[float], "[least, largest] parameters"]
    tokens: Annotated[list[float], "[least, largest] tokens"]
    learning_rate: Annotated[list[float], "[least, largest] learning rate"]
    batch_tokens: Annotated[list[float], "[least, largest] batch, tokens"]


class TuneResults(TypedDict):
    """The whole document."""

    schema: Annotated[Literal[1], "version of this schema"]
    study: Annotated[str, "study whose sweep was searched"]
    level: Annotated[float, "confidence level of every interval, a share"]
    identified: Annotated[float, "half-width of an interval beyond which the recipe's exponent is kept"]
    noise_nats: Annotated[
        float | None, "standard deviation of a loss near its minimum about the parabola; null unknown"
    ]
    noise_freedom: Annotated[float, "degrees of freedom behind the noise"]
    runs: Annotated[int, "runs"]
    diverged: Annotated[int, "runs that diverged"]
    cells: Annotated[list[JudgedCell], "cells"]
    laws: Annotated[dict[Arm, TunedRule], "law of each setting"]
    tuned: Annotated[TunedRanges, "ranges that were searched"]
