"""The forecast of a run in progress: its present loss, the loss at its end with an interval, and their worth."""

from pathlib import Path

import numpy as np

from scaling.analysis.curves.course import Array
from scaling.analysis.curves.ends import (
    LEAST_PEERS,
    LEVEL,
    End,
    Peers,
    forecast_end,
    half_width,
    inside,
    nearest,
    own_errors,
    typical_priors,
)
from scaling.analysis.curves.reading import LEAST_POINTS, RunCurve, read_curve, read_curves
from scaling.analysis.quantiles import normal_quantile
from scaling.analysis.schema.intervals import Estimated
from scaling.analysis.schema.whole_curves import (
    CurveLawName,
    CurveLoss,
    CurveMember,
    CurveRollouts,
    RolledOut,
    RunForecast,
)
from scaling.analysis.words import listed, share_text


def forecast_run(run_dir: Path) -> RunForecast:
    """The forecast of the end of a run; a finished run's own end.

    ValueError for a run without a spec, a schedule with a formula, or the points that a forecast takes.
    """
    curve = read_curve(run_dir)
    if curve.is_done:
        return _document(curve, "validation", None, None)
    kind = _kind(curve, curve.step)
    others = [one for one in read_curves(run_dir.parent)[0] if _serves(one, curve, kind)]
    peers, typical = Peers(nearest(curve, others), kind), typical_priors()
    if len(peers.curves) >= LEAST_PEERS:
        end = forecast_end(curve, curve.step, kind, peers.priors())
        errors = peers.errors(curve.step / curve.steps)
        return _document(curve, kind, end, _rollouts("study", errors), half_width(errors))
    end = forecast_end(curve, curve.step, kind, typical)
    errors = own_errors(curve, kind, typical)
    width = float(np.hypot(half_width(errors), normal_quantile(0.5 + LEVEL / 2) * end.doubt))
    return _document(curve, kind, end, _rollouts("run", errors), width)


def _kind(curve: RunCurve, until: float) -> CurveLoss:
    """The losses of a run that are fitted: the validation losses where there are enough, else the training losses."""
    counts: dict[CurveLoss, int] = {kind: len(curve.points(kind, until).places) for kind in ("validation", "training")}
    found = next((kind for kind, count in counts.items() if count >= LEAST_POINTS), None)
    if found is None:
        raise ValueError(
            f"{curve.path}/attempts/*/metrics.jsonl hold {counts['training']} rows from step {curve.first:.0f} to "
            f"{curve.step} of {curve.steps}: a forecast takes {LEAST_POINTS}; wait, or log more (runtime.log_points)"
        )
    return found


def _serves(one: RunCurve, curve: RunCurve, kind: CurveLoss) -> bool:
    """Whether a finished run can be cut where this run is, and has an end to compare with."""
    cut = curve.step / curve.steps * one.steps
    return one.run_id != curve.run_id and np.isfinite(one.final) and len(one.points(kind, cut).places) >= LEAST_POINTS


def _rollouts(of: RolledOut, errors: Array) -> CurveRollouts:
    return {"of": of, "count": len(errors), "rms": float(np.sqrt(np.mean(errors**2))), "inside": inside(errors)}


def _document(
    curve: RunCurve, kind: CurveLoss, end: End | None, rollouts: CurveRollouts | None, width: float = 0.0
) -> RunForecast:
    """The answer as a document; without a forecast the run is finished."""
    forecasts = kind if end is None else end.forecasts
    losses = curve.scores[1] if forecasts == "validation" else curve.rows[1]
    loss: Estimated | None = None
    laws: dict[CurveLawName, CurveMember] = {}
    if end is not None:
        low, high = end.loss * np.exp([-width, width])
        loss = {"value": end.loss, "low": float(low), "high": float(high)}
        peak = curve.course.peak
        laws = {
            name: {"loss": end.losses[name], "parameters": dict(end.fits[name].parameters(peak))} for name in end.fits
        }
    return {
        "run": str(curve.path),
        "run_id": curve.run_id,
        "state": curve.state.status,
        "schedule": curve.schedule,
        "step": curve.step,
        "steps": curve.steps,
        "measured": kind,
        "forecasts": forecasts,
        "present": float(losses[-1]),
        "loss": loss,
        "final": float(curve.final) if curve.is_done and np.isfinite(curve.final) else None,
        "level": LEVEL,
        "laws": laws,
        "rollouts": rollouts,
        "words": "the run is finished: this is its end" if rollouts is None else _worth(rollouts, curve),
    }


def _worth(found: CurveRollouts, curve: RunCurve) -> str:
    """The roll-outs in a sentence."""
    cut = f"cut at {curve.step / curve.steps:.0%} of their steps" if found["of"] == "study" else "of its own curve"
    whose = f"{found['count']} finished runs {cut}" if found["of"] == "study" else f"{found['count']} cuts {cut}"
    words = f"held out: {whose}, rms error {share_text(found['rms'], 2)}"
    if found["of"] == "run":
        return f"{words}; fewer than {LEAST_PEERS} finished runs of the study, so a cooldown's gain is a typical one"
    return f"{words}; the others' {LEVEL:.0%} interval held {found['inside']} of {found['count']}"


def describe_run(found: RunForecast) -> str:
    """The forecast in words, a line each: the run, its present, its end, the laws, their worth."""
    place = f"step {found['step']:,} of {found['steps']:,} ({found['step'] / found['steps']:.0%})"
    lines = [f"{found['run']}: {found['state']}, {place}, learning rate {found['schedule']}"]
    loss = found["loss"]
    if loss is None:
        end = "no validation loss" if found["final"] is None else f"validation loss {found['final']:.4f}"
        return "\n".join([*lines, f"finished already, with {end}: nothing is left to forecast"])
    lines.append(f"present {found['forecasts']} loss {found['present']:.4f}")
    lines.append(
        f"forecast {found['forecasts']} loss at the end {loss['value']:.4f} [{loss['low']:.4f}, {loss['high']:.4f}] "
        f"({found['level']:.0%} interval)"
    )
    members = [f"{name} {one['loss']:.4f}" for name, one in found["laws"].items()]
    lines.append(f"log mean of {listed(members)}, fitted to its {found['measured']} losses")
    return "\n".join([*lines, found["words"]])
