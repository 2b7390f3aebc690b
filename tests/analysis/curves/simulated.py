"""Curves of known laws, summed step by step as the papers write them, and studies of such runs on disk."""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scaling.analysis.curves.course import Course
from scaling.records.recipes import learning_rate_factors
from scaling.records.record import to_json
from scaling.spec.run_spec import RunSpec, ScheduleSpec, to_dict
from tests.examples import RECORD, SPEC

Array = NDArray[np.float64]
PEAK, STEPS, WARMUP = 2e-3, 600, 30
CONSTANT = ScheduleSpec("wsd", WARMUP, 0, "linear", 0.0)
LINEAR = ScheduleSpec("wsd", WARMUP, 150, "linear", 0.0)
ROOT = ScheduleSpec("wsd", WARMUP, 150, "1-sqrt", 0.0)
COSINE = ScheduleSpec("cosine", WARMUP, 0, "cosine", 0.1)
ANNEALING = {"L0": 1.4, "A": 0.9, "alpha": 0.6, "C": 0.6, "lambda": 0.985}
MULTI_POWER = {"L0": 1.3, "A": 0.8, "alpha": 0.55, "B": 120.0, "C": 25.0, "beta": 0.6, "gamma": 0.4}


def spec_of(schedule: ScheduleSpec, steps: int = STEPS, seed: int = 0, width: int = 24) -> RunSpec:
    """A run with this schedule."""
    optimizer = replace(SPEC.recipe.optimizer, learning_rate=PEAK)
    recipe = replace(SPEC.recipe, steps=steps, schedule=schedule, optimizer=optimizer)
    return replace(SPEC, model=replace(SPEC.model, d_model=width), recipe=recipe, seed=seed)


def course_of(schedule: ScheduleSpec, steps: int = STEPS) -> Course:
    """The course of a schedule."""
    factors = learning_rate_factors(spec_of(schedule, steps))
    return Course(np.array(factors), schedule.warmup_steps, PEAK)


def annealing(rates: Array, warmup: int, p: dict[str, float]) -> Array:
    """Tissue et al. 2024: the loss after each update, by the recursion of the momentum."""
    momentum, area, areas = 0.0, 0.0, []
    for k, rate in enumerate(rates):
        momentum = p["lambda"] * momentum + (rates[k - 1] - rate if k > warmup else 0.0)
        area += momentum
        areas.append(area)
    return np.asarray(p["L0"] + p["A"] * np.cumsum(rates) ** -p["alpha"] - p["C"] * np.array(areas))


def multi_power(rates: Array, warmup: int, p: dict[str, float]) -> Array:
    """Luo et al. 2025: the loss after each update, by the double sum."""
    sums = np.cumsum(rates)
    gain = np.zeros_like(rates)
    for t in range(len(rates)):
        for k in range(warmup + 1, t + 1):
            since = sums[t] - sums[k - 1]
            share = 1 - (1 + p["C"] * rates[k] ** -p["gamma"] * since) ** -p["beta"]
            gain[t] += (rates[k - 1] - rates[k]) * share
    return np.asarray(p["L0"] + p["A"] * sums ** -p["alpha"] - p["B"] * gain)


Losses = Callable[[RunSpec], Array]  # the loss after each update of a run


def by_annealing(spec: RunSpec) -> Array:
    """The losses of a run under ANNEALING, with seeds and sizes that differ a little."""
    rates = PEAK * np.array(learning_rate_factors(spec))
    known = ANNEALING | {"L0": 1.4 + 0.01 * (spec.model.d_model - 24), "A": 0.9 * (1 + 0.002 * (spec.seed % 7 - 3))}
    return annealing(rates, spec.recipe.schedule.warmup_steps, known)


def write_run(study: Path, spec: RunSpec, losses: Array, done: int | None = None, noise: float = 1e-3) -> Path:
    """Write a run of a row every five steps and a validation loss at quarters; `done` steps of an unfinished one."""
    steps = spec.recipe.steps
    last = steps if done is None else done
    folder = study / spec.run_id
    (folder / "attempts" / "0001").mkdir(parents=True)
    (folder / "spec.json").write_text(json.dumps(to_dict(spec)))
    (folder / "attempts" / "0001" / "meta.json").write_text(json.dumps({"resumed_from_step": 0}))
    drawn = np.random.default_rng(spec.seed + spec.recipe.schedule.cooldown_steps)
    before, rows = losses[0], []
    for step in range(5, last + 1, 5):
        trained = np.append(before, losses[step - 5 : step])[:-1]  # the loss of a step is of the weights before it
        row = {"step": step, "train_loss": float(trained.mean() + noise * drawn.normal()), "lr": PEAK}
        if step * 4 % steps == 0:
            row["val_loss"] = float(losses[step - 1] + 0.05)
        rows.append(row)
        before = losses[step - 1]
    (folder / "attempts" / "0001" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if done is None:
        final = float(losses[-1] + 0.05)
        record = replace(RECORD, run_id=spec.run_id, spec=to_dict(spec), steps=steps, val_loss_nats=final)
        (folder / "record.json").write_text(json.dumps(to_json(record)))
    return folder


def write_study(study: Path, specs: Iterable[RunSpec], losses: Losses = by_annealing) -> list[Path]:
    """Write finished runs."""
    return [write_run(study, spec, losses(spec)) for spec in specs]
