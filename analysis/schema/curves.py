"""Training curves, their envelope at each compute, and the frontiers of their final losses.

A frontier holds the runs that none of fewer parameters, tokens or FLOPs beats.
"""

from typing import Annotated, Literal, NotRequired, TypeAlias, TypedDict

from scaling.analysis.schema.intervals import Interval, LevelInterval

EnvelopeMethod: TypeAlias = Literal["binned", "hull"]
FrontierVariable: TypeAlias = Literal["params", "tokens", "flops"]


class CurveEntry(TypedDict):
    """One run's training curve, thinned evenly in log compute."""

    run_id: Annotated[str, "the run"]
    params: Annotated[float, "parameters"]
    tokens: Annotated[list[float], "tokens seen"]
    flops: Annotated[list[float], "FLOPs spent"]
    loss: Annotated[list[float | None], "training loss, nats per token; null where it was not logged"]
    val_loss: Annotated[list[float | None], "validation loss, nats per token; null where it was not measured"]
    points_measured: Annotated[int, "points before thinning"]
    learning_rate: NotRequired[Annotated[list[float | None], "learning rate; null where it was not logged"]]
    trunk: NotRequired[Annotated[str, "name of the trunk that the run shares; the run's own without one"]]


class EnvelopeLaw(TypedDict):
    """Parameters on the envelope as a power of compute."""

    exponent: Annotated[float, "exponent of compute"]
    coefficient: Annotated[float, "factor"]
    interval: Annotated[Interval | None, "interval of the exponent; null where too few resamples have one"]


class EnvelopeSection(TypedDict):
    """The lowest loss of any run under way, in bins of log compute."""

    flops: Annotated[list[float], "centre of each bin, FLOPs"]
    loss: Annotated[list[float], "lowest loss, nats per token"]
    params: Annotated[list[float], "parameters of the run that reached it"]
    tokens: Annotated[list[float], "tokens that the run had seen"]
    run_id: Annotated[list[str], "the run"]
    interior: Annotated[list[bool], "whether the run is neither the smallest nor the largest under way"]
    hull: Annotated[list[int], "bins on the lower convex hull of log loss against log compute, from 0"]
    laws: Annotated[dict[EnvelopeMethod, EnvelopeLaw], "law through the interior bins, and through those on the hull"]
    draws: Annotated[int, "resamples of whole runs"]
    warnings: Annotated[list[str], "reasons why points in mid-run may not compare"]


class FrontierLaw(TypedDict):
    """A power law without a floor, loss = (scale / x)^exponent."""

    exponent: Annotated[float, "exponent of scale / x"]
    scale: Annotated[float, "value of the variable at which the loss would be 1 nat"]
    interval: Annotated[LevelInterval, "interval of the exponent, by the scatter about the line"]


class FrontierEntry(TypedDict):
    """The frontier against one variable, by rising values."""

    x: Annotated[list[float], "values of the variable"]
    loss: Annotated[list[float], "mean loss of the runs of one size and token count, nats per token"]
    runs: Annotated[list[int], "number of those runs"]
    params: Annotated[list[float | None], "parameters; null where the source lacks them"]
    tokens: Annotated[list[float | None], "training tokens; null where the source lacks them"]
    ample: Annotated[list[bool], "whether the other quantity is ample, and the law goes through the point"]
    law: Annotated[FrontierLaw | None, "law through the ample points; null where they are too few"]
    why: Annotated[str, "reason why there is no law; empty with one"]


class FrontiersSection(TypedDict):
    """The loss against parameters at ample data, against tokens at ample size, and against compute."""

    optimal_tokens_per_param: Annotated[float | None, "tokens per parameter of the compute optimum; null unknown"]
    basis: Annotated[str, "source of that ratio"]
    factor: Annotated[float, "factor from that ratio at which a quantity counts as ample"]
    by: Annotated[dict[FrontierVariable, FrontierEntry], "frontier by variable"]
