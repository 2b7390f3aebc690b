"""results.json: assemble, write, read and summarise all that the analysis found. Nothing downstream fits.

Raw counts everywhere: parameters and tokens in ones, compute in FLOPs, loss in nats per token; log is the
natural logarithm. null stands for what could not be stated. [g] is a list over the compute grid, [n] over the
observations, [b] and [m] over what is named beside them. Schema 1:

  schema        1
  source        [str]
  conventions   {"params" | "tokens" | "flops" | "loss": words for an axis label}
  settings      {"laws": [name], "loss": {"name", "delta", "on", "reduction"}, "bootstrap": resamples, "seed",
                 "level", "holdout": "budget" | null, "target_flops", "errors": "equal" | "given" | "seeds",
                 "errors_words": what the fits weigh runs by}
  warnings      [str], the gravest first; minima on a grid's edge before all else
  notes         [str], what was assumed
  excluded      [{"row": int | null, "run_id", "reason"}]
  range         {"params" | "tokens" | "flops" | "loss" | "tokens_per_param": [least, most]}
  cost          {"k", "gamma": of C = k N^gamma D, "spread": sd of log C about it, "ratio": {"least", "most"} of
                 C / (N D), "words"}; every optimum at a compute is under this cost
  observations  the rows used, as columns [n]: {"row", "run_id", "origin", "group", "params", "tokens",
                 "flops", "loss", "weight", "unique_tokens", "predicted_tokens": those of training that a loss
                 was taken of, "budget": its number in isoflop.budgets or null}
  fits          one a law, in the order asked for:
    name, law, variables     law is the key of analysis.laws.size_and_data.LAWS; name adds a one-variable law's variable
    equation, source         words
    status, why              "converged" | "at_bound" | "did_not_converge" | "refused" (and the rest is empty)
    params, derived          {symbol: value}; chinchilla derives a, b, G, which hold for C = 6 N D
    intervals, derived_intervals   {symbol: {"low", "high", "level", "method"}}; {} without resamples
    profiles                 {symbol: {"values": [m], "objective": [m], "threshold", "low", "high",
                              "closed": [low end, high end], "level"}}; {} where none were made
    identification           {symbol: {"kind", "sentence"}}: no bare number for what is not "identified"
    objective, loss, n, aicc, noise_sd_log
    evidence                 {"starts", "agreed", "kkt_residual", "at_bound", "unseen", "condition",
                              "iterations"}
    residuals                [n] log measured - log predicted, in the order of the observations
    rows                     only where fewer were used: the "row" of each residual
    draws                    {"names": [p], "values": [r][p], "drawn", "converged", "clusters"} | null
    optimum                  {"flops": [g], "params" | "tokens" | "loss" | "tokens_per_param":
                              {"value": [g], "low": [g] | null, "high": [g] | null}, "exponents": {"params" |
                              "tokens": {"value", "low", "high"}, slopes of log N*, log D* in log C at the largest
                              measured compute}} | null, where there is no optimum
    surface                  {"params": [m], "tokens": [m], "loss": [m][m], params by tokens} | null
    curve                    of a law of one variable: {"x": [m], "value": [m], "low", "high": [m] | null} | null
  isoflop       null, or
    budgets                  [{"budget_flops", "n", "observations": [numbers from 0], "params", "tokens",
                              "loss": by size, "edge": words or "", "parabola_bias": relative, or null,
                              "estimates": {"parabola" | "cubic" | "akima" | "surface":
                               {"params" | "tokens" | "loss" | "tokens_per_param":
                                {"value", "low", "high", "draws_with_minimum"}, "edge",
                                "curve": {"params": [m], "loss": [m]}}}}]
    laws                     {estimator: {"params" | "tokens" | "loss" | "tokens_per_param": {"equation",
                              "exponent", "coefficient", "floor", "interval": of the exponent, "budgets": [numbers],
                              "excess_scatter", "band": {"flops", "value", "low", "high"}} or
                              {"exponent": null, "why", "budgets"}}}
    used, why                the estimator whose numbers to quote, and the reason
    noise                    {"method": "seeds" | "wild" | "parametric", "words", "loss_sd_nats",
                              "degrees_of_freedom", "draws"}
    runs_in_no_budget, tolerance
  envelope      null, or {"flops", "loss", "params", "tokens", "run_id", "interior": [b] by bin of compute,
                 "hull": [numbers], "laws": {"binned" | "hull": {"exponent", "coefficient", "interval"}},
                 "draws", "warnings"}
  curves        [{"run_id", "params", "tokens", "flops", "loss", "val_loss", "points_measured"}], thinned
  health        three diagnostics, each {"why"} alone where the runs do not carry it:
    collapse                 {"why": "", "verdict", "kind": "validation" | "training", "floor": {"law", "value", "low",
                              "high", "weak"}, "x": [x] shares of a run, "runs": {"run_id", "params", "flops", "model",
                              "normalised": [r][x], "departure", "mean_departure": [r]}, "spread", "seed_noise": [x] |
                              null, "overall_spread", "overall_seed_noise", "overall_at_floors", "allowed", "holds",
                              "tight", "departing": [numbers], "cooldown_from", "compared_from",
                              "seed_degrees_of_freedom"}
    noise_scale              {"why": "", "verdict", "level", "runs": {"run_id", "params", "flops", "loss", "batch",
                              "value", "low", "high": tokens, "side", "extra_tokens", "measured_steps": [r]}}
    seed_noise               {"why": "", "verdict", "level", "cells": {"params", "flops", "runs", "sd_nats", "low",
                              "high": [c]}, "pooled": {"sd_nats", "low", "high", "degrees_of_freedom"}, "trend": null |
                              {"slope", "low", "high", "told", "line": {"params", "sd_nats"}}}
  holdout       null, or
    table                    [{"law", "predictions", "rmse", "bias", "coverage", "level", "longest_decades",
                              "aicc", "delta_aicc"}], best first; rmse and bias are of the log loss
    predictions              [{"law", "quantity": "loss" | "params", "trained_to_flops", "tested_at_flops",
                              "horizon_decades", "n_trained", "n_tested", "bias", "rmse", "coverage"}]
    unscored                 [{"law", "trained_to_flops", "why"}]
  influence     null, or {"law", "target_flops", "params", "runs": [{"run", "params", "change": relative,
                 "why"}]}, the largest move first
  choices       null, or {"law", "target_flops", "rows": [{"counting", "loss", "outliers", "budgets", "n",
                 "status", "why", "params", "tokens", "loss_nats", "exponent"}], the analysis's own first,
                 "spread": {"analyses", "answered", "params": [least, most], "tokens": [least, most],
                  "by_choice": {choice: {"options", "ratio", "tokens_ratio"}}}}
  forecast      {"forms": [names of fits, the leading one first], "calibration": {"loss" | "params":
                 {"factor", "rungs", "reach_decades", "words"}}, "reach_decades", "noise_sd_log", "z",
                 "at_target": what forecast.predict says at settings.target_flops | null}
  prices        null where fewer than two runs have a profile.json, or {"run_id": [m], "machine": words, "elsewhere":
                 runs profiled on another, "words": {"prefill" | "token": what was timed}, "measures": {"bytes" |
                 "train_flops" | "prefill" | "token" | "memory": {"label", "series": {"fp32" | "bf16" | "int8" | "":
                  {"price": [m], "loss": [m]}}, "front": {"price", "loss": of the Pareto front, cheapest first}}}}
  serving       null without a target, or the cheapest model of the loss that is optimal there against tokens served
                 [s]: {"flops", "loss", "law", "served": [s], "params" | "tokens" | "saving": {"value": [s], "low",
                  "high": [s] | null}, "usual": {"params", "tokens"}: the training-optimal, "words"}
  comparison    null, or these runs beside those of the same measure under other treatments (see `treatments`):
    settings, level          the settings that differ
    treatments               {part: {"budgets": [{"flops", "edge", "value", "low", "high": of the loss at the optimum}],
                              "law": isoflop.laws.parabola.loss, "noise": words}}
    pairs                    [{"names": [first, second], "cells": {"flops", "params", "difference": second - first, of
                              the loss in nats [c]}, "difference": {"cells", "lower", "mean_nats", "se_nats", "low",
                              "high"}, "by_budget": [{"flops", and the same}], "multiplier": {"why": "", "better",
                              "worse", "at_flops": middle, "loss", "value": times the better's FLOPs that the worse
                              needs, "low", "high": null where open, "told", "no_interval"} or {"why"}, "verdict"}]
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.fitting.bootstrap import identify
from analysis.fitting.fit import Loss
from analysis.health import seed_noise
from analysis.isoflop import minima
from analysis.isoflop.minima import IsoFlop
from analysis.judgement import forecast
from analysis.judgement.choices import influence, multiverse, spread
from analysis.judgement.forecast import Form
from analysis.judgement.holdout import Z_LEVEL, Score, Unscored, calibrate, compare, noise_sd, roll_out
from analysis.judgement.prices import prices_section
from analysis.judgement.serving import serving_section
from analysis.laws.law import SIX_N_D
from analysis.results import fits as fit_section
from analysis.results import sections
from analysis.results.health import health_section
from analysis.results.isoflop import isoflop_section, optima_of
from analysis.results.requested_fits import Fitted, Wanted, fit_all, forms_of_fits, parse_laws
from analysis.results.summary import summary, warnings_of
from analysis.runs.comparable import refuse_mixture
from analysis.runs.observations import Observations
from scaling.records.files import write_text

Array = NDArray[np.float64]

__all__ = ["SCHEMA", "analyse", "parse_laws", "read", "summary", "write"]

SCHEMA = 1
LEVEL = 0.95
DEFAULT_LOSS = Loss()
GRID_POINTS = 81
GRID_DECADES_BEYOND = 3.0  # how far the bands are drawn past the largest compute
TARGET_BEYOND = 10.0  # the decision's compute, unless given, as a multiple of the largest measured, rounded
ENVELOPE_DRAWS = 200
HOLDOUTS = ("budget",)


def analyse(
    observations: Observations,
    *,
    laws: Sequence[str] = ("chinchilla",),
    loss: Loss = DEFAULT_LOSS,
    bootstrap: int = 1000,
    seed: int = 0,
    holdout: str | None = "budget",
    target_flops: float | None = None,
    errors: str = "given",
) -> dict[str, Any]:
    """Fit every law and measure everything in the schema above; the result is plain JSON values.

    A law of one variable is named with it, as "power:N"; without, it is compute. `bootstrap` 0 gives point
    fits and isoFLOP minima alone: no intervals, roll-outs, influence or choices. `errors` is what runs are
    weighed by, a choice of `seed_noise.ERRORS`. A law that the data cannot determine is recorded as refused;
    ValueError when that leaves none.
    """
    if bootstrap < 0:
        raise ValueError(f"bootstrap must be 0 (no resamples) or more, got {bootstrap}")
    if holdout is not None and holdout not in HOLDOUTS:
        raise ValueError(f"unknown holdout {holdout!r}; choose from {', '.join(HOLDOUTS)}, or leave it out")
    wanted = parse_laws(laws)
    refuse_mixture(observations)
    noise = seed_noise.measure(observations, LEVEL)
    observations, weighing = seed_noise.apply_errors(observations, errors, noise)
    losses = observations.column("loss")
    if np.ptp(losses) <= 1e-12 * losses.max():
        raise ValueError(f"every loss is the same, {losses[0]:g} (n = {len(losses)}): there is nothing to fit")
    flops = observations.column("flops")
    target = float(f"{flops.max() * TARGET_BEYOND:.3g}") if target_flops is None else target_flops
    grid = np.geomspace(flops.min(), max(flops.max() * 10**GRID_DECADES_BEYOND, target), GRID_POINTS)
    fits, refused = fit_all(observations, wanted, loss, bootstrap, seed)
    study, no_isoflop = _isoflop(observations, bootstrap, seed)
    scores: list[Score] = []
    unscored: list[Unscored] = []
    surfaces = {name: one for name, one in fits.items() if set(one.variables) == {"N", "D"}}
    if holdout is not None and bootstrap > 0:
        rolled: Wanted = {name: (type(one.fit.law), one.variables) for name, one in surfaces.items()}
        optima = optima_of(study) if study is not None else []
        scores, unscored = roll_out(observations, rolled, loss=loss, seed=seed, optima=optima)
    table = compare(scores, {name: one.fit for name, one in surfaces.items()})
    forms = forms_of_fits(surfaces, [row["law"] for row in table])
    lead = forms[0] if forms else None
    cost = sections.cost_section(observations)
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "source": list(observations.source),
        "conventions": dict(observations.conventions),
        "settings": {
            "laws": list(wanted),
            "loss": sections.loss_section(loss),
            "bootstrap": bootstrap,
            "seed": seed,
            "level": LEVEL,
            "holdout": holdout,
            "target_flops": target,
            **weighing,
        },
        "warnings": [],
        "notes": [*observations.notes, *([] if observations.cost == SIX_N_D else [cost["words"]]), *no_isoflop],
        "excluded": [{"row": e.row, "run_id": e.run_id, "reason": e.reason} for e in observations.excluded],
        "range": _ranges(observations),
        "cost": cost,
        "observations": sections.observations_section(observations, study.budgets if study is not None else ()),
        "fits": [_fit_section(name, fits, refused, wanted, observations, grid, target) for name in wanted],
        "isoflop": isoflop_section(study, lead, grid, LEVEL) if study is not None else None,
        "envelope": sections.envelope_section(
            observations, seed=seed, level=LEVEL, draws=min(bootstrap, ENVELOPE_DRAWS)
        ),
        "curves": sections.curves_section(observations),
        "holdout": sections.holdout_section(scores, unscored, table) if scores or unscored else None,
        **_decision(surfaces.get(lead.name) if lead is not None else None, target, bootstrap),
        "forecast": _calibration(forms, surfaces, scores),
        "prices": prices_section(observations),
        "serving": None,
        "comparison": None,
    }
    document["health"] = health_section(observations, document, noise, seed=seed, level=LEVEL)
    document = sections.plain(document)
    document["warnings"] = warnings_of(document)
    if forms:
        document["forecast"]["at_target"] = sections.plain(forecast.predict(document, flops=target))
        document["serving"] = sections.plain(serving_section(document))
    return document


def _isoflop(observations: Observations, draws: int, seed: int) -> tuple[IsoFlop | None, list[str]]:
    try:
        return minima.measure(observations, draws=draws, seed=seed), []
    except ValueError as error:
        return None, [f"isoFLOP: {error}"]


def _fit_section(
    name: str,
    fits: Mapping[str, Fitted],
    refused: Mapping[str, str],
    wanted: Wanted,
    whole: Observations,
    grid: Array,
    target: float,
) -> dict[str, Any]:
    if name in refused:
        return fit_section.refused_section(name, wanted[name][0], refused[name])
    one = fits[name]
    data = one.observations
    identified: Mapping[str, Any] = {}
    if one.resamples is not None:
        identified = identify(one.fit, one.resamples, one.profiles, level=LEVEL)
    section = fit_section.fit_section(name, one.fit, one.resamples, identified, data, grid, target, LEVEL)
    section["profiles"] = fit_section.profiles_section(one.profiles)
    if data is not whole:
        section["rows"] = data.table["row"].tolist()
    return section


def _decision(lead: Fitted | None, target: float, draws: int) -> dict[str, Any]:
    """Influence of runs on the leading law's answer at the target, and the answer under every other
    choice.
    """
    if lead is None or draws == 0:
        return {"influence": None, "choices": None}
    observations, fitted, variables = lead.observations, lead.fit, lead.variables
    moves = influence(observations, fitted, variables, target)
    rows = multiverse(observations, fitted, variables, target)
    named = {"law": fitted.law.name, "target_flops": target}
    here = fitted.law.optimum(target, observations.cost)
    return {
        "influence": {**named, "params": float(here.N), "runs": moves},
        "choices": {**named, "rows": rows, "spread": spread(rows)},
    }


def _calibration(forms: Sequence[Form], surfaces: Mapping[str, Fitted], scores: Sequence[Any]) -> dict[str, Any]:
    if not forms:
        return {
            "forms": [],
            "calibration": {},
            "reach_decades": 0.0,
            "noise_sd_log": None,
            "z": Z_LEVEL,
            "at_target": None,
        }
    lead = forms[0].name
    calibration = {quantity: calibrate(scores, lead, quantity) for quantity in ("loss", "params")}
    return {
        "forms": [form.name for form in forms],
        "calibration": calibration,
        "reach_decades": calibration["loss"]["reach_decades"],
        "noise_sd_log": noise_sd(surfaces[lead].fit),
        "z": Z_LEVEL,
        "at_target": None,
    }


def _ranges(observations: Observations) -> dict[str, list[float]]:
    values = {name: observations.column(name) for name in ("params", "tokens", "flops", "loss")}
    values["tokens_per_param"] = values["tokens"] / values["params"]
    return {name: [float(column.min()), float(column.max())] for name, column in values.items()}


def write(results: Mapping[str, Any], path: str | Path) -> None:
    """Write a results document whole or not at all; numbers that are not finite are refused."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(results, allow_nan=False, separators=(",", ":")))


def read(path: str | Path) -> dict[str, Any]:
    """Read a results document; ValueError for another file, or one of a newer schema."""
    path = Path(path)
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist; `scaling fit DATA --out DIR` writes DIR/results.json") from None
    except (UnicodeDecodeError, json.JSONDecodeError, IsADirectoryError) as error:
        raise ValueError(f"{path} is not a results.json ({error}); `scaling fit DATA --out DIR` writes one") from None
    if not isinstance(document, dict) or "schema" not in document or "fits" not in document:
        raise ValueError(
            f"{path} is not a results.json, without schema and fits; `scaling fit DATA --out DIR` writes one"
        )
    if document["schema"] != SCHEMA:
        raise ValueError(f"{path} has schema {document['schema']}, this version reads {SCHEMA}; fit the data again")
    return document
