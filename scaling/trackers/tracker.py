"""The interface of trackers: the run that is mirrored, the calls that a tracker receives, and the dashboard's names."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

# Key of a metric row -> dashboard name. A key without a value (validation is rare) is not sent.
DASHBOARD_NAMES = {
    "train_loss": "train/loss",
    "tokens": "train/tokens",
    "flops": "train/flops",
    "lr": "train/lr",
    "grad_norm": "train/grad_norm",
    "grad_square": "noise/grad_square",
    "grad_trace": "noise/grad_trace",
    "noise_steps": "noise/steps",
    "val_loss": "val/loss",
    "val_bpb": "val/bpb",
    "train_next_loss": "train/next_sentence_loss",
    "val_next_loss": "val/next_sentence_loss",
    "tokens_per_s": "perf/tokens_per_s",
    "flops_per_s": "perf/flops_per_s",
    "mfu": "perf/mfu",
    # Fine-tuning: the examples that choose the step, and the scores of the kept weights.
    "stop_loss": "stop/loss",
    "accuracy": "score/accuracy",
    "rouge_l": "score/rouge_l",
    "bleu": "score/bleu",
    "chrf": "score/chrf",
}


@dataclass(frozen=True)
class TrackedRun:
    """A run, or the analysis of a study, as trackers show it."""

    run_id: str
    study: str
    kind: str  # "pretrain", "finetune", "import" or "analysis"
    name: str  # of a size, a budget and a seed, as lists of runs show them
    config: Mapping[str, Any]
    tags: tuple[str, ...] = ()
    rows: Callable[[], Sequence[Mapping[str, Any]]] = tuple  # metric rows on disk so far, those of earlier attempts too


@dataclass(frozen=True)
class TrackedTable:
    """A table that trackers show, one row a list of numbers and texts."""

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Attachments:
    """Files and tables of an analysis: figures by name, the report and results, tables."""

    figures: Mapping[str, Path] = field(default_factory=dict)  # PNG files
    files: Sequence[Path] = ()
    tables: Sequence[TrackedTable] = ()


class Tracker(Protocol):
    """A tracker receives metric rows and attachments, and at the end the run's status and summary."""

    settings: ClassVar[Sequence[str]]  # names of the settings that its runs are started with
    where: str  # URL of the mirrored run, or the command that shows it; empty where nothing is to be seen

    def __init__(self, run: TrackedRun, settings: Mapping[str, Any]) -> None: ...
    @staticmethod
    def check(settings: Mapping[str, Any]) -> None: ...  # ValueError where no run could be started
    def log(self, row: Mapping[str, Any]) -> None: ...
    def attach(self, attachments: Attachments) -> None: ...
    def finish(self, status: str, summary: Mapping[str, Any]) -> None: ...


class Several:
    """The trackers of one run, none of them where the run is mirrored nowhere."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = trackers
        self.where = "\n".join(tracker.where for tracker in trackers if tracker.where)

    def log(self, row: Mapping[str, Any]) -> None:
        for tracker in self._trackers:
            tracker.log(row)

    def attach(self, attachments: Attachments) -> None:
        for tracker in self._trackers:
            tracker.attach(attachments)

    def finish(self, status: str, summary: Mapping[str, Any]) -> None:
        for tracker in self._trackers:
            tracker.finish(status, summary)


def metrics(row: Mapping[str, Any]) -> dict[str, float]:
    """A row's numbers by dashboard name."""
    return {name: row[key] for key, name in DASHBOARD_NAMES.items() if row.get(key) is not None}


def scalars(values: Mapping[str, Any]) -> dict[str, str | int | float]:
    """The values that every tracker takes: texts and finite numbers."""
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
    }


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested mappings under dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def markdown(table: TrackedTable) -> str:
    """A table in Markdown."""
    lines = [table.columns, ["---"] * len(table.columns), *table.rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
