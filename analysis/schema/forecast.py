"""Predictions: the basis of a forecast in results.json, and the answers of `scaling predict --json`."""

from typing import Annotated, Literal, NotRequired, TypeAlias, TypedDict, final

from scaling.analysis.schema.ensemble import EnsembleSection, MemberPrediction
from scaling.analysis.schema.intervals import Estimated
from scaling.analysis.schema.judgement import Predicted

Given: TypeAlias = Literal["flops", "params", "tokens"]
ServedGiven: TypeAlias = Literal["loss", "flops", "serve"]


class PredictedQuantity(Estimated):
    """A predicted quantity with its interval, and the share of each source in its log half-width."""

    parameter: Annotated[float | None, "log half-width by the parameters' resamples; null without, and of the log mean"]
    noise: Annotated[float | None, "log half-width by one run's noise; null without resamples"]
    form: Annotated[
        float | None,
        "log half-width by other laws and the isoFLOP minima, or by the log mean's own roll-outs; null without either",
    ]


class Trust(TypedDict):
    """The law behind a prediction, and how far the prediction can be trusted."""

    level: Annotated[float, "confidence level of the intervals, a share"]
    law: Annotated[str, "fit that gives the values, or the log mean of forecasters"]
    decades_beyond: Annotated[float, "distance from the data, decades of compute; 0 inside them"]
    reach_decades: Annotated[float, "longest roll-out, decades of compute"]
    calibrated: Annotated[bool, "whether roll-outs reach that far"]
    words: Annotated[str, "how far the interval can be trusted"]
    notes: Annotated[list[str], "assumptions, and ratios that no run has"]
    members: NotRequired[
        Annotated[list[MemberPrediction], "optima of the forecasters behind a log mean; absent of one law alone"]
    ]


class PredictedLoss(Trust):
    """A predicted loss at a compute."""

    given: Annotated[dict[Given, float], "numbers that were asked about"]
    flops: Annotated[float, "compute, FLOPs"]
    loss: Annotated[PredictedQuantity, "loss, nats per token"]


@final
class OptimumPrediction(PredictedLoss):
    """The compute optimum at a compute."""

    params: Annotated[PredictedQuantity, "optimal parameters"]
    tokens: Annotated[PredictedQuantity, "optimal tokens"]


@final
class LossPrediction(PredictedLoss):
    """The loss at a size and token count."""

    params_given: Annotated[float, "parameters"]
    tokens_given: Annotated[float, "tokens"]


@final
class VariablePrediction(Trust):
    """The loss by a law of one variable."""

    given: Annotated[dict[Given, float], "number that was asked about"]
    loss: Annotated[PredictedQuantity, "loss, nats per token"]


class ColumnPrediction(TypedDict):
    """A law's value at values of its own columns."""

    given: Annotated[dict[str, float], "values of the law's variables"]
    law: Annotated[str, "fit that gives the value"]
    output: Annotated[str, "predicted column, or loss"]
    value: Annotated[float, "predicted value"]
    low: Annotated[float | None, "lower end, resamples and one run's noise; null without resamples"]
    high: Annotated[float | None, "upper end"]
    level: Annotated[float, "confidence level, a share"]
    words: Annotated[str, "how far the interval can be trusted"]
    notes: Annotated[list[str], "values that no run has"]


Prediction: TypeAlias = OptimumPrediction | LossPrediction | VariablePrediction


class ServedPrediction(Trust):
    """The cheapest model of a loss, training and serving paid for."""

    given: Annotated[dict[ServedGiven, float], "loss or compute, and tokens to serve, as asked"]
    params: Annotated[Estimated, "parameters"]
    tokens: Annotated[Estimated, "training tokens"]
    loss: Annotated[float, "loss, nats per token"]
    train_flops: Annotated[float, "FLOPs of training"]
    serve_flops: Annotated[float, "FLOPs of serving"]
    total_flops: Annotated[Estimated, "FLOPs of both"]
    saving: Annotated[Estimated, "share of the training-optimal model's total that is saved"]
    usual_params: Annotated[float, "parameters of the training-optimal model of that loss"]
    usual_tokens: Annotated[float, "training tokens of the same"]


class CalibrationEntry(TypedDict):
    """The widening of one quantity's intervals that covers the roll-outs."""

    factor: Annotated[float | None, "factor of the log half-width, at least 1; null where nothing could be tested"]
    rungs: Annotated[int, "held-out rungs"]
    reach_decades: Annotated[float, "longest roll-out, decades of compute"]
    words: Annotated[str, "the widening and its evidence"]


class ForecastSection(TypedDict):
    """The basis of a prediction."""

    forms: Annotated[list[str], "names of the fits that a prediction rests on, the leading one first"]
    calibration: Annotated[dict[Predicted, CalibrationEntry], "widening by quantity; empty without forms"]
    reach_decades: Annotated[float, "longest roll-out, decades of compute"]
    noise_sd_log: Annotated[float | None, "standard deviation of one run's log loss; null without forms"]
    z: Annotated[float, "half-width of the normal interval at the confidence level, standard deviations"]
    at_target: Annotated[OptimumPrediction | None, "prediction at settings.target_flops; null without forms"]
    ensemble: NotRequired[
        Annotated[
            EnsembleSection | None,
            "forecasters whose log mean predicts; null of one law alone, absent of laws asked for and in earlier files",
        ]
    ]
    alone: NotRequired[Annotated[str, "reason why one law answers alone; absent where it was asked for"]]
