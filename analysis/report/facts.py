"""The numbers of the page's calculator, as what_if.js reads them."""

from typing import TypedDict

from scaling.analysis.schema.document import Range
from scaling.analysis.schema.ensemble import ComputePower
from scaling.analysis.schema.intervals import Quantity
from scaling.analysis.schema.judgement import Predicted


class FormFacts(TypedDict):
    """A law that the forecast rests on: parameters by position, and the resamples of a leading law, one a row."""

    law: str
    near: list[float] | None  # tokens per parameter between which an optimum without a closed form is searched
    names: list[str]
    values: list[float | None]
    draws: list[list[float | None]]


class PowerLawFacts(TypedDict):
    """A power law through the isoFLOP minima, with its interval over the compute grid."""

    floor: float
    coefficient: float
    exponent: float
    flops: list[float]
    low: list[float | None] | None
    high: list[float | None] | None


class PowersFacts(TypedDict):
    """A forecaster by power laws in compute of N* and L*."""

    params: ComputePower
    loss: ComputePower


class MeanFacts(TypedDict):
    """The log mean of forecasters: its power laws (its laws of N and D are the forms), and its intervals' terms."""

    powers: list[PowersFacts]
    half_width: dict[Predicted, float]  # of the log, a decade beyond the data
    least_horizon_decades: float
    noise_sd_nats: float


class CostFacts(TypedDict):
    """The cost of a run, C = (limit N + k N^gamma) D; a negative k as in `laws.cost.Cost`."""

    k: float
    gamma: float
    limit: float


class RepeatFacts(TypedDict):
    """The worth of repeated tokens: R_D* and its source in words."""

    R_D_star: float | None
    words: str


class WhatIfFacts(TypedDict):
    """All numbers of the calculator."""

    mean: MeanFacts | None  # None where the leading law answers alone
    warned: bool  # whether the page has warnings at its top
    forms: list[FormFacts]
    isoflop: dict[Quantity, PowerLawFacts]
    cost: CostFacts
    range: Range
    level: float
    no_interval: str  # reason; empty where there are intervals
    doubt: str  # verdict that rejects the laws of the answer; empty where none does
    target_flops: float
    z: float
    noise_sd_log: float
    factors: dict[Predicted, float]
    reach_decades: float
    reach_slack: float
    repeats: RepeatFacts
    bits_of_nat: float | None  # bits per byte of a nat per token; None where unknown
