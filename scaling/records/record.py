"""RunRecord: the record of a finished run, its publication, and its readers.

Layout of a study (see also `attempt.py`, which owns a run's files until its record exists):

    runs/<study>/plan.jsonl
    runs/<study>/<run_id>/spec.json
    runs/<study>/<run_id>/attempts/NNNN/{meta.json, metrics.jsonl, log.txt, heartbeat.json, end.json}
    runs/<study>/<run_id>/checkpoint/NNNN-SSSSSSSS/        written by attempt NNNN after step SSSSSSSS; 0000: by the
                                                           run whose trunk this run branches off
    runs/<study>/<run_id>/record.json                      published once, whole
    runs/<study>/<run_id>/profile.json                     the cost of serving, measured afterwards, replaced whole
"""

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from scaling.records.files import publish, read_json

SCHEMA = 1
DONE, DIVERGED = "done", "diverged"
VAL_AUXILIARY = "val_{}_loss_nats"  # key of an auxiliary loss in record.json
AUXILIARY = ("next",)  # auxiliary losses with a key in every record, null where the objective has none
PROFILE = "profile.json"


@dataclass(frozen=True)
class RunRecord:
    """The record of one finished run: raw counts, losses in nats per token, seconds of wall clock."""

    schema: int
    run_id: str
    study: str
    status: str  # "done" or "diverged"; anything else leaves no record
    why: str  # empty when done
    spec: dict[str, Any]
    params_by_group: dict[str, int]  # counted in the built module
    n_params: dict[str, int]  # counts by convention: total, non_embedding, non_embedding_head
    flops_per_token_by_group: dict[str, float]  # training FLOPs of a sequence over its training tokens
    flops_convention: str  # contents of the exact count, in words
    budget_flops: float | None  # the configured budget; null where tokens were configured
    train_flops: int  # exact cost of all steps, whichever run took them; the optimizer's matmuls included
    optimizer_flops: int  # the optimizer's own matmuls, part of train_flops; 0 with AdamW
    paid_flops: int  # part of train_flops that this run spent itself; a study's sum is the study's spending
    trunk: dict[str, Any] | None  # steps before the cooldown: the trunk's id, their number, the run that took them
    eval_flops: int  # spent on validation, no part of train_flops
    recompute_flops: int  # spent on recomputing activations, no part of train_flops; 0 where they were kept
    train_tokens: int  # read by the towers: a decoder's context, an encoder's source, source and target together
    predicted_tokens: int  # training tokens behind the losses; a decoder predicts every token
    unique_tokens: int  # tokens of the training split, without copied documents
    epochs: float  # passes over the training split
    steps: int
    val_loss_nats: float | None  # null when diverged before it could be measured
    val_loss_se_nats: float | None
    val_bits_per_byte: float | None  # null when the source has no bytes, or only some of its tokens are predicted
    val_auxiliary_nats: dict[str, float]  # auxiliary losses by name, nats per sequence; the file has a key for each
    train_loss_nats: float | None  # mean over the last logged interval
    val_tokens: int  # predicted tokens behind the validation loss
    entropy_rate_nats: float | None  # a synthetic source's rate, where all tokens are predicted from earlier ones
    least_loss_nats: float | None  # least possible loss on a synthetic source at this context
    wall_s: float  # in the training loop, over all attempts; a stacked run counts its share of common seconds
    train_s: float  # part of wall_s in training steps
    attempts: int
    weights_sha256: str  # digest of the final weights
    hardware: dict[str, Any]
    versions: dict[str, str]
    git_commit: str | None
    started_at: str
    ended_at: str
    imported: dict[str, Any] | None  # origin of a checkpoint trained elsewhere, with the digests of its files
    finetuned: dict[str, Any] | None  # task, scores and parent of a fine-tuned run


def to_json(record: RunRecord) -> dict[str, Any]:
    """The record as the JSON object of record.json."""
    values: dict[str, Any] = {}
    for name, value in asdict(record).items():
        if name == "val_auxiliary_nats":
            losses = dict.fromkeys(AUXILIARY) | value
            values |= {VAL_AUXILIARY.format(loss): nats for loss, nats in losses.items()}
        else:
            values[name] = value
    return values


def publish_record(run_dir: Path, record: RunRecord) -> bool:
    """Publish the record; False where another attempt published first, whose record stands."""
    try:
        publish(run_dir / "record.json", json.dumps(to_json(record), indent=1), os.link)
    except FileExistsError:
        return False
    return True


def read_record(run_dir: Path) -> RunRecord | None:
    """The run's record, upgraded to this version; None while there is none, ValueError for a file that is none."""
    try:
        text = (run_dir / "record.json").read_text()
    except FileNotFoundError:
        return None
    try:
        values = json.loads(text)
        return upgrade(values)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{run_dir / 'record.json'} is not a run record ({error}); move it away and train the run again"
        ) from error


def upgrade(values: dict[str, Any]) -> RunRecord:
    """Build a record from any version's JSON; a field added later gets the value in force before it."""
    if values["schema"] > SCHEMA:
        raise ValueError(f"written by a newer version (schema {values['schema']}, this one reads up to {SCHEMA})")
    # Before these fields existed, every token was predicted, AdamW was the only optimizer, no run was imported or
    # fine-tuned, no trunk was shared, and no activations were recomputed.
    since = {"optimizer_flops": 0, "recompute_flops": 0, "imported": None, "finetuned": None, "trunk": None}
    values = {"predicted_tokens": values["train_tokens"], **since, **values}
    values = {"paid_flops": 0 if values["imported"] else values["train_flops"], **values}
    known = {field.name for field in fields(RunRecord)}
    start, end = VAL_AUXILIARY.split("{}")
    auxiliary = {
        name.removeprefix(start).removesuffix(end): value
        for name, value in values.items()
        if name not in known and name.startswith(start) and name.endswith(end) and value is not None
    }
    return RunRecord(**{name: value for name, value in values.items() if name in known}, val_auxiliary_nats=auxiliary)


def read_profile(run_dir: Path) -> dict[str, Any] | None:
    """The run's profile (its schema stands in `profiling/measure.py`), or None while there is none."""
    return read_json(run_dir / PROFILE)


def run_dirs(study_dir: Path) -> list[Path]:
    """Directories of all runs of a study, finished or not, by name; ValueError where the study has no directory."""
    if not study_dir.is_dir():
        raise ValueError(f"{study_dir} is not a directory; studies live under runs/, one directory each")
    return sorted(path for path in study_dir.iterdir() if (path / "spec.json").is_file())


def read_records(study_dir: Path) -> list[RunRecord]:
    """Records of a study's finished runs, by run id."""
    records = (read_record(path) for path in run_dirs(study_dir))
    return [record for record in records if record is not None]


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """The run's metric rows in step order, as of a run without interruptions.

    A resumed attempt starts from a checkpoint and supersedes the rows that earlier attempts wrote beyond it. A line cut
    short by a kill is ignored.
    """
    rows: list[dict[str, Any]] = []
    for attempt in sorted((run_dir / "attempts").glob("[0-9]*")):
        meta = read_json(attempt / "meta.json")
        if meta is None:
            continue
        rows = [row for row in rows if row["step"] <= meta["resumed_from_step"]]
        rows.extend(_complete_rows(attempt / "metrics.jsonl"))
    return rows


def _complete_rows(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text()
    except FileNotFoundError:
        return []
    whole, _, _ = text.rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]
