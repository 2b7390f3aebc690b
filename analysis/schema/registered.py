"""Forecasts registered before their target trains, predictions/HASH.json, and their grades in results.json.

A forecast is written once. Its file is named after the hash of its content, so an edited file betrays itself.
"""

from typing import Annotated, Literal, NotRequired, TypeAlias, TypedDict

from scaling.analysis.schema.forecast import Given
from scaling.analysis.schema.intervals import Estimated

FlopsCounting: TypeAlias = Literal["exact", "6nd"]
GradeState: TypeAlias = Literal["waiting", "graded", "late", "diverged", "damaged"]


class Target(TypedDict):
    """The run that a forecast is about, and the records that count as this run."""

    given: Annotated[dict[Given, float], "numbers that were asked about"]
    params: Annotated[float, "parameters; the predicted optimum where compute alone was asked about"]
    tokens: Annotated[float, "training tokens, likewise"]
    flops: Annotated[float, "training FLOPs"]
    counted: Annotated[str, "counting convention of the parameters, a key of n_params in record.json"]
    counted_flops: Annotated[FlopsCounting, "counting of the FLOPs: the record's own, or 6 N D"]
    within: Annotated[dict[Given, float], "largest factor between the target and its record, by quantity"]
    settings: Annotated[
        dict[str, str], "settings that all runs behind the forecast share and the record must share; empty if unknown"
    ]


class Method(TypedDict):
    """The method of a forecast."""

    name: Annotated[str, "fit or ensemble that gives the values"]
    members: Annotated[list[str], "every fit that the forecast rests on"]


class Inputs(TypedDict):
    """The inputs of a forecast, by digest."""

    sources: Annotated[list[str], "files, folders and projects that were read"]
    runs: Annotated[int, "rows that the fits used"]
    observations_sha256: Annotated[str, "digest of these rows"]
    results_sha256: Annotated[str, "digest of results.json"]
    part: Annotated[str, "part of the study; empty for a single one"]


class Code(TypedDict):
    """The version of the code."""

    version: Annotated[str, "version of the package"]
    commit: Annotated[str | None, "git commit, with + where files differ from it; null outside a checkout"]


class RegisteredForecast(TypedDict):
    """The whole file."""

    schema: Annotated[Literal[1], "version of this schema"]
    registered_at: Annotated[str, "time of the registration, ISO 8601, UTC"]
    target: Annotated[Target, "run that the forecast is about"]
    loss: Annotated[Estimated, "forecast loss, nats per token"]
    params: NotRequired[Annotated[Estimated, "forecast optimal parameters; absent where the size was given"]]
    tokens: NotRequired[Annotated[Estimated, "forecast optimal tokens, likewise"]]
    level: Annotated[float, "confidence level of the intervals, a share"]
    words: Annotated[str, "how far the interval was trusted"]
    method: Annotated[Method, "method of the forecast"]
    inputs: Annotated[Inputs, "inputs of the forecast"]
    code: Annotated[Code, "version of the code"]


class GradedRun(TypedDict):
    """The run that a forecast is graded by: the first to finish of all that match."""

    run_id: Annotated[str, "the run"]
    study: Annotated[str, "its study"]
    params: Annotated[float, "parameters, counted as the target's"]
    tokens: Annotated[float, "training tokens"]
    flops: Annotated[float, "training FLOPs, counted as the target's"]
    loss: Annotated[float | None, "measured validation loss, nats per token; null where it diverged"]
    started_at: Annotated[str, "time of its start"]
    ended_at: Annotated[str, "time of its end"]


class GradeEntry(TypedDict):
    """The grade of one registered forecast."""

    file: Annotated[str, "file of the forecast"]
    state: Annotated[
        GradeState,
        "waiting for its run, graded, late (the run had started before), diverged, or damaged (the file was edited)",
    ]
    words: Annotated[str, "the state in a sentence"]
    forecast: Annotated[RegisteredForecast | None, "the forecast; null where its file is damaged"]
    run: Annotated[GradedRun | None, "run that it is graded by; null without"]
    matches: Annotated[int, "finished runs that match the target, repeats included"]
    error: Annotated[float | None, "forecast over measured loss, less one; null without a measured loss"]
    z: Annotated[float | None, "log of measured over forecast, in its own standard deviations; null without interval"]
    inside: Annotated[bool | None, "whether the interval holds the measured loss; null likewise"]


class GradesSection(TypedDict):
    """The grades of a study's registered forecasts, and their running calibration."""

    entries: Annotated[list[GradeEntry], "one entry a forecast, the oldest first"]
    graded: Annotated[int, "forecasts of state graded with an interval"]
    inside: Annotated[int, "of these, intervals that held the measured loss"]
    words: Annotated[str, "the calibration in a sentence"]
