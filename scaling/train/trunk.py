"""The rows of a run, and of the shorter runs that branch off it: each of these gets the checkpoint that it begins from.

A run in a plan of branches (`plan/branches.py`) passes the step where a shorter one leaves their common trunk. There it
writes the checkpoint that the shorter run would have written, had it been trained alone: checkpoint/0000-SSSSSSSS of
that run, published by one rename, its metric rows inside. The process that then claims the run resumes from it as from
its own. Nobody owns the trunk, and nobody waits for it: where the checkpoint is missing, a run takes all its steps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.data.manifest import Manifest
from scaling.plan.branches import is_begun, trunk_id, trunk_steps
from scaling.plan.plan import read_plan
from scaling.records.attempt import Attempt
from scaling.records.record import read_record
from scaling.spec.run_spec import RunSpec
from scaling.spec.runtime import Runtime
from scaling.train import checkpoint
from scaling.train.checkpoint import Progress
from scaling.train.metric_rows import BLANK, MetricRows, Row
from scaling.train.step import Stepper, StepResult
from scaling.train.validation import Validation


@dataclass
class Branch:
    """A shorter run whose steps, up to its cooldown, are those of the run in training."""

    run_id: str
    steps: int
    leaves_at: int
    rows: MetricRows
    made: list[Row]  # its rows so far

    def state(self) -> dict[str, Any]:
        return {"steps": self.steps, "leaves_at": self.leaves_at, "rows": self.made, **self.rows.state()}


class TrunkRows:
    """The metric rows of a run, and of the branches still ahead of it."""

    def __init__(
        self,
        spec: RunSpec,
        runtime: Runtime,
        manifest: Manifest,
        stepper: Stepper,
        progress: Progress,
        resume_from: checkpoint.Checkpoint | None,
    ) -> None:
        """Go on from a checkpoint; without one, with every branch in the study's plan that this run can begin."""
        self._run_id, self._study_dir = spec.run_id, runtime.study_dir
        self._stepper, self._progress = stepper, progress

        def rows(steps: int, state: dict[str, Any]) -> MetricRows:
            found = MetricRows(spec, steps, manifest, runtime, stepper.device, progress.train_s)
            found.restore(state)
            return found

        state = BLANK if resume_from is None else resume_from.state
        planned = _planned(spec, runtime.study_dir) if resume_from is None else state.get("branches", {})
        self._own = rows(spec.recipe.steps, state)
        self._branches = [
            Branch(run_id, kept["steps"], kept["leaves_at"], rows(kept["steps"], kept), list(kept["rows"]))
            for run_id, kept in planned.items()
        ]

    @property
    def diverged(self) -> str:
        """Why the run ends as diverged, once it does."""
        return self._own.diverged

    @property
    def last(self) -> Row:
        """The run's last row, as it is written."""
        return self._own.last

    @property
    def eval_flops(self) -> int:
        """FLOPs that the run has spent on validation."""
        return self._own.eval_flops

    def due(self, step: int) -> bool:
        """Whether the run or a branch makes a row after this step, or a branch leaves."""
        return self._own.due(step) or any(
            branch.rows.due(step) or step == branch.leaves_at for branch in self._branches
        )

    def add(self, result: StepResult) -> None:
        """Count in the result of a step."""
        self._own.add(result)
        for branch in self._branches:
            branch.rows.add(result)

    def make(
        self, step: int, lr: float, grad_norm: float, train_s: float, validate: Callable[[], Validation]
    ) -> Row | None:
        """The run's own row after this step, if one is due; branches make theirs, and leave where they do."""
        row = self._own.make(step, lr, grad_norm, train_s, validate) if self._own.due(step) else None
        for branch in self._branches:
            if branch.rows.due(step):
                branch.rows.make(step, lr, grad_norm, train_s, validate)
                branch.made.append(branch.rows.last)
        # A branch that would have diverged by here is left to do so by itself.
        self._branches = [branch for branch in self._branches if not branch.rows.diverged]
        for branch in self._branches:
            if step == branch.leaves_at:
                self._begin(branch)
        self._branches = [branch for branch in self._branches if step < branch.leaves_at]
        return row

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps; reading the losses waits for the device."""
        return {**self._own.state(), "branches": {branch.run_id: branch.state() for branch in self._branches}}

    def _begin(self, branch: Branch) -> None:
        """Write the checkpoint from which a branch goes on, unless the branch is finished."""
        run_dir = self._study_dir / branch.run_id
        if read_record(run_dir) is not None:
            return
        run_dir.mkdir(exist_ok=True)
        begun = {
            "step": branch.leaves_at,
            "predicted_tokens": self._progress.predicted_tokens,
            **branch.rows.state(),
            "rows": branch.made,
            "trunk": {"steps": branch.leaves_at, "paid_by": self._run_id},
        }
        checkpoint.save(Attempt(run_dir, 0), self._stepper.model, self._stepper.optimizer, begun)


def _planned(spec: RunSpec, study_dir: Path) -> dict[str, dict[str, Any]]:
    """The state, before the first step, of every branch in the study's plan that this run can begin, by run id."""
    trunk, ours = trunk_id(spec), trunk_steps(spec)
    lines = [line for line in read_plan(study_dir) if trunk is not None and line.get("trunk") == trunk]
    return {
        line["run_id"]: {"steps": line["steps"], "leaves_at": line["trunk_steps"], "rows": [], **BLANK}
        for line in lines
        if line["run_id"] != spec.run_id
        and line["trunk_steps"] <= ours
        and not is_begun(study_dir / line["run_id"], line["trunk_steps"])
    }
