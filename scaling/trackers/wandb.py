"""Tracker `wandb`: runs on Weights & Biases, or in a folder that `wandb sync` uploads later."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from scaling.trackers.tracker import Attachments, TrackedRun, flat, metrics, scalars


class WandbTracker:
    """A tracker to a W&B run: id = run_id, group = study, job type = kind, every metric against train/tokens."""

    settings: ClassVar[Sequence[str]] = ("project", "entity", "mode", "dir", "notes", "save_code", "force")

    def __init__(self, run: TrackedRun, settings: Mapping[str, Any]) -> None:
        import wandb

        try:
            self._run = wandb.init(
                id=run.run_id,
                name=run.name,
                group=run.study,
                job_type=run.kind,
                tags=[tag[:64] for tag in run.tags],  # W&B refuses longer ones
                resume="allow",
                config=dict(run.config),
                settings=wandb.Settings(silent=True, console="off", reinit="create_new"),  # a stack has several open
                **settings,
            )
        except wandb.errors.UsageError as error:
            raise ValueError(f"tracker=wandb: {' '.join(str(error).split())}") from error
        if run.kind != "analysis":
            self._run.define_metric("*", step_metric="train/tokens")
        folder = Path(self._run.dir).parent
        if self._run.disabled:
            self.where = ""
        else:
            self.where = f"wandb sync {folder} uploads this offline run" if self._run.offline else self._run.url or ""

    @staticmethod
    def check(settings: Mapping[str, Any]) -> None:
        """Raise ValueError where W&B would refuse a run for want of an API key."""
        import wandb

        mode = settings.get("mode") or os.environ.get("WANDB_MODE") or "online"
        if mode == "online" and not wandb.login(prompt=False):
            raise ValueError(
                "tracker=wandb: there is no API key for Weights & Biases here; `wandb login` or WANDB_API_KEY gives "
                "one, tracker.settings.mode=offline needs none"
            )

    def log(self, row: Mapping[str, Any]) -> None:
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
        self._run.summary.update({"status": status, **scalars(flat(summary))})
        self._run.finish(exit_code=0 if status == "done" else 1)
