"""Runs as configured: resolved, not yet priced."""

from dataclasses import dataclass, field
from pathlib import Path

from scaling.data.prepare import DataConfig
from scaling.plan.parents import Parent
from scaling.spec.budget import Allocation, Budget
from scaling.spec.recipe import Tuned
from scaling.spec.run_spec import RecipeSpec, RunSpec
from scaling.spec.runtime import Runtime


@dataclass(frozen=True)
class Run:
    """A configured run: its spec, its budget, and the runtime that it executes in."""

    spec: RunSpec
    allocation: Allocation
    data: DataConfig
    runtime: Runtime
    budget: Budget
    tuned: Tuned | None  # ranges in which the recipe's laws were measured
    by_law: RecipeSpec | None  # recipe at the run's own scale, where its own is taken at a reference; None otherwise
    parent: Parent | None = None  # run or checkpoint whose weights the run goes on from
    overrides: tuple[str, ...] = field(default=(), compare=False)

    @property
    def budget_flops(self) -> float | None:
        """Requested FLOPs; None where the budget is in tokens."""
        return self.budget.flops

    @property
    def directory(self) -> Path:
        """The folder of the run."""
        return self.runtime.run_dir(self.spec.run_id)
