"""Tracker `wandb`: runs on Weights & Biases, or in a folder that `wandb sync` uploads later."""

import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from scaling.trackers.tracker import Attachments, TrackedRun, metrics
from scaling.trackers.wandb_courier import END_S, INIT_S, Courier, ended, sent_rows

REPLAY_S = 120.0  # time for W&B to take a run that is replayed


class WandbTracker:
    """A tracker to a W&B run: id = run_id, group = study, job type = kind, every metric against train/tokens.

    A courier takes an online run's rows to W&B, from a thread of its own.
    """

    settings: ClassVar[Sequence[str]] = ("project", "entity", "mode", "dir", "notes", "save_code", "force")

    def __init__(self, run: TrackedRun, settings: Mapping[str, Any]) -> None:
        self.where = ""
        self._courier: Courier | None = None
        if mode_of(settings) == "online" and run.kind != "analysis":
            limits = {"init_timeout": INIT_S, "finish_timeout": END_S}
            self._courier = Courier(run, partial(begin, run, settings, **limits))
            return
        try:
            self._run = begin(run, settings)
        except ConnectionError as error:
            raise ValueError(f"tracker=wandb: {error}") from error
        folder = Path(self._run.dir).parent
        if not self._run.disabled:
            self.where = f"wandb sync {folder} uploads this offline run" if self._run.offline else self._run.url or ""

    @staticmethod
    def check(settings: Mapping[str, Any]) -> None:
        """Raise ValueError where W&B would refuse a run for want of an API key; an outage is only printed."""
        import wandb

        if mode_of(settings) != "online":
            return
        try:
            found = wandb.login(prompt=False)
        except wandb.errors.Error as error:
            words = " ".join(str(error).split())
            print(f"tracker=wandb: {words}; `scaling wandb-sync` sends what is missing", file=sys.stderr, flush=True)
            return
        if not found:
            raise ValueError(
                "tracker=wandb: there is no API key for Weights & Biases here; `wandb login` or WANDB_API_KEY gives "
                "one, tracker.settings.mode=offline needs none"
            )

    def log(self, row: Mapping[str, Any]) -> None:
        if self._courier is not None:
            self._courier.take(row)
        else:
            self._run.log(metrics(row))

    def attach(self, attachments: Attachments) -> None:
        import wandb

        self._run.log({f"figures/{name}": wandb.Image(str(path)) for name, path in attachments.figures.items()})
        for table in attachments.tables:
            shown = wandb.Table(columns=list(table.columns), data=[list(row) for row in table.rows])
            self._run.log({f"tables/{table.name}": shown})
        artifact = wandb.Artifact(f"{self._run.group}-analysis", type="analysis")
        for path in (*attachments.files, *attachments.figures.values()):
            artifact.add_file(str(path))
        self._run.log_artifact(artifact)

    def finish(self, status: str, summary: Mapping[str, Any]) -> None:
        if self._courier is not None:
            self._courier.finish(status, summary)
        else:
            ended(self._run, status, summary)


def mode_of(settings: Mapping[str, Any]) -> str:
    """The mode of W&B: as configured, else the environment's."""
    return str(settings.get("mode") or os.environ.get("WANDB_MODE") or "online")


def begin(run: TrackedRun, settings: Mapping[str, Any], **limits: Any) -> Any:
    """Begin a run of W&B, or go on with the one of the same id; `limits` are settings of the client.

    ValueError for settings that W&B refuses, ConnectionError where it does not answer.
    """
    import wandb

    try:
        begun = wandb.init(
            id=run.run_id,
            name=run.name,
            group=run.study,
            job_type=run.kind,
            tags=[tag[:64] for tag in run.tags],  # W&B refuses longer ones
            resume="allow",
            config=dict(run.config),
            settings=wandb.Settings(silent=True, console="off", reinit="create_new", **limits),  # a stack has several
            **settings,
        )
    except wandb.errors.UsageError as error:
        raise ValueError(f"tracker=wandb: {' '.join(str(error).split())}") from error
    except Exception as error:  # the client raises errors of its own for an outage, a timeout, a run in use
        raise ConnectionError(" ".join(f"{type(error).__name__}: {error}".split())) from error
    if run.kind != "analysis":
        begun.define_metric("*", step_metric="train/tokens")
    return begun


def replay(run: TrackedRun, settings: Mapping[str, Any], status: str, summary: Mapping[str, Any]) -> int:
    """Send what W&B lacks of a run that has ended, by its rows on disk; return the number of rows.

    ConnectionError where W&B does not take all of it.
    """
    limits = {"init_timeout": INIT_S, "finish_timeout": REPLAY_S, "finish_timeout_raises": True}
    begun = begin(run, dict(settings) | {"mode": "online"}, **limits)
    sent = sum(1 for _ in sent_rows(begun, run.rows()))
    try:
        ended(begun, status, summary)
    except TimeoutError as error:
        raise ConnectionError(f"W&B did not take all rows within {REPLAY_S:.0f} s") from error
    return sent
