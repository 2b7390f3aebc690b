"""Trunks: a run keeps the metric rows of the branches off its trunk, and writes the checkpoints that they start from.

In a plan of branches (`plan/branches.py`) a run passes the step where a shorter run, a branch, leaves their common
trunk. There the run writes the checkpoint that the branch, trained alone, would have written: checkpoint/0000-SSSSSSSS
of the branch, published by one rename, with its metric rows inside. The process that claims the branch resumes from
this checkpoint as from its own. No process owns the trunk or waits for it: without the checkpoint, a run takes all its
steps itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.data.manifest import Manifest
from scaling.plan.branches import is_begun, trunk_id, trunk_steps
from scaling.plan.plan_file import read_plan
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
    """A branch: a shorter run that shares its steps up to its cooldown with the run in training."""

    run_id: str
    steps: int
    leaves_at: int
    rows: MetricRows
    made: list[Row]  # rows of the branch so far

    def state(self) -> dict[str, Any]:
        return {"steps": self.steps, "leaves_at": self.leaves_at, "rows": self.made, **self.rows.state()}


class TrunkRows:
    """Metric rows of a run, and of the branches that have not left its trunk yet."""

    def __init__(
        self,
        spec: RunSpec,
        runtime: Runtime,
        manifest: Manifest,
        stepper: Stepper,
        progress: Progress,
        resume_from: checkpoint.Checkpoint | None,
    ) -> None:
        """Restore a checkpoint's rows and branches; without a checkpoint, take the branches of the study's plan."""
        self._run_id, self._study_dir = spec.run_id, runtime.study_dir
        self._stepper, self._progress = stepper, progress

        def rows(steps: int, state: dict[str, Any]) -> MetricRows:
            restored = MetricRows(spec, steps, manifest, runtime, stepper.device, progress.train_s)
            restored.restore(state)
            return restored

        state = BLANK if resume_from is None else resume_from.state
        planned = _planned(spec, runtime.study_dir) if resume_from is None else state.get("branches", {})
        self._own = rows(spec.recipe.steps, state)
        self._branches = [
            Branch(run_id, kept["steps"], kept["leaves_at"], rows(kept["steps"], kept), list(kept["rows"]))
            for run_id, kept in planned.items()
        ]

    @property
    def diverged(self) -> str:
        """The reason why the run ends as diverged; empty until then."""
        return self._own.diverged

    @property
    def last(self) -> Row:
        """The run's last row, as written."""
        return self._own.last

    @property
    def eval_flops(self) -> int:
        """FLOPs that the run has spent on validation."""
        return self._own.eval_flops

    def due(self, step: int) -> bool:
        """Whether after a step a row of the run or a branch is due, or a branch leaves the trunk."""
        return self._own.due(step) or any(
            branch.rows.due(step) or step == branch.leaves_at for branch in self._branches
        )

    def add(self, result: StepResult) -> None:
        """Add the result of a step."""
        self._own.add(result)
        for branch in self._branches:
            branch.rows.add(result)

    def make(
        self, step: int, lr: float, grad_norm: float, train_s: float, validate: Callable[[], Validation]
    ) -> Row | None:
        """Make the due rows of run and branches, and start the branches that leave; return the run's row or None."""
        row = self._own.make(step, lr, grad_norm, train_s, validate) if self._own.due(step) else None
        for branch in self._branches:
            if branch.rows.due(step):
                branch.rows.make(step, lr, grad_norm, train_s, validate)
                branch.made.append(branch.rows.last)
        # A branch that has diverged on the trunk gets no checkpoint: it diverges again in a run of its own.
        self._branches = [branch for branch in self._branches if not branch.rows.diverged]
        for branch in self._branches:
            if step == branch.leaves_at:
                self._begin(branch)
        self._branches = [branch for branch in self._branches if step < branch.leaves_at]
        return row

    def state(self) -> dict[str, Any]:
        """State for a checkpoint; reading the losses waits for the device."""
        return {**self._own.state(), "branches": {branch.run_id: branch.state() for branch in self._branches}}

    def _begin(self, branch: Branch) -> None:
        """Write the checkpoint that a branch starts from, unless the branch is finished."""
        run_dir = self._study_dir / branch.run_id
        if read_record(run_dir) is not None:
            return
        run_dir.mkdir(exist_ok=True)
        state = {
            "step": branch.leaves_at,
            "predicted_tokens": self._progress.predicted_tokens,
            **branch.rows.state(),
            "rows": branch.made,
            "trunk": {"steps": branch.leaves_at, "paid_by": self._run_id},
        }
        checkpoint.save(Attempt(run_dir, 0), checkpoint.tables_of(*self._stepper.whole()), state)


def _planned(spec: RunSpec, study_dir: Path) -> dict[str, dict[str, Any]]:
    """Branches of the study's plan that this run can start, by run id, with their state before the first step."""
    trunk, ours = trunk_id(spec), trunk_steps(spec)
    lines = [line for line in read_plan(study_dir) if trunk is not None and line.get("trunk") == trunk]
    return {
        line["run_id"]: {"steps": line["steps"], "leaves_at": line["trunk_steps"], "rows": [], **BLANK}
        for line in lines
        if line["run_id"] != spec.run_id
        and line["trunk_steps"] <= ours
        and not is_begun(study_dir / line["run_id"], line["trunk_steps"])
    }
