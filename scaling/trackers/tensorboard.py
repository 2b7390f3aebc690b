"""Tracker `tensorboard`: event files that TensorBoard shows, one folder a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from scaling.extras import library
from scaling.trackers.tracker import Attachments, TrackedRun, flat, markdown, metrics, scalars


class TensorboardTracker:
    """A tracker to event files in dir/tensorboard/study/run_id, every metric against the training tokens."""

    settings: ClassVar[Sequence[str]] = ("dir",)

    def __init__(self, run: TrackedRun, settings: Mapping[str, Any]) -> None:
        self.check(settings)
        from torch.utils.tensorboard import SummaryWriter

        self._config, self._tokens = scalars(flat(run.config)), 0
        logs = Path(settings["dir"]) / "tensorboard"
        self._writer = SummaryWriter(str(logs / run.study / run.run_id))
        self._writer.add_text("run", f"{run.name}\n\n{', '.join(run.tags)}")
        self.where = f"tensorboard --logdir {logs} shows {run.study}/{run.run_id}"

    @staticmethod
    def check(settings: Mapping[str, Any]) -> None:
        """Raise ValueError without the package."""
        library("tensorboard", "tensorboard", "tracker=tensorboard")

    def log(self, row: Mapping[str, Any]) -> None:
        self._tokens = row.get("tokens", self._tokens)
        for name, value in metrics(row).items():
            self._writer.add_scalar(name, value, self._tokens)

    def attach(self, attachments: Attachments) -> None:
        import matplotlib.image

        for name, path in attachments.figures.items():
            self._writer.add_image(f"figures/{name}", matplotlib.image.imread(path), dataformats="HWC")
        for table in attachments.tables:
            self._writer.add_text(f"tables/{table.name}", markdown(table))

    def finish(self, status: str, summary: Mapping[str, Any]) -> None:
        values = {name: value for name, value in scalars(flat(summary)).items() if not isinstance(value, str)}
        self._writer.add_text("status", status)
        # The table of settings and results stands beside the events, in the same folder.
        self._writer.add_hparams(
            self._config, {f"result/{name}": value for name, value in values.items()}, run_name="."
        )
        self._writer.close()
