"""The forecasters whose log mean is the headline: members, roll-outs, and the growth of their errors with distance."""

from typing import Annotated, NotRequired, TypedDict

from scaling.analysis.schema.judgement import Predicted
from scaling.analysis.schema.verdicts import VerdictEntry


class ComputePower(TypedDict):
    """A power law in compute: floor + coefficient * C^exponent."""

    floor: Annotated[float, "floor, 0 where the law has none"]
    coefficient: Annotated[float, "factor"]
    exponent: Annotated[float, "exponent of compute"]


class MemberEntry(TypedDict):
    """A forecaster of N* and L* at a compute."""

    name: Annotated[str, "name"]
    law: Annotated[str | None, "key of `scaling.analysis.laws.LAWS`; null for power laws through the minima"]
    values: Annotated[dict[str, float], "parameters of the law by name; empty for power laws"]
    powers: Annotated[dict[Predicted, ComputePower], "power laws of N* and L*; empty for a law of N and D"]
    error: Annotated[dict[Predicted, float | None], "root mean square log error of its roll-outs; null without any"]
    trials: Annotated[int, "number of its roll-outs"]
    verdict: NotRequired[Annotated[VerdictEntry, "whether its own runs reject it; absent in files of earlier versions"]]


class AbsentMember(TypedDict):
    """A forecaster that the runs do not allow."""

    name: Annotated[str, "name"]
    why: Annotated[str, "reason"]


class GrowthEntry(TypedDict):
    """The growth of the log mean's errors with distance."""

    sd_log_per_decade: Annotated[float, "standard deviation of the log error a decade beyond the data"]
    degrees_of_freedom: Annotated[int, "cuts of this study and those that the errors of other studies count as"]


class ForecasterTrial(TypedDict):
    """A forecaster's prediction of a held-out budget's minimum."""

    forecaster: Annotated[str, "name of the member, or the log mean"]
    trained_to_flops: Annotated[float, "largest budget that was fitted, FLOPs"]
    tested_at_flops: Annotated[float, "held-out budget, FLOPs"]
    params: Annotated[float, "log error of N*, measured - predicted"]
    loss: Annotated[float, "log error of L*, measured - predicted"]


class EnsembleSection(TypedDict):
    """The forecasters whose log mean is the headline."""

    name: Annotated[str, "the headline's name"]
    members: Annotated[list[MemberEntry], "forecasters, each with its roll-out error"]
    absent: Annotated[list[AbsentMember], "forecasters that the runs do not allow"]
    error: Annotated[dict[Predicted, float | None], "the same error of the log mean"]
    growth: Annotated[dict[Predicted, GrowthEntry], "growth of the log mean's errors"]
    cuts: Annotated[int, "cuts of the roll-outs"]
    reach_decades: Annotated[float, "longest roll-out, decades of compute; 0 without any"]
    least_horizon_decades: Annotated[float, "distance that counts inside the data, decades of compute"]
    near_log: Annotated[float, "log factor in N within which a run lies near its minimum"]
    noise_sd_nats: Annotated[float | None, "standard deviation of one run's loss by seeds, nats; null without repeats"]
    predictions: Annotated[list[ForecasterTrial], "every roll-out"]
    words: Annotated[str, "the rule, and the terms of its intervals"]


class MemberPrediction(TypedDict):
    """One forecaster's compute optimum."""

    name: Annotated[str, "name"]
    params: Annotated[float, "optimal parameters"]
    loss: Annotated[float, "loss, nats per token"]
    error: Annotated[dict[Predicted, float | None], "root mean square log error of its roll-outs; null without any"]
    trials: Annotated[int, "number of its roll-outs"]
    verdict: NotRequired[Annotated[str, "verdict on it, in words; absent in files of earlier versions"]]
