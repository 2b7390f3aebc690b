"""Runs from W&B: a project on its server, or offline logs on disk.

The names of this project's tracker are understood: the resolved spec and `n_params` by convention as config,
`train/{loss,tokens,flops}` and `val/loss` as metrics. Other config and metrics become columns under their own names.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from scaling.analysis.runs.reading import (
    CONTINUED,
    CURVE_COLUMNS,
    Exclusion,
    Reading,
    Row,
    concatenate,
    flatten,
    one_line,
)

FINISHED = "finished"


@dataclass
class LoggedRun:
    """A run as W&B holds it; config and metrics are arbitrary JSON, whoever logged them."""

    id: str
    group: str = ""
    job_type: str = ""
    config: dict[str, object] = field(default_factory=dict)
    history: list[Mapping[str, object]] = field(default_factory=list)
    state: str = "running"
    logs: int = 1  # files, of which a resumed run has several


def find_logs(path: Path) -> list[Path]:
    patterns = ("*.wandb", "*run-*/*.wandb", "wandb/*run-*/*.wandb")
    return sorted({log.resolve() for pattern in patterns for log in path.glob(pattern)})


def read_folder(path: Path, *, curves: bool) -> Reading:
    logs = [path] if path.is_file() else find_logs(path)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:  # each is a process of its own
        return _reading(str(path), _joined(pool.map(_inspect, logs)), curves=curves)


def _joined(logs: Iterable[LoggedRun]) -> list[LoggedRun]:
    """The runs of logs in the order of their names, which begin with a time: logs of one id are one, resumed run.

    A log that resumes at an earlier point replaces the rest of the log before. The last log states how the run ended.
    """
    runs: dict[str, LoggedRun] = {}
    for log in logs:
        run = runs.setdefault(log.id, log)
        if run is log:
            continue
        resumed = next((at for item in log.history if (at := _progress(item)) is not None), None)
        if resumed is not None:
            run.history = [item for item in run.history if (at := _progress(item)) is None or at < resumed]
        run.history += log.history
        run.config.update(log.config)
        run.group, run.state = log.group or run.group, log.state
        run.logs += 1
    return list(runs.values())


def _progress(item: Mapping[str, object]) -> float | None:
    """The tokens at a logged item, or its own step where none are logged."""
    value = item.get("train/tokens", item.get("_step"))
    return float(value) if isinstance(value, int | float) else None


def _inspect(log: Path) -> LoggedRun:
    """One offline run, through `wandb leet inspect`: its file format has no other reader."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(log)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not done.stdout.strip():
        reason = one_line(ValueError(done.stderr)) if done.stderr.strip() else "it printed nothing"
        raise ValueError(f"{log} cannot be inspected with wandb 0.30 or newer ({reason}); pip install 'wandb>=0.30'")
    run = LoggedRun(log.stem.removeprefix("run-"))
    for line in done.stdout.splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue  # the last line of a log that is still being written
        kind = record.get("type")
        body = record.get(kind, {})
        if kind == "run":
            run.id = body.get("run_id", run.id)
            run.job_type = body.get("job_type", "")
            run.group = body.get("run_group") or body.get("project", "")
            run.config.update(body.get("config", {}).get("update", {}))
        elif kind == "config":
            run.config.update(body.get("update", {}))
        elif kind == "history":
            run.history.append(body.get("item", {}))
        elif kind == "exit":
            run.state = FINISHED if not body.get("exit_code", 0) else f"failed (exit code {body['exit_code']})"
    return run


def read_project(project: str, *, curves: bool) -> Reading:
    if project.count("/") != 1 or project.startswith("/") or project.endswith("/"):
        raise ValueError(f"wandb:{project} is not wandb:entity/project")
    try:
        import wandb
    except ImportError as error:
        raise ValueError(f"wandb:{project} needs the wandb package; pip install wandb") from error
    try:
        runs = [
            LoggedRun(
                id=run.id,
                group=run.group or project,
                job_type=run.job_type or "",
                config=dict(run.config),
                history=list(run.scan_history()) if curves else [dict(run.summary)],
                state=run.state,
            )
            for run in wandb.Api().runs(project)
        ]
    except Exception as error:  # the client raises many kinds: no account, no network, no such project
        raise ValueError(f"wandb:{project} cannot be read: {one_line(error)}; try `wandb login`") from error
    return _reading(f"wandb:{project}", runs, curves=curves)


def _reading(source: str, runs: Iterable[LoggedRun], *, curves: bool) -> Reading:
    rows: list[Row] = []
    excluded: list[Exclusion] = []
    metrics: list[pd.DataFrame] = []
    inferred: list[str] = []
    for run in runs:
        if run.job_type == "analysis":  # the tracker's mirror of a report, and no run
            continue
        if run.logs > 1:
            inferred.append(f"run {run.id!r} is joined from {run.logs} logs of one id, as it was resumed")
        if run.state != FINISHED:
            excluded.append(Exclusion(None, run.id, f"W&B state: {run.state}"))
            continue
        if "continued" in run.config:
            excluded.append(Exclusion(None, run.id, CONTINUED))
            continue
        rows.append(_row(run))
        if curves:
            metrics.append(_curve(run))
    if not rows:
        first = f" (first: {excluded[0].run_id}, {excluded[0].reason})" if excluded else ""
        raise ValueError(
            f"{source} holds {len(excluded)} W&B runs and none is finished{first}; finish or sync them first"
        )
    return Reading(
        pd.DataFrame(rows),
        source,
        curves=concatenate(metrics) if curves else None,
        excluded=tuple(excluded),
        inferred=tuple(inferred),
        flops_words="as the tracker logged train/flops",
        counts_known=any("params_non_embedding" in row for row in rows),
    )


def _row(run: LoggedRun) -> Row:
    last: dict[str, object] = {}
    for item in run.history:  # a metric keeps its last value, as W&B's own summary does
        last.update({name: value for name, value in item.items() if not name.startswith("_") and value is not None})
    config = {name: value for name, value in run.config.items() if not name.startswith("_")}
    counts = config.pop("n_params", {})
    row = flatten(config)
    row.update({name: value for name, value in last.items() if isinstance(value, int | float | str)})
    if isinstance(counts, Mapping):
        row.update({f"params_{convention}": float(count) for convention, count in counts.items()})
    elif counts is None or isinstance(counts, int | float | str):
        row["n_params"] = counts
    for own, ours in (("train/tokens", "tokens"), ("train/flops", "flops"), ("val/loss", "loss")):
        if own in row:
            row[ours] = row.pop(own)
    row.update(run_id=run.id, group=run.group)
    return row


def _curve(run: LoggedRun) -> pd.DataFrame:
    names = {
        "_step": "step",
        "train/tokens": "tokens",
        "train/flops": "flops",
        "train/loss": "loss",
        "val/loss": "val_loss",
        "train/lr": "lr",
        "noise/grad_square": "grad_square",
        "noise/grad_trace": "grad_trace",
        "noise/steps": "noise_steps",
    }
    frame = pd.DataFrame([{ours: item.get(own) for own, ours in names.items()} for item in run.history])
    frame["run_id"] = run.id
    return frame.reindex(columns=list(CURVE_COLUMNS)).dropna(subset=["tokens"])
