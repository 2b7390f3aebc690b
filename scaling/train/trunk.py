"""The runs that branch off the one being trained: their curves up to there, and the checkpoint that each begins from.

A run in a plan of branches (`plan/branches.py`) that passes the step where a shorter one leaves the common trunk
writes there the checkpoint that the shorter one would have written, had it been trained alone: as
checkpoint/0000-SSSSSSSS of that run, published by one rename, its metric rows inside. Whoever then claims the run
resumes from it as from its own. Nobody owns the trunk, and none waits for it: where the checkpoint is missing, a run
takes all its steps itself.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scaling.data.manifest import Manifest
from scaling.plan.branches import is_begun, trunk_id, trunk_steps
from scaling.plan.plan import read_plan
from scaling.records.attempt import Attempt
from scaling.records.record import read_record
from scaling.spec.run_spec import RunSpec
from scaling.spec.runtime import Runtime
from scaling.train import checkpoint
from scaling.train.metric_rows import BLANK, MetricRows


@dataclass
class Branch:
    """A shorter run whose steps are, up to its cooldown, those of the run being trained."""

    run_id: str
    steps: int
    leaves_at: int
    rows: list[dict[str, Any]]
    curve: MetricRows

    def state(self) -> dict[str, Any]:
        return {"steps": self.steps, "leaves_at": self.leaves_at, "rows": self.rows, **self.curve.state()}


def planned_branches(spec: RunSpec, study_dir: Path) -> dict[str, dict[str, Any]]:
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


class Trunk:
    """The branches that are still ahead of the run being trained."""

    def __init__(
        self, spec: RunSpec, state: Mapping[str, Any], manifest: Manifest, runtime: Runtime, device: torch.device
    ) -> None:
        """`state` is the run's, whose "branches" holds theirs."""
        self._spec, self._study_dir = spec, runtime.study_dir
        self.branches = []
        for run_id, kept in state["branches"].items():
            curve = MetricRows(spec, kept["steps"], manifest, runtime, device, state["train_s"])
            curve.restore(kept)
            self.branches.append(Branch(run_id, kept["steps"], kept["leaves_at"], list(kept["rows"]), curve))

    @property
    def curves(self) -> list[MetricRows]:
        return [branch.curve for branch in self.branches]

    def due(self, step: int) -> bool:
        """Whether a branch has something to note, or leaves, at this step."""
        return any(step in branch.curve.steps or step == branch.leaves_at for branch in self.branches)

    def pass_step(
        self,
        state: dict[str, Any],
        take_row: Callable[[MetricRows], object],
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """Note what the branches would have noted after step `state["step"]`, and let go those that leave here."""
        step = state["step"]
        for branch in self.branches:
            if step in branch.curve.steps:
                take_row(branch.curve)
                branch.rows.append(branch.curve.row)
        # One that would have ended as diverged by here is left to do so by itself.
        for branch in [branch for branch in self.branches if step == branch.leaves_at and not branch.curve.diverged]:
            self._begin(branch, state, model, optimizer)
        self.branches = [b for b in self.branches if step < b.leaves_at and not b.curve.diverged]

    def state(self) -> dict[str, dict[str, Any]]:
        """What a checkpoint keeps of the branches ahead, by run id."""
        return {branch.run_id: branch.state() for branch in self.branches}

    def _begin(
        self, branch: Branch, state: Mapping[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer
    ) -> None:
        run_dir = self._study_dir / branch.run_id
        if read_record(run_dir) is not None:
            return
        run_dir.mkdir(exist_ok=True)
        begun = {
            "step": branch.leaves_at,
            "predicted_tokens": state["predicted_tokens"],
            **branch.curve.state(),
            "rows": branch.rows,
            "trunk": {"steps": branch.leaves_at, "paid_by": self._spec.run_id},
        }
        checkpoint.save(Attempt(run_dir, 0), model, optimizer, begun)
