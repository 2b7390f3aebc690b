"""Prices of a model: loss against the cost of training, storage and serving, and the cheapest model of a loss."""

from typing import Annotated, Literal, TypeAlias, TypedDict

from scaling.analysis.schema.intervals import Band

PriceName: TypeAlias = Literal["bytes", "train_flops", "prefill", "token", "memory"]
WeightFormat: TypeAlias = Literal["fp32", "bf16", "int8", ""]  # "" for a price that no format of the weights changes


class PriceSeries(TypedDict):
    """The runs' prices and losses in one format, one entry a run."""

    price: Annotated[list[float | None], "price, in the unit of the measure's label; null where it was not measured"]
    loss: Annotated[list[float | None], "loss, nats per token; null where it was not measured"]


class PriceFront(TypedDict):
    """The Pareto front: the runs that no cheaper run beats, cheapest first."""

    price: Annotated[list[float], "price, in the unit of the measure's label"]
    loss: Annotated[list[float], "loss, nats per token"]


class PriceMeasure(TypedDict):
    """Loss against one price."""

    label: Annotated[str, "words for the axis, with the unit"]
    series: Annotated[dict[WeightFormat, PriceSeries], "runs, by the format of the weights"]
    front: Annotated[PriceFront, "Pareto front over all formats"]


class PriceWords(TypedDict):
    """Words for the timed work."""

    prefill: Annotated[str, "the timed prefill"]
    token: Annotated[str, "the timed step of generation, or why there is none"]


class PricesSection(TypedDict):
    """Prices of the profiled runs."""

    run_id: Annotated[list[str], "the runs, in the order of every series"]
    machine: Annotated[str, "machine of the seconds and the memory"]
    elsewhere: Annotated[int, "runs profiled on another machine, whose seconds and memory are left out"]
    words: Annotated[PriceWords, "the timed work"]
    measures: Annotated[dict[PriceName, PriceMeasure], "one entry a price that was measured"]


class UsualModel(TypedDict):
    """The training-optimal model of the same loss."""

    params: Annotated[float, "parameters"]
    tokens: Annotated[float, "training tokens"]


class ServingSection(TypedDict):
    """The cheapest model of the loss that is optimal at the target, against tokens served."""

    flops: Annotated[float, "compute of the target, FLOPs"]
    loss: Annotated[float, "loss, nats per token"]
    law: Annotated[str, "fit that gives the values"]
    served: Annotated[list[float], "tokens served, rising"]
    params: Annotated[Band, "parameters at each"]
    tokens: Annotated[Band, "training tokens at each"]
    saving: Annotated[Band, "share of the training-optimal model's total that is saved, at each"]
    usual: Annotated[UsualModel, "training-optimal model"]
    words: Annotated[str, "cost of training and of a served token"]
