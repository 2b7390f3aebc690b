"""Training curves, and the envelope of the lowest loss that any of them reaches at each compute."""

from typing import Annotated, Literal, NotRequired, TypeAlias, TypedDict

from scaling.analysis.schema.intervals import Interval

EnvelopeMethod: TypeAlias = Literal["binned", "hull"]


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
