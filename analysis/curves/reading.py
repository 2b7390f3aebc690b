"""Curves of runs: the losses that a run has logged, and the learning rate of every step, taken or not.

A training loss is the mean over the steps since the row before, so it stands at the middle of these steps; a validation
loss stands at its step.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from scaling.analysis.curves.course import Array, Course
from scaling.analysis.curves.fit import Points
from scaling.analysis.schema.whole_curves import CurveLoss
from scaling.records.attempt import RunState, run_state
from scaling.records.recipes import family_id, learning_rate_factors, read_spec
from scaling.records.record import DIVERGED, DONE, read_metrics, run_dirs
from scaling.shapes.matmuls import parameter_counts

LEAST_POINTS = 12  # of a curve
MOST_POINTS = 64  # neighbours beyond are averaged
CONSTANT = "constant"
EARLY = 0.05  # share of the run after the warm-up that no law describes


@dataclass(frozen=True, eq=False)
class RunCurve:
    """The curve of one run."""

    path: Path
    run_id: str
    family: str  # equal for runs that differ in seed, length and schedule alone
    params: int  # non-embedding
    steps: int  # of the whole run
    step: int  # of the last row
    tokens: int  # of the whole run
    state: RunState
    schedule: str  # in words
    course: Course
    rows: tuple[Array, Array]  # step and training loss of every row with one, (n,) each
    scores: tuple[Array, Array]  # step and validation loss, (m,) each

    @property
    def is_done(self) -> bool:
        """Whether the run has reached its end."""
        return self.state.status == DONE

    @cached_property
    def first(self) -> float:
        """The place from which on the laws describe the curve."""
        return self.course.warmup_steps + EARLY * (self.steps - self.course.warmup_steps)

    @cached_property
    def final(self) -> float:
        """The validation loss at the end of a finished run; nan without one."""
        return float(self.scores[1][-1]) if len(self.scores[0]) and self.scores[0][-1] == self.steps else np.nan

    def end(self, kind: CurveLoss) -> float:
        """The measured loss at the end: the validation loss, or the last of the training losses."""
        return self.final if kind == "validation" else float(self.rows[1][-1])

    def end_place(self, kind: CurveLoss) -> float:
        """The place of the loss at the end."""
        return float(self.steps if kind == "validation" else self._training[0][-1])

    def points(self, kind: CurveLoss, until: float = np.inf, most: int = MOST_POINTS) -> Points:
        """At most `most` points of the curve between its first place and `until`; neighbours are averaged."""
        places, losses = self._training if kind == "training" else self.scores
        kept = (places >= self.first) & (places <= until)
        parts = np.array_split(np.flatnonzero(kept), min(most, max(int(kept.sum()), 1)))
        at = np.array([places[part].mean() for part in parts if len(part)])
        mean = np.array([losses[part].mean() for part in parts if len(part)])
        return Points(self.course, at, mean, np.array([float(len(part)) for part in parts if len(part)]))

    @cached_property
    def _training(self) -> tuple[Array, Array]:
        """The place of every training loss, the updates done before the middle of its steps, and the loss."""
        step, loss = self.rows
        before = np.concatenate([[0.0], step[:-1]])
        return 0.5 * (before + step - 1.0), loss


def read_curve(run_dir: Path) -> RunCurve:
    """The curve of a run by its directory, running or done; ValueError names the file that has none, and the remedy."""
    spec, state = read_spec(run_dir), run_state(run_dir)
    if state.status == DIVERGED:
        raise ValueError(f"{run_dir} diverged ({state.why}): its curve has no end to forecast")
    if start := next((name for name in ("finetuned", "continued") if hasattr(spec, name)), None):
        raise ValueError(f"{run_dir / 'spec.json'} is of a {start} run: the laws describe curves from random weights")
    try:
        factors = learning_rate_factors(spec)
    except ValueError as error:
        raise ValueError(f"{run_dir / 'spec.json'}: {error}") from error
    damaged: list[str] = []
    rows = read_metrics(run_dir, damaged)
    trained = [row for row in rows if isinstance(row.get("train_loss"), float) and row["step"] <= spec.recipe.steps]
    scored = [row for row in trained if isinstance(row.get("val_loss"), float)]
    if not trained:
        why = f" ({'; '.join(damaged)})" if damaged else f": the run is {state.status}"
        raise ValueError(f"{run_dir}/attempts/*/metrics.jsonl hold no metric rows{why}; they come as the run trains")

    def columns(of: list[dict[str, object]], name: str) -> tuple[Array, Array]:
        return np.array([row["step"] for row in of], dtype=float), np.array([row[name] for row in of], dtype=float)

    schedule = spec.recipe.schedule
    return RunCurve(
        run_dir,
        spec.run_id,
        family_id(spec),
        parameter_counts(spec.model)["non_embedding"],
        spec.recipe.steps,
        int(trained[-1]["step"]),
        spec.train_tokens,
        state,
        in_words(
            schedule.kind,
            schedule.cooldown_shape,
            schedule.cooldown_steps / spec.recipe.steps,
            schedule.final_fraction,
        ),
        Course(np.array(factors), schedule.warmup_steps, spec.recipe.optimizer.learning_rate),
        columns(trained, "train_loss"),
        columns(scored, "val_loss"),
    )


def in_words(kind: str, shape: str, cooldown: float, final: float) -> str:
    """A schedule in words, by the share of the run that its cooldown takes: constant, cosine, linear over 20%."""
    if kind != "cosine" and not cooldown:
        return CONSTANT
    return (kind if kind == "cosine" else f"{shape} over {cooldown:.0%}") + (f" to {final:.0%}" if final else "")


def read_curves(study: Path) -> tuple[list[RunCurve], list[str]]:
    """The curves of a study's finished runs, smallest size first, and the reasons why others have none."""
    curves: list[RunCurve] = []
    left_out: list[str] = []
    for run_dir in run_dirs(study):
        try:
            curve = read_curve(run_dir)
        except ValueError as error:
            left_out.append(str(error))
            continue
        if curve.is_done:
            curves.append(curve)
        else:
            left_out.append(f"{run_dir} is {curve.state.status}, at step {curve.step} of {curve.steps}")
    return sorted(curves, key=lambda one: (one.params, one.steps, one.schedule)), left_out
