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
import re
from collections.abc import Callable, Iterator, Sized
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin

from scaling.records.files import create_text, has_links, parse_lines, read_json

SCHEMA = 1
DONE, DIVERGED = "done", "diverged"
VAL_AUXILIARY = "val_{}_loss_nats"  # key of an auxiliary loss in record.json
AUXILIARY = ("next",)  # auxiliary losses with a key in every record, null where the objective has none
PROFILE = "profile.json"
MOST_LISTED = 5  # numbers of bad lines of a file
NUMBER = re.compile(r"\d{4,}")  # the name of an attempt's directory
Rows = TypeVar("Rows", bound=Sized)
LINK, RESERVATION = "link", "reservation"  # how a record was published exactly once


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
    publication: str  # LINK, or RESERVATION where the file system has no hard links
    finetuned: dict[str, Any] | None  # task, scores and parent of a fine-tuned run
    truth: dict[str, Any] | None  # known law of the loss on the source's records, and its least loss
    continued: dict[str, Any] | None  # parent of a run that went on from its weights, and all training before


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
    """Publish the record unless one exists; False: another attempt was first, and its record stands."""
    links = has_links(run_dir)
    record = replace(record, publication=LINK if links else RESERVATION)
    try:
        create_text(run_dir / "record.json", json.dumps(to_json(record), indent=1), links=links)
    except FileExistsError:
        return False
    return True


def read_record(run_dir: Path) -> RunRecord | None:
    """The run's record, upgraded to this version; None while there is none, ValueError for a file that is none."""
    try:
        with open(f"{run_dir}/record.json", "rb") as file:  # studies hold thousands, and a Path costs more than a read
            content = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return upgrade(json.loads(content))
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{run_dir / 'record.json'} is not a run record ({error}); move it away and train the run again"
        ) from error


def readable_record(run_dir: Path) -> RunRecord | None:
    """The run's record; None also for a damaged one, which `run_state` and whoever needs the record report."""
    with suppress(ValueError):
        return read_record(run_dir)
    return None


def upgrade(values: dict[str, Any]) -> RunRecord:
    """Build a record from any version's JSON; a field added later gets the value in force before it."""
    if values["schema"] > SCHEMA:
        raise ValueError(f"written by a newer version (schema {values['schema']}, this one reads up to {SCHEMA})")
    values = {"predicted_tokens": values["train_tokens"], **_SINCE, **values}
    if "paid_flops" not in values:
        values["paid_flops"] = 0 if values["imported"] else values["train_flops"]
    given = {name: values[name] for name in _KINDS if name in values}
    if not all(map(isinstance, given.values(), map(_KINDS.__getitem__, given))):  # studies hold thousands of records
        wrong = next(name for name, value in given.items() if not isinstance(value, _KINDS[name]))
        raise ValueError(f"its {wrong} is {given[wrong]!r:.40}")
    start, end = VAL_AUXILIARY.split("{}")
    auxiliary = {
        name.removeprefix(start).removesuffix(end): values[name]
        for name in values.keys() - _KINDS.keys()
        if name.startswith(start) and name.endswith(end) and values[name] is not None
    }
    return RunRecord(**given, val_auxiliary_nats=auxiliary)


# Before these fields existed, every token was predicted, AdamW was the only optimizer, no run was imported,
# fine-tuned or continued, no trunk was shared, no activations were recomputed, and no source had a known law.
_SINCE: dict[str, Any] = {
    "optimizer_flops": 0,
    "recompute_flops": 0,
    "imported": None,
    "finetuned": None,
    "continued": None,
    "truth": None,
    "trunk": None,
    "publication": LINK,
}


def _kinds(declared: Any) -> tuple[type, ...]:
    """The classes of a field's values; JSON may write a count as a float and a float as a count."""
    parts = get_args(declared) if isinstance(declared, UnionType) else (declared,)
    kinds = {get_origin(part) or part for part in parts}
    return (*kinds, int, float) if kinds & {int, float} else tuple(kinds)


_KINDS = {field.name: _kinds(field.type) for field in fields(RunRecord)}


def read_profile(run_dir: Path) -> dict[str, Any] | None:
    """The run's profile (its schema stands in `profiling/measure.py`), or None while there is none."""
    return read_json(run_dir / PROFILE)


def run_dirs(study_dir: Path) -> list[Path]:
    """Directories of all runs of a study, finished or not, by name; ValueError where the study has no directory."""
    if not study_dir.is_dir():
        raise ValueError(f"{study_dir} is not a directory; studies live under runs/, one directory each")
    return [
        study_dir / name for name in sorted(os.listdir(study_dir)) if os.path.isfile(f"{study_dir}/{name}/spec.json")
    ]


def read_records(study_dir: Path, damaged: list[str] | None = None) -> list[RunRecord]:
    """Records of a study's finished runs, by run id.

    A record that cannot be read raises ValueError; with a list of what is `damaged` it is named there and left out.
    """
    records = []
    for path in run_dirs(study_dir):
        try:
            record = read_record(path)
        except ValueError as error:
            if damaged is None:
                raise
            damaged.append(str(error))
            continue
        if record is not None:
            records.append(record)
    return records


def attempt_dirs(run_dir: Path) -> list[Path]:
    """The directories of a run's attempts, in order."""
    attempts = run_dir / "attempts"
    return [attempts / name for name in attempt_names(run_dir)]


def attempt_names(run_dir: Path) -> list[str]:
    """The names of a run's attempts, in order; other names beside them are ignored."""
    try:
        names = os.listdir(f"{run_dir}/attempts")
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(filter(NUMBER.fullmatch, names), key=int)


def read_metrics(run_dir: Path, damaged: list[str] | None = None) -> list[dict[str, Any]]:
    """The run's metric rows in step order, as of a run without interruptions.

    A resumed attempt starts from a checkpoint and supersedes the rows that earlier attempts wrote beyond it; an attempt
    without rows supersedes nothing. A line cut short by a kill is ignored. Lines and files that cannot be read are left
    out, and named in the list of what is `damaged`.
    """
    rows: list[dict[str, Any]] = []
    for start, own in rows_by_attempt(run_dir, metric_rows, [] if damaged is None else damaged):
        rows = [*(row for row in rows if row["step"] <= start), *own]
    return rows


def rows_by_attempt(
    run_dir: Path, read: Callable[[Path, list[str]], Rows], damaged: list[str]
) -> Iterator[tuple[int, Rows]]:
    """The step that each attempt with rows starts from, and its rows, as `read` reads them from metrics.jsonl."""
    for attempt in attempt_dirs(run_dir):
        own = read(attempt / "metrics.jsonl", damaged)
        if not len(own):
            continue
        meta = read_json(attempt / "meta.json") or {}
        if not isinstance(start := meta.get("resumed_from_step"), int):
            damaged.append(f"{attempt / 'meta.json'} is damaged: the attempt's rows are left out")
            continue
        yield start, own


def read_warnings(run_dir: Path) -> list[str]:
    """Warnings of the run's attempts at their start, oldest first: damaged checkpoints that they passed over."""
    metas = [read_json(attempt / "meta.json") or {} for attempt in attempt_dirs(run_dir)]
    return [str(warning) for meta in metas for warning in meta.get("warnings", ())]


def whole_lines(path: Path) -> bytes:
    """The lines of a file of metrics, without the last line break and what a kill left after it."""
    try:
        return path.read_bytes().rpartition(b"\n")[0]
    except FileNotFoundError:
        return b""


def metric_rows(path: Path, damaged: list[str]) -> list[dict[str, Any]]:
    """The rows of one attempt's metrics.jsonl; lines that are no rows are named in the list of what is `damaged`."""
    lines = whole.split(b"\n") if (whole := whole_lines(path)) else []
    rows, bad = parse_lines(lines, _is_metric_row)
    if bad:
        damaged.append(f"{path}, {_lines(bad)} no metric row: left out")
    return rows


def _is_metric_row(row: Any) -> bool:
    return isinstance(row, dict) and isinstance(row.get("step"), int)


def _lines(numbers: list[int]) -> str:
    """Numbers of lines in words, with their verb."""
    if len(numbers) == 1:
        return f"line {numbers[0]}, is"
    shown = ", ".join(str(number) for number in numbers[:MOST_LISTED])
    return f"lines {shown}{' and others' if len(numbers) > MOST_LISTED else ''} ({len(numbers)}), are"
