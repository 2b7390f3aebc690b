"""Trackers mirror a run to a service while it trains; the record on disk stays the truth."""

import math
from collections.abc import Mapping
from typing import Any, Protocol

from scaling.registry import choose

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
}


class Tracker(Protocol):
    """A tracker receives metric rows, and at the end the run's status and summary."""

    def log(self, row: Mapping[str, Any]) -> None: ...
    def finish(self, status: str, summary: Mapping[str, Any]) -> None: ...


class NoTracker:
    """A tracker that mirrors nothing."""

    def __init__(self, *_: object) -> None:
        pass

    def log(self, row: Mapping[str, Any]) -> None:
        pass

    def finish(self, status: str, summary: Mapping[str, Any]) -> None:
        pass


class WandbTracker:
    """A tracker to a Weights & Biases run: id = run_id, group = study, every metric against train/tokens."""

    def __init__(self, run_id: str, study: str, config: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        import wandb

        self._run = wandb.init(
            id=run_id,
            name=run_id,
            group=study,
            resume="allow",
            config=dict(config),
            settings=wandb.Settings(silent=True, console="off", reinit="create_new"),  # a stack has several runs open
            **settings,
        )
        self._run.define_metric("*", step_metric="train/tokens")

    def log(self, row: Mapping[str, Any]) -> None:
        self._run.log({name: row[key] for key, name in DASHBOARD_NAMES.items() if row.get(key) is not None})

    def finish(self, status: str, summary: Mapping[str, Any]) -> None:
        numbers = {key: value for key, value in summary.items() if _is_scalar(value)}
        self._run.summary.update({"status": status, **numbers})
        self._run.finish(exit_code=0 if status == "done" else 1)


TRACKERS: dict[str, type[NoTracker] | type[WandbTracker]] = {"none": NoTracker, "wandb": WandbTracker}


def start_tracker(
    name: str, run_id: str, study: str, config: Mapping[str, Any], settings: Mapping[str, Any]
) -> Tracker:
    """Start the tracker `name` for a run; ValueError lists the choices."""
    return choose("tracker", TRACKERS, name)(run_id, study, config, settings)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
