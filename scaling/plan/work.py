"""The work of a planned study as a file, work.json: all that a worker needs to train its runs, without Hydra.

The file holds each planned run's spec, data, runtime and budget, the folder that their paths are relative to, and two
digests: of the code that planned the runs, and of the configuration, which is the rest of the file.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from scaling.data.prepare import DataConfig
from scaling.data.sources import SOURCES
from scaling.machine.code import code_digest
from scaling.plan.parents import read_parent
from scaling.plan.plan_file import WORK, devices_on_node, nodes_of, read_plan
from scaling.plan.run import Run
from scaling.records.files import read_json, write_text
from scaling.registry import choose
from scaling.spec.budget import Allocation, Budget, Scale
from scaling.spec.run_spec import from_dict, to_dict
from scaling.spec.runtime import Runtime

FILE = WORK
SCHEMA = 1
# Settings in force where a file does not state them, because it is older.
BEFORE_RANKS = {
    "devices_per_run": 1,
    "devices_by_plan": False,
    "nodes_per_run": 1,
    "parallel": "auto",
    "rank_timeout_s": 600.0,
}
SHARED = ("data", "runtime", "budget")  # parts that runs have in common, which the file holds once


@dataclass(frozen=True)
class Work:
    """The work of a study: its planned runs, the longest first, as a worker starts them."""

    study_dir: Path
    lines: tuple[Mapping[str, Any], ...]  # of plan.jsonl
    code: str  # digest of the code that planned the runs
    configuration: str  # digest of the configuration
    content: Mapping[str, Any]

    @property
    def retries(self) -> int:
        """Times that a failed run is tried again."""
        return int(self.content["retries"])

    @property
    def plan_id(self) -> str:
        """Twelve hex digits that name the plan, whatever code made it."""
        return self.configuration[:12]

    @property
    def directory(self) -> Path:
        """The folder that the paths of runs are relative to."""
        return Path(self.content["directory"])

    @cached_property
    def asks_for_cpu(self) -> bool:
        """Whether every run asks for the CPU."""
        return all(values["device"] == "cpu" for values in self.content["shared"]["runtime"])

    @property
    def widest(self) -> int:
        """The most devices that one of the runs takes on a node."""
        return max(map(devices_on_node, self.lines), default=1)

    @property
    def most_nodes(self) -> int:
        """The most nodes that one of the runs takes."""
        return max(map(nodes_of, self.lines), default=1)

    @property
    def fewest_nodes(self) -> int:
        """The fewest nodes that one of the runs takes."""
        return min(map(nodes_of, self.lines), default=1)

    @property
    def caps(self) -> Budget:
        """The caps of the study, which all runs share."""
        return Budget(**self.content["shared"]["budget"][0])

    def run(self, run_id: str) -> Run:
        """A planned run; ValueError where its spec is not the one that its id is a digest of."""
        values = self.content["runs"][run_id]
        shared = {name: self.content["shared"][name][values[name]] for name in SHARED}
        run = run_of({**values, **shared}, self.study_dir)
        if run.spec.run_id != run_id:
            raise ValueError(
                f"{self.study_dir / FILE}: the spec of run {run_id} is that of run {run.spec.run_id}; plan anew"
            )
        return run


def run_values(run: Run) -> dict[str, Any]:
    """A run as plain values, all that a process needs to train it; `run_of` reads them."""
    return {
        "spec": to_dict(run.spec),
        "allocation": asdict(run.allocation),
        "data": _data_values(run.data),
        "runtime": _runtime_values(run.runtime),
        "budget": asdict(run.budget),
        "init_from": None if run.parent is None else str(run.parent.folder),
    }


def run_of(values: Mapping[str, Any], study_dir: Path) -> Run:
    """The run of a study that `run_values` returned."""
    return Run(
        from_dict(values["spec"]),
        Allocation(**values["allocation"] | {"scale": Scale(**values["allocation"]["scale"])}),
        _data(values["data"]),
        _runtime(values["runtime"], study_dir),
        Budget(**values["budget"]),
        tuned=None,
        by_law=None,
        parent=None if values["init_from"] is None else read_parent(values["init_from"]),
    )


def write_work(study_dir: Path, runs: Sequence[Run], retries: int) -> Path:
    """Write the work of a study, whole or not at all; return the file."""
    shared: dict[str, list[Any]] = {name: [] for name in SHARED}
    places: dict[str, int] = {}

    def place(name: str, value: Any) -> int:
        key = f"{name}{json.dumps(value)}"
        if key not in places:
            places[key] = len(shared[name])
            shared[name].append(value)
        return places[key]

    values: dict[str, dict[str, Any]] = {}
    for run in reversed(runs):  # of cells that are the same run, the plan holds the first
        own = run_values(run)
        values[run.spec.run_id] = own | {name: place(name, own[name]) for name in SHARED}
    content = {"directory": str(Path.cwd()), "retries": retries, "shared": shared, "runs": values}
    head = {"schema": SCHEMA, "code": code_digest(), "configuration": _digest(content)}
    study_dir.mkdir(parents=True, exist_ok=True)
    write_text(study_dir / FILE, json.dumps(head | content))
    return study_dir / FILE


def read_work(study_dir: Path) -> Work:
    """The work of a study; ValueError where it has none, or a damaged one, with the command that writes it."""
    path = study_dir / FILE
    values = read_json(path)
    remedy = "`scaling plan OVERRIDES --write`, or the sweep's own command, writes it"
    if values is None:
        found = "is no JSON object" if path.exists() else "is missing"
        raise ValueError(f"{path} {found}, so no worker knows what to train; {remedy}")
    if values.get("schema") != SCHEMA:
        raise ValueError(f"{path} has schema {values.get('schema')}, this version reads {SCHEMA}; {remedy} anew")
    content = {name: value for name, value in values.items() if name not in ("schema", "code", "configuration")}
    if values.get("configuration") != _digest(content):
        raise ValueError(
            f"{path} was changed since it was written: its configuration has another digest; {remedy} anew"
        )
    lines = read_plan(study_dir)
    if lost := [line["run_id"] for line in lines if line["run_id"] not in content["runs"]]:
        raise ValueError(f"{path} does not hold run {lost[0]} of the plan ({len(lost)} are missing); {remedy} anew")
    return Work(study_dir, tuple(lines), str(values["code"]), str(values["configuration"]), content)


def _digest(content: Mapping[str, Any]) -> str:
    """The digest of a configuration; the folder where it was made and the number of retries are no part of it."""
    return sha256(json.dumps([content["shared"], content["runs"]], sort_keys=True).encode()).hexdigest()


def _data_values(data: DataConfig) -> dict[str, Any]:
    return asdict(data) | {"source": {"kind": data.source.kind, **asdict(data.source)}}  # type: ignore[call-overload]


def _data(values: Mapping[str, Any]) -> DataConfig:
    own: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values["source"].items()
    }
    source = choose("data.source.kind", SOURCES, own.pop("kind"))
    return DataConfig(**{**values, "source": source(**own)})


def _runtime_values(runtime: Runtime) -> dict[str, Any]:
    values = asdict(replace(runtime, progress=False))
    del values["study"], values["runs_dir"]  # the folder that a worker is given
    return values | {"cache_dir": str(runtime.cache_dir)}


def _runtime(values: Mapping[str, Any], study_dir: Path) -> Runtime:
    paths = {"cache_dir": Path(values["cache_dir"]), "runs_dir": study_dir.parent}
    lists = {name: tuple(values[name]) for name in ("eval_fractions", "trackers")}
    return Runtime(**{**BEFORE_RANKS, **values, **paths, **lists, "study": study_dir.name})
