"""The plan of a study as a file, plan.jsonl: its lines written and read back, their cost, and doubts about them."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.quantities import duration
from scaling.records.files import parse_lines, read_json, write_text
from scaling.records.record import readable_record
from scaling.spec.budget import Budget

FILE, WORK = "plan.jsonl", "work.json"


def write_plan(study_dir: Path, lines: Iterable[Mapping[str, Any]]) -> Path:
    """Write the lines of a study's plan, whole or not at all; return the file."""
    study_dir.mkdir(parents=True, exist_ok=True)
    write_text(study_dir / FILE, "".join(json.dumps(line) + "\n" for line in lines))
    return study_dir / FILE


def read_plan(study_dir: Path, damaged: list[str] | None = None) -> list[dict[str, Any]]:
    """The lines of a study's plan; none without a plan.

    Lines that name no run are left out, and named in the list of what is `damaged`.
    """
    path = study_dir / FILE
    try:
        content = path.read_bytes().removesuffix(b"\n")
    except FileNotFoundError:
        return []
    lines, bad = parse_lines(content.split(b"\n") if content else (), _is_planned_run)
    if damaged is not None:
        why = "is no planned run: left out; the sweep's command writes it again"
        damaged += [f"{path}, line {number}, {why}" for number in bad]
    return lines


@dataclass(frozen=True)
class Sweep:
    """The runs of a study's sweep, and the caps that they share."""

    ids: frozenset[str]  # those included that the caps have no room for; none without a plan
    caps: Budget | None  # None where no plan states any


def read_sweep(study_dir: Path) -> Sweep:
    """The sweep of a study, by its work.json."""
    work = read_json(study_dir / WORK) or {}
    runs = work.get("runs")
    try:
        caps = Budget(**work["shared"]["budget"][0])
    except (ValueError, KeyError, TypeError, IndexError):
        caps = None
    return Sweep(frozenset(runs) if isinstance(runs, dict) else frozenset(), caps)


def devices_of(line: Mapping[str, Any]) -> int:
    """Devices that a planned run takes in all, by its line."""
    return int(line.get("devices_per_run", 1))


def nodes_of(line: Mapping[str, Any]) -> int:
    """Nodes that these devices are spread over."""
    return int(line.get("nodes_per_run", 1))


def devices_on_node(line: Mapping[str, Any]) -> int:
    """Devices that a planned run takes on each of its nodes."""
    return devices_of(line) // nodes_of(line)


def slot_seconds(line: Mapping[str, Any]) -> float:
    """Seconds of all slots that a planned run takes, by its line: its time times its devices."""
    return float(line.get("estimated_s") or 0.0) * devices_of(line)


def _is_planned_run(line: Any) -> bool:
    return isinstance(line, dict) and isinstance(line.get("run_id"), str)


def spending(study_dir: Path) -> str:
    """FLOPs that a study planned and that its records state as spent, in a sentence; empty without a plan."""
    lines = read_plan(study_dir)
    if not lines:
        return ""
    ids = {line["run_id"] for line in lines}  # a study may hold other plans' runs too
    planned = sum(line.get("paid_flops", line.get("train_flops", 0)) for line in lines)
    records = (record for run_id in ids if (record := readable_record(study_dir / run_id)) is not None)
    finished, spent, validated, train_s, wall_s = 0, 0, 0, 0.0, 0.0
    for record in records:  # one at a time, as a study may hold thousands
        finished += 1
        spent += record.paid_flops
        validated += record.eval_flops
        train_s += record.train_s
        wall_s += record.wall_s
    share = f", {train_s / wall_s:.0%} of the runs' {duration(wall_s)} in training steps" if wall_s else ""
    return (
        f"{planned:.4g} FLOPs planned in {len(lines)} runs, {spent:.4g} spent on training in {finished} "
        f"(and {validated:.2g} on validation){share}"
    )


def doubts(study_dir: Path) -> list[str]:
    """Doubts about a study's plan, each in a sentence: damaged lines, and runs that its recipe was not tuned for."""
    damaged: list[str] = []
    lines = read_plan(study_dir, damaged)
    hits = [one for line in lines for one in line.get("warnings", ()) if one["kind"] == "untuned"]
    if not hits:
        return damaged
    worst = max(hits, key=lambda one: float(one["severity"]))
    which = "lies" if len(hits) == 1 else "lie"
    return [
        *damaged,
        f"{len(hits)} of {len(lines)} planned runs {which} outside what their recipe was tuned on; the furthest "
        f"{worst['text']}",
    ]
