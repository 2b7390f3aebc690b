"""Tracker `mlflow`: runs of an MLflow experiment, in a local store or on a tracking server."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from scaling.extras import library
from scaling.trackers.tracker import Attachments, TrackedRun, flat, metrics, scalars

RUN_ID = "scaling.run_id"  # tag that finds the run of an earlier attempt: MLflow chooses its own ids
PARAM_LENGTH, PARAMS_AT_ONCE = 6000, 100  # MLflow's limits


class MlflowTracker:
    """A tracker to an MLflow run of the study's experiment, every metric against the training tokens."""

    settings: ClassVar[Sequence[str]] = ("tracking_uri", "experiment")

    def __init__(self, run: TrackedRun, settings: Mapping[str, Any]) -> None:
        self.check(settings)
        import mlflow

        uri = settings.get("tracking_uri")
        self._client = mlflow.MlflowClient(tracking_uri=uri)
        name = settings.get("experiment") or run.study
        found = self._client.get_experiment_by_name(name)
        experiment = self._client.create_experiment(name) if found is None else found.experiment_id
        earlier = self._client.search_runs([experiment], f"tags.`{RUN_ID}` = '{run.run_id}'", max_results=1)
        tags = {RUN_ID: run.run_id, "study": run.study, "kind": run.kind, **dict.fromkeys(run.tags, "true")}
        started = earlier[0] if earlier else self._client.create_run(experiment, tags=tags, run_name=run.name)
        self._id, self._tokens = started.info.run_id, 0
        if earlier:
            self._client.update_run(self._id, status="RUNNING")
        else:
            params = [(key, str(value)[:PARAM_LENGTH]) for key, value in scalars(flat(run.config)).items()]
            for first in range(0, len(params), PARAMS_AT_ONCE):
                chunk = params[first : first + PARAMS_AT_ONCE]
                self._client.log_batch(self._id, params=[mlflow.entities.Param(*pair) for pair in chunk])
        self.where = f"MLflow run {self._id} of experiment {name}, {uri or 'the default store'}"

    @staticmethod
    def check(settings: Mapping[str, Any]) -> None:
        """Raise ValueError without the package."""
        library("mlflow", "mlflow", "tracker=mlflow")

    def log(self, row: Mapping[str, Any]) -> None:
        self._tokens = row.get("tokens", self._tokens)
        self._send(metrics(row), self._tokens)

    def attach(self, attachments: Attachments) -> None:
        for path in attachments.figures.values():
            self._client.log_artifact(self._id, str(path), "figures")
        for path in attachments.files:
            self._client.log_artifact(self._id, str(path))
        for table in attachments.tables:
            columns = dict(zip(table.columns, map(list, zip(*table.rows, strict=True)), strict=True))
            self._client.log_table(self._id, columns, f"tables/{table.name}.json")

    def finish(self, status: str, summary: Mapping[str, Any]) -> None:
        values = scalars(flat(summary))
        self._send({name: value for name, value in values.items() if not isinstance(value, str)}, self._tokens)
        for name, value in {"status": status, **values}.items():
            if isinstance(value, str):
                self._client.set_tag(self._id, name, value)
        self._client.set_terminated(self._id, "FINISHED" if status == "done" else "FAILED")

    def _send(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self._id, [Metric(name, float(value), now, step) for name, value in values.items()])
