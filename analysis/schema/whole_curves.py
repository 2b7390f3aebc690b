"""Laws of whole curves: the end of a run forecast from its middle, and the schedules of a study held out.

`scaling predict --run RUN --json` prints a RunForecast; `scaling curves STUDY` writes a CurveStudy as curves.json.
"""

from typing import Annotated, Literal, TypeAlias, TypedDict

from scaling.analysis.schema.intervals import Estimated

CurveLoss: TypeAlias = Literal["validation", "training"]
CurveLawName: TypeAlias = Literal["annealing", "multi_power"]
RolledOut: TypeAlias = Literal["study", "run"]


class CurveMember(TypedDict):
    """A law's forecast of the end of a run."""

    loss: Annotated[float, "loss at the end, nats per token"]
    parameters: Annotated[dict[str, float], "parameters by the paper's symbols, in nats and sums of learning rates"]


class CurveRollouts(TypedDict):
    """Forecasts made from the same share of curves whose later loss is known, and their errors."""

    of: Annotated[RolledOut, "finished runs of the study, or earlier stretches of the run itself"]
    count: Annotated[int, "forecasts"]
    rms: Annotated[float, "root mean square of log measured over forecast loss"]
    inside: Annotated[int, "of these, losses inside the interval that the other forecasts' errors give"]


class RunForecast(TypedDict):
    """The end of one run, forecast from its curve so far; of a finished run, its own end."""

    run: Annotated[str, "folder of the run"]
    run_id: Annotated[str, "the run"]
    state: Annotated[str, "state of the run, as `scaling status` names it"]
    schedule: Annotated[str, "its learning-rate schedule"]
    step: Annotated[int, "step of the last metric row"]
    steps: Annotated[int, "steps of the whole run"]
    measured: Annotated[CurveLoss, "losses that the laws are fitted to"]
    forecasts: Annotated[CurveLoss, "loss that is forecast; training where no validation loss was measured yet"]
    present: Annotated[float, "last loss of that kind, nats per token"]
    loss: Annotated[Estimated | None, "loss at the end, nats per token, by the log mean of the laws; null once known"]
    final: Annotated[float | None, "measured validation loss at the end; null while the run is unfinished"]
    level: Annotated[float, "confidence level of the interval, a share"]
    laws: Annotated[dict[CurveLawName, CurveMember], "each law's forecast"]
    rollouts: Annotated[CurveRollouts | None, "worth of such forecasts; null once the end is known"]
    words: Annotated[str, "the worth in a sentence"]


class CurvePrediction(TypedDict):
    """A law's prediction of one run's curve."""

    loss: Annotated[list[float], "predicted loss at each place of the curve, nats per token"]
    end: Annotated[float, "predicted loss after the last step"]
    error: Annotated[float, "log of measured over predicted loss at the end"]
    rms: Annotated[float, "root mean square of log measured over predicted loss along the curve"]


class PredictedRun(TypedDict):
    """A run of a family with its predictions."""

    run_id: Annotated[str, "the run"]
    schedule: Annotated[str, "its learning-rate schedule"]
    steps: Annotated[int, "steps of the whole run"]
    held_out: Annotated[bool, "whether the predictions come from fits without runs of this schedule and length"]
    place: Annotated[list[float], "places along the curve, updates done"]
    measured: Annotated[list[float], "loss there, nats per token"]
    end: Annotated[float, "measured loss at the end: the validation loss, or the last of the training losses"]
    laws: Annotated[dict[CurveLawName, CurvePrediction], "predictions by law"]


class FittedCurves(TypedDict):
    """A law fitted to the curves of a family."""

    fitted_to: Annotated[list[str], "schedules of the runs that it was fitted to"]
    parameters: Annotated[dict[str, float], "parameters by the paper's symbols, in nats and sums of learning rates"]
    rms: Annotated[float, "root mean square of log measured over fitted loss"]
    points: Annotated[int, "losses fitted"]
    status: Annotated[Literal["converged", "at_bound", "did_not_converge"], "how the search ended"]
    why: Annotated[str, "the reason, empty where it converged"]


class CurveFamily(TypedDict):
    """Runs that differ in seed, length and schedule alone."""

    params: Annotated[int, "parameters, non-embedding"]
    learning_rate: Annotated[float, "peak of the learning rate"]
    measured: Annotated[CurveLoss, "losses that the laws are fitted to"]
    rule: Annotated[str, "which schedules are fitted and which held out, in words"]
    fits: Annotated[dict[CurveLawName, FittedCurves], "the fit that predicts the first run held out, by law"]
    runs: Annotated[list[PredictedRun], "runs with their predictions"]


class HeldSchedule(TypedDict):
    """The errors of one schedule's held-out runs, over all families."""

    schedule: Annotated[str, "the schedule"]
    runs: Annotated[int, "runs held out"]
    end: Annotated[dict[CurveLawName, float], "root mean square error of the log loss at the end, by law"]
    curve: Annotated[dict[CurveLawName, float], "root mean square error of the log loss along the curves, by law"]


class CurveStudy(TypedDict):
    """The laws of whole curves on a study: their fits, and schedules held out."""

    study: Annotated[str, "folder of the study"]
    families: Annotated[list[CurveFamily], "families of at least two schedules or lengths, smallest size first"]
    held_out: Annotated[list[HeldSchedule], "errors by schedule"]
    left_out: Annotated[list[str], "runs without a prediction, with the reason"]
