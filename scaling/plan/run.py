"""A run as asked for: resolved, not yet priced."""

from dataclasses import dataclass, field
from pathlib import Path

from scaling.data.prepare import DataConfig
from scaling.spec.budget import Allocation
from scaling.spec.recipe import Tuned
from scaling.spec.run_spec import RecipeSpec, RunSpec
from scaling.spec.runtime import Runtime


@dataclass(frozen=True)
class Run:
    """A run as asked for: what it is, what it may cost, and where and how it executes."""

    spec: RunSpec
    allocation: Allocation
    data: DataConfig
    runtime: Runtime
    budget_flops: float | None  # as asked for; None when tokens were
    tuned: Tuned | None  # where its recipe's laws were measured
    by_law: RecipeSpec | None  # of a run whose recipe is taken at a reference: what its own scale would give
    overrides: tuple[str, ...] = field(default=(), compare=False)

    @property
    def directory(self) -> Path:
        return self.runtime.run_dir(self.spec.run_id)
