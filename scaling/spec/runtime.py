"""Runtime: how and where a run executes; no setting here may change the run's outcome beyond rounding."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self


def check_study(study: str) -> None:
    """ValueError for a study whose folder would not lie inside the folder of studies."""
    path = Path(study)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        name = path.name if path.name not in ("", "..") else "NAME"
        raise ValueError(
            f"study={study}: its folder would not lie inside runs_dir: give a name, as study={name}; "
            f"runs_dir=DIR is the folder of all studies"
        )


@dataclass(frozen=True)
class Runtime:
    """Settings of a run that are no part of its identity."""

    study: str
    runs_dir: Path
    cache_dir: Path  # folder of prepared token files
    device: str  # "auto", "cpu", "cuda" or "mps"
    devices_per_run: int  # processes ("ranks") that train a run together, each on a device or slot of its own
    devices_by_plan: bool  # the plan is still to decide their number (runtime.devices_per_run=auto)
    nodes_per_run: int  # nodes that these processes are spread over evenly
    parallel: str  # kind of parallelism of these processes: "auto", "ddp", "fsdp" or "hsdp" (`parallel.py`)
    rank_timeout_s: float  # seconds that the first rank waits for the others before the run counts as hanging
    threads: int | None  # CPU threads of one run's process; None: as many as its steps can use and are idle
    micro_batch_sequences: int | None  # sequences at once; gradients accumulate over the batch; None: as many as fit
    recompute_activations: bool  # each block keeps its input alone, and the backward pass computes the rest again
    cuda_graphs: bool  # steps on a GPU are replayed from a recording of one
    log_points: int  # metric rows over the run
    eval_fractions: tuple[float, ...]  # fractions of the run at which it is validated, besides its end
    checkpoint_every_s: float
    keep_weights: bool  # the final weights stay after the record is published
    progress: bool  # a progress line on this terminal
    question: str | None  # question of the study, for trackers
    trackers: tuple[str, ...]
    tracker_settings: dict[str, Any]  # settings of all trackers; each takes its own

    def __post_init__(self) -> None:
        check_study(self.study)

    @property
    def devices_per_node(self) -> int:
        """Devices of a run on each of its nodes."""
        return self.devices_per_run // self.nodes_per_run

    @property
    def study_dir(self) -> Path:
        """The folder of the study's runs."""
        return self.runs_dir / self.study

    def run_dir(self, run_id: str) -> Path:
        """The folder of a run of the study."""
        return self.study_dir / run_id

    def with_threads(self, threads: int | None) -> Self:
        """These settings with the threads of a launcher's slot, unless the user has set their number."""
        return self if self.threads is not None else replace(self, threads=threads)
