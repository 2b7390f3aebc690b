"""Trust in the answer: roll-outs, the influence of single runs, and the answers of other analyses."""

from typing import Annotated, Literal, TypeAlias, TypedDict, get_args

from scaling.analysis.schema.fits import FitStatus

Predicted: TypeAlias = Literal["loss", "params"]  # quantities that a roll-out is scored on
Choice: TypeAlias = Literal["counting", "loss", "outliers", "budgets"]
CHOICES: tuple[Choice, ...] = get_args(Choice)


class LawScore(TypedDict):
    """One law's errors over the held-out rungs that every scored law predicted."""

    law: Annotated[str, "name of the fit"]
    predictions: Annotated[int, "held-out runs"]
    rmse: Annotated[float | None, "root mean square error of the log loss; null without predictions"]
    bias: Annotated[float | None, "mean error of the log loss, measured - predicted; null without predictions"]
    coverage: Annotated[float | None, "share of runs inside their interval; null where it was not judged"]
    level: Annotated[float, "confidence level of those intervals, a share"]
    longest_decades: Annotated[float | None, "longest reach beyond the fitted runs, decades of compute"]
    aicc: Annotated[float | None, "second-order Akaike criterion of the fit to all runs"]
    delta_aicc: Annotated[float | None, "AICc above the best law's"]


class PredictionScore(TypedDict):
    """One law's prediction of one rung of held-out runs."""

    law: Annotated[str, "name of the fit"]
    quantity: Annotated[Predicted, "loss of each run, or the isoFLOP minimum's size against the law's optimum"]
    trained_to_flops: Annotated[float, "largest compute that was fitted, FLOPs"]
    tested_at_flops: Annotated[float, "median compute of the held-out runs, FLOPs"]
    horizon_decades: Annotated[float, "decades between them"]
    n_trained: Annotated[int, "runs fitted"]
    n_tested: Annotated[int, "runs held out"]
    bias: Annotated[float | None, "mean error of the log, measured - predicted"]
    rmse: Annotated[float | None, "root mean square error of the log"]
    coverage: Annotated[float | None, "share inside their interval; null where it was not judged"]


class UnscoredLaw(TypedDict):
    """A law that could not be scored at a cut."""

    law: Annotated[str, "name of the fit"]
    trained_to_flops: Annotated[float, "largest compute below the cut, FLOPs"]
    why: Annotated[str, "reason"]


class HoldoutSection(TypedDict):
    """Roll-outs: fits to the smaller budgets, scored on the larger."""

    table: Annotated[list[LawScore], "one entry a law, the best predictor first"]
    predictions: Annotated[list[PredictionScore], "every prediction"]
    unscored: Annotated[list[UnscoredLaw], "laws that could not be scored"]


class RunInfluence(TypedDict):
    """The answer without one run."""

    run: Annotated[str, "the run that is left out"]
    params: Annotated[float | None, "optimal parameters at the target; null where the refit has no optimum"]
    change: Annotated[float | None, "relative change of the parameters; null where the refit has no optimum"]
    why: Annotated[str, "reason why there is no answer; empty where there is one"]


class InfluenceSection(TypedDict):
    """The influence of single runs on the optimal size at the target."""

    law: Annotated[str, "key of `scaling.analysis.laws.LAWS`"]
    target_flops: Annotated[float, "compute, FLOPs"]
    params: Annotated[float, "optimal parameters with all runs"]
    runs: Annotated[list[RunInfluence], "the largest move first"]


class RefitEntry(TypedDict):
    """The answer under one combination of choices."""

    counting: Annotated[str, "counting of parameters and FLOPs"]
    loss: Annotated[str, "penalty of a residual"]
    outliers: Annotated[str, "rule for outliers"]
    budgets: Annotated[str, "budgets that count"]
    n: Annotated[int, "observations"]
    status: Annotated[FitStatus | Literal["refused"], "end of the fit"]
    why: Annotated[str, "troubles of the fit; empty without any"]
    params: Annotated[float | None, "optimal parameters at the target; null without an answer"]
    tokens: Annotated[float | None, "optimal tokens at the target; null without an answer"]
    loss_nats: Annotated[float | None, "loss there, nats per token; null without an answer"]
    exponent: Annotated[float | None, "slope of log N* in log C there; null without an answer"]


class ChoiceEffect(TypedDict):
    """The effect of one choice: the largest over the least of the medians of its options."""

    options: Annotated[int, "options"]
    ratio: Annotated[float, "ratio of optimal parameters"]
    tokens_ratio: Annotated[float, "ratio of optimal tokens"]


class AnswerSpread(TypedDict):
    """The range of the answers."""

    analyses: Annotated[int, "combinations of choices"]
    answered: Annotated[int, "combinations with an answer"]
    params: Annotated[list[float] | None, "[least, largest] optimal parameters; null without an answer"]
    tokens: Annotated[list[float] | None, "[least, largest] optimal tokens; null without an answer"]
    by_choice: Annotated[dict[Choice, ChoiceEffect], "effect of each choice; empty without an answer"]


class ChoicesSection(TypedDict):
    """The answer at the target under every combination of defensible choices."""

    law: Annotated[str, "key of `scaling.analysis.laws.LAWS`"]
    target_flops: Annotated[float, "compute, FLOPs"]
    rows: Annotated[list[RefitEntry], "one entry a combination, the analysis's own first"]
    spread: Annotated[AnswerSpread, "range of the answers"]
