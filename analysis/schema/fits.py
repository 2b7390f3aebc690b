"""One fitted law: its values, intervals and evidence, and its loss over compute, size and tokens."""

from typing import Annotated, Literal, NotRequired, TypeAlias, TypedDict

from scaling.analysis.schema.intervals import Band, Interval, Slope
from scaling.analysis.schema.verdicts import VerdictEntry

FitStatus: TypeAlias = Literal["converged", "at_bound", "did_not_converge"]
LossName: TypeAlias = Literal["huber", "mse", "mae", "asymmetric"]
LossScale: TypeAlias = Literal["log", "linear"]
IdentificationKind: TypeAlias = Literal["identified", "weakly identified", "at a bound"]

NO_RESAMPLES = "no resamples"  # were asked for


class LossSettings(TypedDict):
    """The penalty of a residual."""

    name: Annotated[LossName, "form of the penalty"]
    delta: Annotated[float, "knee of the huber penalty, in units of the residual"]
    on: Annotated[LossScale, "residuals of the log loss, or of the loss itself"]
    reduction: Annotated[Literal["sum"], "the objective is the weighted sum over observations"]


class IdentificationEntry(TypedDict):
    """The finding on a parameter: one that is not `identified` has no number of its own."""

    kind: Annotated[IdentificationKind, "finding"]
    sentence: Annotated[str, "finding and its reason, in a sentence"]


class EvidenceEntry(TypedDict):
    """The evidence that the fit ended at the global optimum."""

    starts: Annotated[int, "starts of the search"]
    agreed: Annotated[int, "starts that ended at the best minimum"]
    kkt_residual: Annotated[float | None, "largest cosine between residual scores and a coordinate; 0 at a minimum"]
    at_bound: Annotated[list[str], "parameters at the edge of their range"]
    unseen: Annotated[list[str], "parameters that no observation responds to"]
    condition: Annotated[float | None, "condition number of the tangent; null where it is infinite"]
    iterations: Annotated[int, "steps over all starts"]


class ProfileEntry(TypedDict):
    """The objective minimised over all other parameters, at each value of one of them."""

    values: Annotated[list[float | None], "values of the parameter, rising"]
    objective: Annotated[list[float | None], "least objective at each value"]
    threshold: Annotated[float | None, "objective at the ends of the interval"]
    low: Annotated[float | None, "lower end, or the search's last value"]
    high: Annotated[float | None, "upper end, or the search's last value"]
    closed: Annotated[list[bool], "[lower, upper]: whether the profile crosses the threshold there"]
    level: Annotated[float, "confidence level, a share"]


class Draws(TypedDict):
    """The law refitted to resamples of whole runs."""

    names: Annotated[list[str], "parameters, in the order of the columns of `values`"]
    values: Annotated[list[list[float | None]], "one row a resample that converged, at most 1000, evenly thinned"]
    drawn: Annotated[int, "resamples drawn"]
    converged: Annotated[int, "resamples that converged"]
    clusters: Annotated[int, "runs that were resampled"]


class OptimumExponents(TypedDict):
    """Slopes of the log optimum in log compute, at the largest measured compute."""

    params: Annotated[Slope, "slope of log N*"]
    tokens: Annotated[Slope, "slope of log D*"]


class OptimumSection(TypedDict):
    """The compute-optimal model over a grid of compute."""

    flops: Annotated[list[float], "compute grid, FLOPs"]
    params: Annotated[Band, "parameters N* at each compute"]
    tokens: Annotated[Band, "tokens D* at each compute"]
    loss: Annotated[Band, "loss at each compute, nats per token"]
    tokens_per_param: Annotated[Band, "D* / N* at each compute"]
    exponents: Annotated[OptimumExponents, "growth of N* and D*"]


class Surface(TypedDict):
    """The law's loss over a grid of sizes and tokens."""

    params: Annotated[list[float], "parameters, rising"]
    tokens: Annotated[list[float], "tokens, rising"]
    loss: Annotated[list[list[float | None]], "loss, one row a size, one column a token count"]


class LawCurve(Band):
    """A law of one variable over the data and a little beyond, in the law's own quantity."""

    x: Annotated[list[float], "the variable, rising"]


class LawEntry(TypedDict):
    """A law that was asked for."""

    name: Annotated[str, "name within this document: the law's, a law of one variable with its variable"]
    law: Annotated[str, "key of `scaling.analysis.laws.LAWS`, of a formula with its columns, or module:Class"]
    variables: Annotated[list[str], "symbols of the law's variables in these data"]
    equation: Annotated[str, "the law's formula"]
    source: Annotated[str, "publication of the law"]


class PredictedRuns(TypedDict):
    """The law's values at the runs, and its own columns; absent in files of earlier versions."""

    predicted: NotRequired[Annotated[list[float | None], "the law's value at each run, in the order of the residuals"]]
    columns: NotRequired[Annotated[dict[str, list[float]], "least and largest value of each of the law's variables"]]
    noise_sd: NotRequired[
        Annotated[
            float | None, "standard deviation of one run about a law fitted on the linear scale; absent for others"
        ]
    ]
    output: NotRequired[Annotated[str, "column of the measured values; absent where that is the loss"]]
    measured: NotRequired[Annotated[list[float | None], "measured values of `output`; absent where that is the loss"]]


class FittedEntry(LawEntry, PredictedRuns):
    """A law that was fitted."""

    status: Annotated[FitStatus, "end of the search"]
    why: Annotated[str, "troubles of the fit; empty without any"]
    params: Annotated[dict[str, float | None], "value of each parameter, by symbol"]
    derived: Annotated[dict[str, float | None], "quantities that follow; a, b and G of chinchilla hold for C = 6 N D"]
    objective: Annotated[float | None, "weighted sum of penalties at the optimum"]
    loss: Annotated[LossSettings, "penalty that was minimised"]
    n: Annotated[int, "observations"]
    aicc: Annotated[float | None, "second-order Akaike criterion; null where observations are too few"]
    noise_sd_log: Annotated[
        float | None, "standard deviation of one run's log loss about the law; null where observations are too few"
    ]
    evidence: Annotated[EvidenceEntry, "evidence that this is the global optimum"]
    identification: Annotated[dict[str, IdentificationEntry], "finding by parameter; empty without resamples"]
    residuals: Annotated[list[float | None], "log measured - log predicted, in the order of the observations"]
    intervals: Annotated[dict[str, Interval], "interval by parameter; empty without resamples"]
    derived_intervals: Annotated[dict[str, Interval], "interval by derived quantity; empty without resamples"]
    no_interval: NotRequired[
        Annotated[str, "reason why there are no resamples; empty where there are; absent in files of earlier versions"]
    ]
    draws: Annotated[Draws | None, "the resamples; null without"]
    optimum: Annotated[OptimumSection | None, "compute optimum; null where the law has none"]
    surface: Annotated[Surface | None, "loss over N and D; null for other laws"]
    curve: NotRequired[
        Annotated[
            LawCurve | None, "curve of a law of one variable; null for others; absent in files of earlier versions"
        ]
    ]
    profiles: Annotated[dict[str, ProfileEntry], "profile by parameter; empty where none was made"]
    held: NotRequired[
        Annotated[
            dict[str, float | None], "parameters that the fit held, with values; absent in files of earlier versions"
        ]
    ]
    verdict: NotRequired[
        Annotated[VerdictEntry, "whether the runs reject the law; absent in files of earlier versions"]
    ]
    rows: NotRequired[Annotated[list[int], "row of each residual; only where fewer than all observations were used"]]


def no_interval(entry: FittedEntry) -> str:
    """The reason why a fit's numbers have no intervals; empty where they have."""
    return entry.get("no_interval", "" if entry["draws"] else NO_RESAMPLES)


class RefusedEntry(LawEntry):
    """A law that the data do not suit: the reason, and nothing fitted."""

    status: Annotated[Literal["refused"], "the law was not fitted"]
    why: Annotated[str, "reason"]
    params: Annotated[dict[str, float | None], "empty"]
    derived: Annotated[dict[str, float | None], "empty"]
    objective: Annotated[None, "null"]
    intervals: Annotated[dict[str, Interval], "empty"]
    derived_intervals: Annotated[dict[str, Interval], "empty"]
    profiles: Annotated[dict[str, ProfileEntry], "empty"]
    identification: Annotated[dict[str, IdentificationEntry], "empty"]
    residuals: Annotated[list[float | None], "empty"]
    draws: Annotated[None, "null"]
    optimum: Annotated[None, "null"]
    surface: Annotated[None, "null"]
    curve: Annotated[None, "null"]


FitEntry: TypeAlias = FittedEntry | RefusedEntry
