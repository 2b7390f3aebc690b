"""Schedules held out: the laws fitted to a family's constant and linear runs predict its other schedules.

A family is runs that differ in seed, length and schedule alone, such as the cooldowns off one trunk. Where it has no
constant and linear runs beside others, every schedule and length is predicted from the rest.
"""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from scaling.analysis.curves.fit import CurveFit, fit_curves
from scaling.analysis.curves.laws import CURVE_LAWS
from scaling.analysis.curves.reading import CONSTANT, LEAST_POINTS, RunCurve, read_curves
from scaling.analysis.schema.whole_curves import (
    CurveFamily,
    CurveLawName,
    CurveLoss,
    CurvePrediction,
    CurveStudy,
    FittedCurves,
    HeldSchedule,
    PredictedRun,
)
from scaling.analysis.words import count, share_text

FITTED = (CONSTANT, "linear")  # schedules, by their first word, that predict the others

Schedule = tuple[str, int]  # words and steps


def hold_out(study: Path) -> CurveStudy:
    """Fit the laws to a study's curves and predict schedules held out; ValueError where no family has two."""
    curves, left_out = read_curves(study)
    families: list[CurveFamily] = []
    for _, group in groupby(sorted(curves, key=lambda one: (one.params, one.family)), key=lambda one: one.family):
        runs = list(group)
        kind = _kind(runs)
        usable = [one for one in runs if len(one.points(kind).places) >= LEAST_POINTS and np.isfinite(one.end(kind))]
        left_out += [f"{one.path} has fewer than {LEAST_POINTS} rows" for one in runs if one not in usable]
        if len({_schedule(one) for one in usable}) < 2:
            left_out += [f"{one.path}: no other run differs from it in its schedule or length alone" for one in usable]
        else:
            families.append(_family(usable, kind))
    if not families:
        first = f" (first: {left_out[0]})" if left_out else ""
        raise ValueError(
            f"{study} has no two finished runs that differ in schedule or length alone{first}: train some, e.g. "
            "`scaling train +sweep=schedules -m`; `scaling predict --run RUN` forecasts a single run"
        )
    return {"study": str(study), "families": families, "held_out": _by_schedule(families), "left_out": left_out}


def _kind(runs: Sequence[RunCurve]) -> CurveLoss:
    enough = all(len(one.points("validation").places) >= LEAST_POINTS for one in runs)
    return "validation" if enough else "training"


def _schedule(curve: RunCurve) -> Schedule:
    return curve.schedule, curve.steps


def _family(runs: list[RunCurve], kind: CurveLoss) -> CurveFamily:
    schedules = list(dict.fromkeys(map(_schedule, runs)))
    chosen = [one for one in schedules if one[0].partition(" ")[0] in FITTED]
    by_rule = {one[0].partition(" ")[0] for one in chosen} == set(FITTED) and len(chosen) < len(schedules)
    if by_rule:
        parts = [(chosen, [one for one in schedules if one not in chosen])]
        rule = f"fitted to {_listed(chosen)}; the others are held out"
    else:
        parts = [([other for other in schedules if other != one], [one]) for one in schedules]
        parts = [(fitted, held) for fitted, held in parts if _shows_gain(fitted) or not _shows_gain(held)]
        rule = "every schedule and length is held out in turn, and predicted from the rest"
    predicted: list[PredictedRun] = []
    first: dict[CurveLawName, FittedCurves] = {}
    for fitted, held in parts:
        behind = [one for one in runs if _schedule(one) in fitted]
        fits = {name: fit_curves(law, [one.points(kind) for one in behind]) for name, law in CURVE_LAWS.items()}
        first = first or {name: _fitted(fit, fitted, runs[0].course.peak) for name, fit in fits.items()}
        shown = runs if by_rule else [one for one in runs if _schedule(one) in held]
        predicted += [_predicted(one, kind, fits, _schedule(one) in held) for one in shown]
    return {
        "params": runs[0].params,
        "learning_rate": runs[0].course.peak,
        "measured": kind,
        "rule": rule,
        "fits": first,
        "runs": predicted,
    }


def _shows_gain(schedules: Sequence[Schedule]) -> bool:
    """Whether a rate among the schedules falls, so that its gain is seen."""
    return any(words != CONSTANT for words, _ in schedules)


def _fitted(fit: CurveFit, schedules: Sequence[Schedule], peak: float) -> FittedCurves:
    bound = f"at the edge of its range: {', '.join(fit.at_bound)}" if fit.at_bound else ""
    failed = f"KKT residual {fit.residual:.1e} from {fit.starts} starts"
    return {
        "fitted_to": [f"{words}, {steps:,} steps" for words, steps in schedules],
        "parameters": dict(fit.parameters(peak)),
        "rms": fit.rms,
        "points": fit.points,
        "status": "did_not_converge" if not fit.is_minimum else "at_bound" if bound else "converged",
        "why": bound if fit.is_minimum else failed,
    }


def _predicted(curve: RunCurve, kind: CurveLoss, fits: dict[CurveLawName, CurveFit], held: bool) -> PredictedRun:
    points, end = curve.points(kind), curve.end(kind)
    laws: dict[CurveLawName, CurvePrediction] = {}
    for name, fit in fits.items():
        along, last = fit.loss(curve.course, points.places), float(fit.loss(curve.course, [curve.end_place(kind)])[0])
        laws[name] = {
            "loss": along.tolist(),
            "end": last,
            "error": float(np.log(end / last)),
            "rms": _rms(np.log(points.losses / along)),
        }
    return {
        "run_id": curve.run_id,
        "schedule": curve.schedule,
        "steps": curve.steps,
        "held_out": held,
        "place": points.places.tolist(),
        "measured": points.losses.tolist(),
        "end": end,
        "laws": laws,
    }


def _by_schedule(families: Sequence[CurveFamily]) -> list[HeldSchedule]:
    held = [run for family in families for run in family["runs"] if run["held_out"]]
    found: list[HeldSchedule] = []
    for schedule in dict.fromkeys(run["schedule"] for run in held):
        runs = [run["laws"] for run in held if run["schedule"] == schedule]
        found.append(
            {
                "schedule": schedule,
                "runs": len(runs),
                "end": {name: _rms([laws[name]["error"] for laws in runs]) for name in CURVE_LAWS},
                "curve": {name: _rms([laws[name]["rms"] for laws in runs]) for name in CURVE_LAWS},
            }
        )
    return found


def _rms(values: ArrayLike) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _listed(schedules: Sequence[Schedule]) -> str:
    return " and ".join(dict.fromkeys(words for words, _ in schedules))


def describe_study(found: CurveStudy) -> str:
    """The fits and the errors of schedules held out, in words, a line each."""
    lines = []
    for family in found["families"]:
        lines.append(
            f"{count(family['params'])} parameters, peak rate {family['learning_rate']:.3g}, {family['measured']} "
            f"losses: {family['rule']}"
        )
        for name, fit in family["fits"].items():
            values = ", ".join(f"{key} = {value:.4g}" for key, value in fit["parameters"].items())
            status = "" if fit["status"] == "converged" else f" ({fit['why']})"
            lines.append(f"  {name}: {values}; rms {share_text(fit['rms'], 2)} of {fit['points']} losses{status}")
    for one in found["held_out"]:
        errors = ", ".join(
            f"{name} {share_text(one['end'][name], 2)} at the end, {share_text(one['curve'][name], 2)} along the curve"
            for name in one["end"]
        )
        lines.append(f"held out, {one['schedule']} ({one['runs']} runs): {errors}")
    return "\n".join(lines)
