"""The numbers of the page's calculator, as what_if.js reads them."""

from typing import TypedDict

from scaling.analysis.schema.document import Range
from scaling.analysis.schema.intervals import Quantity
from scaling.analysis.schema.judgement import Predicted


class FormFacts(TypedDict):
    """A law that the forecast rests on: parameters by position, and resamples, one a row; the leading law's alone."""

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


class CostFacts(TypedDict):
    """The cost of a run, C = k N^gamma D."""

    k: float
    gamma: float


class RepeatFacts(TypedDict):
    """The worth of repeated tokens: R_D* and its source in words."""

    R_D_star: float | None
    words: str


class WhatIfFacts(TypedDict):
    """All numbers of the calculator."""

    forms: list[FormFacts]
    isoflop: dict[Quantity, PowerLawFacts]
    cost: CostFacts
    range: Range
    level: float
    no_interval: str  # reason; empty where there are intervals
    target_flops: float
    z: float
    noise_sd_log: float
    factors: dict[Predicted, float]
    reach_decades: float
    reach_slack: float
    repeats: RepeatFacts
