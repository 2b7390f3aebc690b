"""Tracker `trackio`: runs that `trackio show` shows, on this machine or in a Hugging Face Space."""

from collections.abc import Mapping, Sequence
from contextvars import copy_context
from typing import Any, ClassVar

from scaling.extras import library
from scaling.trackers.tracker import Attachments, TrackedRun, flat, metrics, scalars


class TrackioTracker:
    """A tracker to a Trackio run in the study's group, every metric against the training tokens."""

    settings: ClassVar[Sequence[str]] = ("project", "space_id")

    def __init__(self, run: TrackedRun, settings: Mapping[str, Any]) -> None:
        self.check(settings)
        import trackio

        self._trackio, self._tokens = trackio, 0
        # In a context of its own: the runs of a stack live together, and Trackio ends the current run of a context.
        self._run = copy_context().run(
            trackio.init,
            name=f"{run.name} {run.run_id}",  # Trackio finds the run of an earlier attempt by its name
            group=run.study,
            config={**run.config, "run_id": run.run_id, "kind": run.kind, "tags": list(run.tags)},
            resume="allow",
            auto_log_gpu=False,
            auto_log_cpu=False,
            embed=False,
            **settings,
        )
        self.where = f"trackio show --project {settings['project']}"

    @staticmethod
    def check(settings: Mapping[str, Any]) -> None:
        """Raise ValueError without the package."""
        library("trackio", "trackio", "tracker=trackio")

    def log(self, row: Mapping[str, Any]) -> None:
        self._tokens = row.get("tokens", self._tokens)
        self._run.log(metrics(row), step=self._tokens)

    def attach(self, attachments: Attachments) -> None:
        for name, path in attachments.figures.items():
            self._run.log({f"figures/{name}": self._trackio.Image(path)})
        for table in attachments.tables:
            rows = [list(row) for row in table.rows]
            self._run.log({f"tables/{table.name}": self._trackio.Table(columns=list(table.columns), data=rows)})

    def finish(self, status: str, summary: Mapping[str, Any]) -> None:
        values = scalars(flat(summary))
        self._run.log({f"result/{name}": value for name, value in {"status": status, **values}.items()})
        self._run.finish()
