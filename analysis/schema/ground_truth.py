"""Measured exponents beside those that a source of data is known to have."""

from typing import Annotated, TypedDict

from scaling.analysis.schema.intervals import Ends


class KnownExponent(Ends):
    """One exponent as measured, with its interval, and its known value."""

    quantity: Annotated[str, "the exponent in words, such as `loss against N`"]
    by: Annotated[str, "runs and method of the measurement"]
    known: Annotated[float, "known exponent"]
    value: Annotated[float, "measured exponent"]
    inside: Annotated[bool | None, "whether the interval holds the known exponent; null without an interval"]


class GroundTruthSection(TypedDict):
    """The check of the analysis against a source of known law."""

    law: Annotated[str, "known law of the loss"]
    floor: Annotated[float, "known floor of that law, nats per token"]
    least_loss: Annotated[float, "least loss on these data, nats per token"]
    exponents: Annotated[list[KnownExponent], "one entry a measurement"]
    words: Annotated[str, "the finding in a sentence"]
