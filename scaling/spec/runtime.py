"""Runtime: how and where a run executes, none of which may change its outcome (beyond rounding)."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Runtime:
    """Everything about a run that is not its identity."""

    study: str
    runs_dir: Path
    cache_dir: Path  # prepared token files
    device: str  # "auto", "cpu" or "cuda"
    threads: int | None  # CPU threads of one run; None leaves torch's choice
    micro_batch_sequences: int | None  # at once; fewer than the batch accumulate gradients; None: as many as fit
    recompute_activations: bool  # keep only what each block was given, and compute the rest again backward
    cuda_graphs: bool  # on a GPU, replay the steps from a recording of one
    log_points: int  # metric rows over the run
    eval_fractions: tuple[float, ...]  # of the run at which to validate, besides its end
    checkpoint_every_s: float
    keep_weights: bool  # keep the final weights after the record is published
    progress: bool  # a progress line on this terminal
    tracker: str
    tracker_settings: dict[str, str | None]

    @property
    def study_dir(self) -> Path:
        return self.runs_dir / self.study

    def run_dir(self, run_id: str) -> Path:
        """Where a run of the study leaves its files."""
        return self.study_dir / run_id
