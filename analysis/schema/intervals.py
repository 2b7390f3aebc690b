"""Numbers with intervals, as every section of every document holds them."""

from typing import Annotated, Literal, TypeAlias, TypedDict, get_args

Quantity: TypeAlias = Literal["params", "tokens", "loss", "tokens_per_param"]  # of a compute-optimal model
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)


class Ends(TypedDict):
    """The ends of an interval."""

    low: Annotated[float | None, "lower end; null where no interval could be stated"]
    high: Annotated[float | None, "upper end; null where no interval could be stated"]


NO_ENDS: Ends = {"low": None, "high": None}


class Interval(Ends):
    """The interval of one number, its confidence level and its method."""

    level: Annotated[float, "confidence level, a share"]
    method: Annotated[str, "method behind the interval"]


class LevelInterval(Ends):
    """The interval of one number at a confidence level."""

    level: Annotated[float, "confidence level, a share"]


class Estimated(Ends):
    """A number with the ends of its interval."""

    value: Annotated[float, "the number"]


class Slope(Ends):
    """A local exponent with the ends of its interval."""

    value: Annotated[float | None, "the exponent; null where it could not be stated"]


class Band(TypedDict):
    """A curve with its interval, point by point."""

    value: Annotated[list[float | None], "the curve"]
    low: Annotated[list[float | None] | None, "lower ends; null without resamples"]
    high: Annotated[list[float | None] | None, "upper ends; null without resamples"]
