"""Readers of runs: files, run records, W&B. Their readings are raw; `observations` judges them.

Every reader returns a `Reading`. A file keeps its own column names. Records and W&B runs get

    run_id, group, params_total, params_non_embedding, params_non_embedding_head, tokens, flops, loss,
    loss_se, unique_tokens, epochs, budget, and every scalar of the run's spec under its dotted name, as in
    "recipe.optimizer.learning_rate"; a run with a profile, what it cost to serve under "price.", as in
    "price.token_s"; a run on a source of known law, the law under "truth.", as in "truth.params".

Row numbers count from 1, the header not counted.
"""

import math
import os
from array import array
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scaling.analysis.runs.files import read_file
from scaling.analysis.runs.reading import CONTINUED, CURVE_COLUMNS, Exclusion, Reading, Row, flatten, one_line
from scaling.analysis.runs.wandb_logs import find_logs, read_folder, read_project
from scaling.records.metric_columns import read_columns
from scaling.records.orders import cancelled_why
from scaling.records.record import DONE, PROFILE, RunRecord, read_profile, read_record

METRICS = tuple({"loss": "train_loss"}.get(name, name) for name in CURVE_COLUMNS[1:])  # names in metrics.jsonl

FINETUNED = "fine-tuned: its loss is of a task's answers, which `scaling report` on its study shows"


def read(source: str | Path, *, curves: bool = False) -> Reading:
    """Read one source: a file, a study's folder, an offline W&B folder or file, or `wandb:entity/project`.

    Raises ValueError, in one line, for whatever cannot be read.
    """
    text = str(source)
    if text.startswith("wandb:"):
        return read_project(text.removeprefix("wandb:"), curves=curves)
    path = Path(source)
    if not path.exists():
        raise ValueError(
            f"{path} does not exist; give a CSV or Parquet file, a runs/<study> folder, or wandb:entity/project"
        )
    if path.suffix == ".wandb" or (path.is_dir() and find_logs(path)):
        return read_folder(path, curves=curves)
    return read_study(path, curves=curves) if path.is_dir() else read_file(path)


def read_study(path: Path, *, curves: bool = False) -> Reading:
    """The records of a study's folder (or of every study in a folder of studies, or one run's folder).

    Diverged and unfinished runs are excluded by name.
    """
    run_dirs = _run_dirs(path)
    if not run_dirs:
        raise ValueError(
            f"{path} holds no runs (no record.json or spec.json one or two folders down); "
            "give a runs/<study> folder, a CSV or Parquet file, or a folder of offline W&B runs"
        )
    rows: list[Row] = []
    excluded: list[Exclusion] = []
    curves_of = RunCurves()
    damaged: list[str] = []
    words: set[str] = set()
    for run_dir in run_dirs:
        try:
            record = read_record(run_dir)
        except ValueError as error:
            excluded.append(Exclusion(None, run_dir.name, one_line(error)))
            damaged.append(one_line(error))
            continue
        if record is None:
            why = cancelled_why(run_dir)
            reason = "unfinished: the run has left no record yet" if why is None else f"cancelled: {why}"
            excluded.append(Exclusion(None, run_dir.name, reason))
        elif record.status != DONE:
            excluded.append(Exclusion(None, record.run_id, f"{record.status}: {record.why or 'no reason recorded'}"))
        elif record.finetuned is not None:
            excluded.append(Exclusion(None, record.run_id, FINETUNED))
        elif record.continued is not None:
            excluded.append(Exclusion(None, record.run_id, CONTINUED))
        elif record.val_loss_nats is None:
            excluded.append(Exclusion(None, record.run_id, "the record holds no validation loss"))
        else:
            rows.append(_record_row(record) | _profile_row(run_dir, record, damaged))
            words.add(record.flops_convention)
            if curves:
                curves_of.add(record.run_id, read_columns(run_dir, METRICS, damaged))
    if not rows:
        first = excluded[0]
        if all(one.reason == FINETUNED for one in excluded):
            raise ValueError(f"{path} holds fine-tuned runs alone, each {FINETUNED}")
        if all(one.reason == CONTINUED for one in excluded):
            raise ValueError(f"{path} holds continued runs alone, each {CONTINUED}")
        raise ValueError(
            f"{path} holds {len(run_dirs)} runs and none is finished (first: {first.run_id}, "
            f"{first.reason}); finish the sweep, then fit"
        )
    return Reading(
        pd.DataFrame(rows),
        str(path),
        curves=curves_of.table() if curves else None,
        excluded=tuple(excluded),
        damaged=tuple(damaged),
        flops_words="; or ".join(sorted(words)),
        counts_known=True,
    )


class RunCurves:
    """The curves of runs, one below the other, in columns that grow in place: most of a large study's memory."""

    def __init__(self) -> None:
        self._columns = [array("d") for _ in METRICS]
        self._run_ids: list[str] = []
        self._rows: list[int] = []

    def add(self, run_id: str, rows: NDArray[np.float64]) -> None:
        """Add the metric rows of a run, shape (rows, METRICS)."""
        for column, values in zip(self._columns, rows.T, strict=True):
            column.frombytes(values.tobytes())
        self._run_ids.append(run_id)
        self._rows.append(len(rows))

    def table(self) -> pd.DataFrame:
        """The curves as a table of CURVE_COLUMNS."""
        numbers, names = pd.Index(self._run_ids).factorize()
        run_ids = pd.Categorical.from_codes(np.repeat(numbers, self._rows), pd.Index(names))
        columns = dict(zip(CURVE_COLUMNS, (run_ids, *map(np.asarray, self._columns)), strict=True))
        return pd.DataFrame(columns, copy=False)


def _run_dirs(path: Path) -> list[Path]:
    """The folders of runs in a run's, a study's or studies' folder, by name."""
    if _is_run(path):
        return [path]
    inside = _folders(path)
    runs = [folder for folder in inside if _is_run(folder)] or [
        run for study in inside for run in _folders(study) if _is_run(run)
    ]
    return list(map(Path, runs))


def _folders(path: str | Path) -> list[str]:
    """The folders in a folder, by name: as text, since studies hold thousands of runs."""
    with os.scandir(path) as entries:
        return sorted(entry.path for entry in entries if entry.is_dir())


def _is_run(folder: str | Path) -> bool:
    return os.path.isfile(f"{folder}/record.json") or os.path.isfile(f"{folder}/spec.json")


def _record_row(record: RunRecord) -> Row:
    row = flatten(record.spec)
    row.update({f"params_{convention}": float(count) for convention, count in record.n_params.items()})
    row.update(
        run_id=record.run_id,
        group=record.study,
        trunk=(record.trunk or {}).get("id") or record.run_id,  # runs of one trunk share the noise of its steps
        tokens=float(record.train_tokens),
        flops=float(record.train_flops),
        loss=record.val_loss_nats,
        loss_se=math.nan if record.val_loss_se_nats is None else record.val_loss_se_nats,
        loss_bytes_per_token=_bytes_per_token(record),
        predicted_tokens=float(record.predicted_tokens),
        unique_tokens=float(record.unique_tokens),
        epochs=float(record.epochs),
        budget=math.nan if record.budget_flops is None else float(record.budget_flops),
    )
    return row | {f"truth.{name}": float(value) for name, value in (record.truth or {}).items()}


def _bytes_per_token(record: RunRecord) -> float:
    """Bytes of validation text to a token of the loss; NaN where the record states no bits per byte."""
    nats, bits = record.val_loss_nats, record.val_bits_per_byte
    return math.nan if not nats or not bits else nats / (math.log(2) * bits)


def _profile_row(run_dir: Path, record: RunRecord, damaged: list[str]) -> Row:
    """The columns of the run's profile; none without a profile of the record's weights, or for a damaged one."""
    if not (run_dir / PROFILE).exists():
        return {}
    try:
        return _price_row(run_dir, record)
    except (KeyError, TypeError, IndexError, ValueError, AttributeError):
        damaged.append(f"{run_dir / PROFILE} is damaged: left out; `scaling profile {run_dir}` measures it again")
        return {}


def _price_row(run_dir: Path, record: RunRecord) -> Row:
    profile = read_profile(run_dir) or {}
    if profile["weights_sha256"] != record.weights_sha256:
        return {}
    machine, token = profile["hardware"], profile["generation"]
    row: Row = {
        "price.machine": f"{machine['name']} ({machine['device']}, {machine['threads']} threads), weights in "
        f"{profile['precision']}",
        "price.prefill_s": profile["prefill"]["median_s"],
        "price.prefill_words": profile["prefill"]["words"],
        "price.token_s": math.nan if token is None else token["median_s"],
        "price.token_words": profile["no_generation"] if token is None else token["words"],
        "price.memory_bytes": float(profile["batches"][0]["peak_memory_bytes"]),
    }
    for name, stored in profile["storage"].items():
        loss = stored["loss_nats"]
        row |= {f"price.{name}_bytes": float(stored["bytes"]), f"price.{name}_loss": math.nan if loss is None else loss}
    return row
