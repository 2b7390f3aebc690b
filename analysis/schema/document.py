"""results.json: all that `scaling fit` found, every number with its interval, its status and its reasons.

Counts are raw: parameters and tokens in ones, compute in FLOPs, loss in nats per token; log is the natural logarithm.
null stands for a number that could not be stated.
"""

from typing import Annotated, Literal, NotRequired, TypeAlias, TypedDict

from scaling.analysis.schema.curves import CurveEntry, EnvelopeSection, FrontiersSection
from scaling.analysis.schema.fits import FitEntry, LossSettings
from scaling.analysis.schema.forecast import ForecastSection
from scaling.analysis.schema.ground_truth import GroundTruthSection
from scaling.analysis.schema.health import HealthSection
from scaling.analysis.schema.isoflop import CurveModel, IsoflopSection
from scaling.analysis.schema.judgement import ChoicesSection, HoldoutSection, InfluenceSection
from scaling.analysis.schema.prices import PricesSection, ServingSection
from scaling.analysis.schema.registered import GradesSection
from scaling.analysis.schema.treatments import ComparisonSection

Errors: TypeAlias = Literal["equal", "given", "seeds"]
Holdout: TypeAlias = Literal["budget"]
RunQuantity: TypeAlias = Literal["params", "tokens", "flops", "loss"]  # of a run, with an axis of its own


class Conventions(TypedDict):
    """Words for the axis of each quantity: its counting convention and its unit."""

    params: Annotated[str, "parameters N"]
    tokens: Annotated[str, "training tokens D"]
    flops: Annotated[str, "training compute C"]
    loss: Annotated[str, "loss"]


class Settings(TypedDict):
    """The analysis that was asked for."""

    laws: Annotated[list[str], "names of the laws, one of one variable with the variable: `power:C`"]
    loss: Annotated[LossSettings, "penalty of a residual"]
    bootstrap: Annotated[int, "resamples of a fit; 0 gives no interval"]
    seed: Annotated[int, "seed of every random draw"]
    level: Annotated[float, "confidence level of every interval, a share"]
    holdout: Annotated[Holdout | None, "unit that roll-outs hold out; null where none was asked for"]
    minimum: NotRequired[
        Annotated[CurveModel | None, "curve model asked for; null where the runs decide, absent in older documents"]
    ]
    target_flops: Annotated[float | None, "compute of the decision, FLOPs; null where the source states no compute"]
    errors: Annotated[Errors, "weights of the runs: all alike, the source's own, or by the measured seed noise"]
    errors_words: Annotated[str, "weighting of the runs in every fit"]


class Excluded(TypedDict):
    """A row or run that no fit uses."""

    row: Annotated[int | None, "row number in the source, from 1; null for a run that gave no row"]
    run_id: Annotated[str, "the run, empty where the source names none"]
    reason: Annotated[str, "reason"]


class Range(TypedDict):
    """The least and the largest value of each quantity over the observations."""

    params: Annotated[
        list[float], "[least, largest] parameters; this and each below is empty where the source lacks the quantity"
    ]
    tokens: Annotated[list[float], "[least, largest] tokens"]
    flops: Annotated[list[float], "[least, largest] FLOPs"]
    loss: Annotated[list[float], "[least, largest] loss, nats per token"]
    tokens_per_param: Annotated[list[float], "[least, largest] tokens per parameter"]


class CostRatio(TypedDict):
    """The range of C / (N D) over the runs."""

    least: Annotated[float, "least C / (N D)"]
    most: Annotated[float, "largest C / (N D)"]


class CostSection(TypedDict):
    """The cost of a run, C = (limit N + k N^gamma) D; every optimum at a compute is under this cost."""

    k: Annotated[float, "factor; a negative one stands for C = limit N D / (1 + |k| / limit N^(gamma - 1))"]
    gamma: Annotated[float, "exponent of N"]
    limit: NotRequired[
        Annotated[float, "C / (N D) of endless models; absent, as 0, where C = k N^gamma D at every size"]
    ]
    spread: Annotated[float, "standard deviation of log C about the law"]
    ratio: Annotated[CostRatio, "range of C / (N D)"]
    words: Annotated[str, "the law, and the distance of the runs' FLOPs from 6 N D"]


class ObservationColumns(TypedDict):
    """The rows that the fits use, column by column, one entry an observation."""

    row: Annotated[list[int], "row number in the source, from 1"]
    run_id: Annotated[list[str], "run; rows of one run are resampled together"]
    origin: Annotated[list[str], "source"]
    group: Annotated[list[str], "group that the source names, such as a study"]
    params: Annotated[list[float | None], "parameters; null where the source lacks them"]
    tokens: Annotated[list[float | None], "training tokens; null where the source lacks them"]
    flops: Annotated[list[float | None], "training FLOPs; null where the source lacks them"]
    loss: Annotated[list[float], "loss, nats per token"]
    weight: Annotated[list[float], "weight in every fit, 1 on average"]
    unique_tokens: Annotated[
        list[float | None], "tokens of the training split; null where the source does not state it"
    ]
    predicted_tokens: NotRequired[
        Annotated[list[float | None], "training tokens that a loss was taken of; absent in files of earlier versions"]
    ]
    budget: Annotated[list[int | None], "position in isoflop.budgets, from 0; null in no budget"]


class Results(TypedDict):
    """The whole document."""

    schema: Annotated[Literal[1], "version of this schema"]
    source: Annotated[list[str], "files, folders and projects that were read"]
    conventions: Annotated[Conventions, "words for every axis"]
    settings: Annotated[Settings, "the analysis that was asked for"]
    inferred: NotRequired[
        Annotated[
            list[str],
            "columns, units, runs and counts that the reader inferred, each with its source; absent in "
            "files of earlier versions",
        ]
    ]
    warnings: Annotated[
        list[str],
        "warnings, the gravest first: damaged files, doubtful rows, settings, minima on a grid's edge, then all else",
    ]
    notes: Annotated[list[str], "assumptions"]
    excluded: Annotated[list[Excluded], "rows and runs that no fit uses"]
    range: Annotated[Range, "range of every quantity"]
    cost: Annotated[CostSection, "cost of a run"]
    observations: Annotated[ObservationColumns, "rows that the fits use"]
    fits: Annotated[list[FitEntry], "one entry a law, in the order asked for"]
    isoflop: Annotated[IsoflopSection | None, "minima at equal compute; null where no budget holds enough sizes"]
    envelope: Annotated[EnvelopeSection | None, "envelope of the training curves; null without enough curves"]
    frontiers: NotRequired[
        Annotated[
            FrontiersSection | None,
            "runs that no smaller run beats; null where a loss is not positive; absent in files of earlier versions",
        ]
    ]
    bytes_per_token: NotRequired[
        Annotated[
            float | None,
            "bytes of validation text to a token of the loss; null where unknown or not the same in all runs; absent "
            "in files of earlier versions",
        ]
    ]
    curves: Annotated[list[CurveEntry], "training curves, smallest model first; empty where the source has none"]
    holdout: Annotated[HoldoutSection | None, "roll-outs; null where none was made"]
    influence: Annotated[InfluenceSection | None, "runs that move the answer; null without resamples or an optimum"]
    choices: Annotated[ChoicesSection | None, "answers of other analyses; null without resamples or an optimum"]
    forecast: Annotated[ForecastSection, "basis of a prediction, and the prediction at the target"]
    prices: NotRequired[
        Annotated[
            PricesSection | None,
            "loss against prices; null where fewer than two runs have a profile; absent in files of earlier versions",
        ]
    ]
    serving: NotRequired[
        Annotated[
            ServingSection | None,
            "cheapest model against served tokens; null without an optimum; absent in files of earlier versions",
        ]
    ]
    comparison: Annotated[ComparisonSection | None, "treatments of one measure compared; null for a single treatment"]
    health: Annotated[HealthSection, "diagnostics of the study"]
    registered: NotRequired[
        Annotated[GradesSection | None, "grades of registered forecasts; null or absent where none was registered"]
    ]
    ground_truth: NotRequired[
        Annotated[
            GroundTruthSection | None,
            "measured exponents beside known ones; null where no source has a known law; absent in earlier versions",
        ]
    ]
