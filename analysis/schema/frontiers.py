"""The frontiers of the final losses: the runs that none of fewer parameters, tokens or FLOPs beats, and their laws."""

from typing import Annotated, Literal, TypeAlias, TypedDict

from scaling.analysis.schema.intervals import LevelInterval

FrontierVariable: TypeAlias = Literal["params", "tokens", "flops"]


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
