"""The plan: every run of a sweep priced before anything starts, in the order in which it will be handed out."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from scaling.attempt import DIVERGED, DONE, RUNNING, RunState, run_state
from scaling.budget import TOLERANCE
from scaling.config import Run
from scaling.data.prepare import DataConfig, manifest
from scaling.data.sources import TextSource
from scaling.launch.devices import gpu_ids
from scaling.quantities import duration
from scaling.record import read_records
from scaling.shape import parameter_counts
from scaling.spec import ParametrizationSpec, RunSpec

# Time estimates. Measured on one core of a 2020s server CPU in float32: what a step costs before its arithmetic, what
# each layer adds to that, and the arithmetic's speed. Assumed for a GPU: 40% of an H100's dense bf16 peak.
CPU_STEP_S, CPU_LAYER_S, CPU_FLOPS_PER_S = 0.3e-3, 0.4e-3, 40e9
GPU_STEP_S, GPU_LAYER_S, GPU_FLOPS_PER_S = 2e-3, 0.5e-3, 400e12
# Weights, gradients and AdamW's two moments, each float32.
STATE_BYTES_PER_PARAM = 16
# Beyond these a run's loss is confounded with something else than its size (Porian et al. 2024 on warm-up).
FEW_STEPS, LONG_WARMUP, FEW_TOKENS_PER_PARAM = 1000, 0.1, 3.0
BPE_BYTES_PER_TOKEN = 3.5  # assumed for English and code at some thousands of tokens of vocabulary


class OverBudgetError(ValueError):
    """The plan costs more than it may."""


@dataclass(frozen=True)
class PlanWarning:
    """Something about a planned run that its buyer should know."""

    kind: str  # "off budget", "repeats data", "few steps", "long warm-up", "few tokens", "busy"
    severity: float  # comparable within a kind
    text: str


@dataclass(frozen=True)
class PlannedRun:
    """One line of plan.jsonl: a cell of the grid with its price; raw counts, seconds, bytes."""

    run_id: str
    overrides: tuple[str, ...]
    status: str  # pending, running, done, diverged, failed, interrupted, killed
    family: str  # kind of the model
    objective: str
    n_layers: int
    d_model: int
    n_heads: int
    n_params: dict[str, int]
    train_tokens: int
    tokens_per_param: float  # non-embedding
    steps: int
    batch_tokens: int
    learning_rate: float
    parametrization: ParametrizationSpec | None  # None: standard
    unique_tokens: int  # in the training split; estimated until the data is prepared
    unique_tokens_known: bool
    epochs: float
    requested_flops: float
    train_flops: int
    memory_bytes: int
    estimated_s: float
    warnings: tuple[PlanWarning, ...]


@dataclass(frozen=True)
class Plan:
    """The runs of a sweep, longest first."""

    study_dir: Path
    runs: tuple[PlannedRun, ...]
    merged: tuple[str, ...]  # cells that turned out to be the same run as another

    @property
    def total_flops(self) -> int:
        return sum(run.train_flops for run in self.runs)

    @property
    def missing(self) -> tuple[PlannedRun, ...]:
        """What is still to be trained; a run that somebody is training right now is theirs to finish."""
        return tuple(run for run in self.runs if run.status not in (DONE, DIVERGED))

    def worst_warnings(self) -> list[tuple[str, PlanWarning, int]]:
        """For each kind of warning the run that it hits hardest, and how many runs it hits."""
        hits: dict[str, list[tuple[str, PlanWarning]]] = {}
        for run in self.runs:
            for warning in run.warnings:
                hits.setdefault(warning.kind, []).append((run.run_id, warning))
        worst = [max(found, key=lambda hit: hit[1].severity) for found in hits.values()]
        return [(run_id, warning, len(hits[warning.kind])) for run_id, warning in worst]

    def write(self) -> Path:
        """Write plan.jsonl into the study, one run a line."""
        self.study_dir.mkdir(parents=True, exist_ok=True)
        path = self.study_dir / "plan.jsonl"
        path.write_text("".join(json.dumps(asdict(run)) + "\n" for run in self.runs))
        return path


def read_plan(study_dir: Path) -> list[dict[str, Any]]:
    """The lines of a study's plan, or an empty list when it has none."""
    try:
        lines = (study_dir / "plan.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines]


def spending(study_dir: Path) -> str:
    """What a study's plan would spend and its runs' records say was spent, in a sentence; empty without a plan."""
    lines = read_plan(study_dir)
    if not lines:
        return ""
    ids = {line["run_id"] for line in lines}  # a study may hold other plans' runs too
    records = [record for record in read_records(study_dir) if record.run_id in ids]
    planned, spent = sum(line["train_flops"] for line in lines), sum(record.train_flops for record in records)
    validated = sum(record.eval_flops for record in records)
    train_s, wall_s = sum(record.train_s for record in records), sum(record.wall_s for record in records)
    share = f", {train_s / wall_s:.0%} of the runs' {duration(wall_s)} in training steps" if wall_s else ""
    return (
        f"{planned:.4g} FLOPs planned in {len(lines)} runs, {spent:.4g} spent on training in {len(records)} "
        f"(and {validated:.2g} on validation){share}"
    )


def make_plan(runs: Sequence[Run], total_flops: float | None) -> Plan:
    """Price the runs; OverBudgetError, with the arithmetic, when together they cost more than `total_flops`."""
    if not runs:
        raise ValueError("the grid has no cells; give hydra.sweeper.budgets and .shapes, or sweep over something")
    first: dict[str, Run] = {}
    merged = []
    for run in runs:
        if run.spec.run_id in first:
            twin = first[run.spec.run_id]
            merged.append(f"{' '.join(run.overrides)} is the same run as {' '.join(twin.overrides)}")
        else:
            first[run.spec.run_id] = run
    gpu = wants_gpu(runs[0])
    priced = [price(run, run_state(run.directory), gpu) for run in first.values()]
    priced.sort(key=lambda run: run.estimated_s, reverse=True)
    plan = Plan(runs[0].runtime.study_dir, tuple(priced), tuple(merged))
    if total_flops is not None and plan.total_flops > total_flops:
        raise OverBudgetError(
            f"the plan costs {arithmetic(plan)} = {plan.total_flops:.4g} FLOPs, more than "
            f"budget.total_flops={total_flops:.4g}; drop budgets, shapes or seeds, or raise the cap"
        )
    return plan


def arithmetic(plan: Plan) -> str:
    """The total as a sum over budgets, e.g. `5 x 1e+11 + 5 x 1e+12`."""
    counts: dict[str, int] = {}
    for run in plan.runs:
        key = f"{run.requested_flops:.3g}"
        counts[key] = counts.get(key, 0) + 1
    return " + ".join(f"{count} x {flops}" for flops, count in sorted(counts.items(), key=lambda p: float(p[0])))


def wants_gpu(run: Run) -> bool:
    """Whether the run will find itself on a GPU here."""
    return run.runtime.device == "cuda" or (run.runtime.device == "auto" and bool(gpu_ids()))


def price(run: Run, state: RunState, gpu: bool) -> PlannedRun:
    """What one run costs, and what is worth a warning."""
    spec, allocation = run.spec, run.allocation
    n_params = parameter_counts(spec.model)
    known = manifest(spec.data, run.runtime.cache_dir)
    unique = known.unique_train_tokens if known else estimated_tokens(run.data)
    epochs = spec.text_tokens / unique
    warnings = []
    if abs(allocation.off_by) > TOLERANCE:
        text = (
            f"{spec.recipe.steps} whole steps realise {allocation.realised_flops:.4g} FLOPs, "
            f"{allocation.off_by:+.1%} off the {allocation.requested_flops:.4g} asked for"
        )
        warnings.append(PlanWarning("off budget", abs(allocation.off_by), text))
    if epochs > 1:
        about = "" if known else "about "
        text = f"repeats its data: {about}{epochs:.3g} epochs of {about}{unique:,} unique tokens"
        warnings.append(PlanWarning("repeats data", epochs, text))
    warnings += confounders(spec)
    if state.status == RUNNING:
        warnings.append(PlanWarning("busy", 1, "is being trained by another process right now"))
    return PlannedRun(
        run_id=spec.run_id,
        overrides=run.overrides,
        status=state.status,
        family=spec.model.kind,
        objective=spec.objective.kind,
        n_layers=spec.model.n_layers,
        d_model=spec.model.d_model,
        n_heads=spec.model.n_heads,
        n_params=n_params,
        train_tokens=spec.train_tokens,
        tokens_per_param=spec.train_tokens / n_params["non_embedding"],
        steps=spec.recipe.steps,
        batch_tokens=spec.batch_tokens,
        learning_rate=spec.recipe.optimizer.learning_rate,
        parametrization=spec.recipe.parametrization,
        unique_tokens=unique,
        unique_tokens_known=known is not None,
        epochs=epochs,
        requested_flops=allocation.requested_flops,
        train_flops=allocation.realised_flops,
        memory_bytes=memory_bytes(spec, run.runtime.micro_batch_sequences),
        estimated_s=estimated_s(spec, allocation.realised_flops, gpu),
        warnings=tuple(warnings),
    )


def confounders(spec: RunSpec) -> list[PlanWarning]:
    """What would show up in the loss of this run beside its size and its data."""
    found = []
    steps, warmup = spec.recipe.steps, spec.recipe.schedule.warmup_steps
    if steps < FEW_STEPS:
        text = (
            f"trains only {steps} steps: below about {FEW_STEPS:,} its loss tells of the optimizer's start, not of size"
        )
        found.append(PlanWarning("few steps", -steps, text))
    if warmup > LONG_WARMUP * steps:
        text = f"warms up for {warmup / steps:.0%} of its steps, beyond {LONG_WARMUP:.0%} of them"
        found.append(PlanWarning("long warm-up", warmup / steps, text))
    ratio = spec.train_tokens / parameter_counts(spec.model)["non_embedding"]
    if ratio < FEW_TOKENS_PER_PARAM:
        text = f"sees {ratio:.2g} tokens a parameter: below {FEW_TOKENS_PER_PARAM:g} power laws in size bend"
        found.append(PlanWarning("few tokens", -ratio, text))
    return found


@cache
def estimated_tokens(data: DataConfig) -> int:
    """Training tokens of data that is not prepared yet, from its size in bytes."""
    if isinstance(data.source, TextSource):
        bytes_per_token = BPE_BYTES_PER_TOKEN if data.tokenizer in ("bpe", "hf") else 1.0
        return max(1, round(data.source.content_bytes() * (1 - data.val_fraction) / bytes_per_token))
    return max(1, round(data.source.content_tokens() * (1 - data.val_fraction)))


def memory_bytes(spec: RunSpec, micro_batch_sequences: int | None) -> int:
    """Weights, gradients, moments and the activations kept for the backward pass; an estimate.

    Counted per token and layer: what every matmul reads and writes, and the residual stream in float32 at every
    sublayer; beside them the logits, their float32 copy and its gradient.
    """
    shape = spec.model
    width = 2 if spec.recipe.precision == "bf16" else 4
    streams = shape.stream_tokens()
    kept = 0  # of one sequence
    for matmul in shape.matmuls():
        read_and_written = (matmul.fan_in + matmul.fan_out) * width
        logits = matmul.fan_out * (width + 4 + 4)
        kept += streams[matmul.stream] * matmul.layers * (logits if matmul.group == "head" else read_and_written)
    for tower in shape.towers():
        kept += tower.tokens * shape.n_layers * tower.sublayers * shape.d_model * 4
    sequences = min(micro_batch_sequences or spec.recipe.batch_sequences, spec.recipe.batch_sequences)
    return STATE_BYTES_PER_PARAM * parameter_counts(shape)["total"] + sequences * kept


def estimated_s(spec: RunSpec, train_flops: int, gpu: bool) -> float:
    """Seconds of training steps on one slot, from a fixed cost a step and a speed of arithmetic."""
    step, layer, speed = (
        (GPU_STEP_S, GPU_LAYER_S, GPU_FLOPS_PER_S) if gpu else (CPU_STEP_S, CPU_LAYER_S, CPU_FLOPS_PER_S)
    )
    layers = spec.model.n_layers * len(spec.model.towers())
    return spec.recipe.steps * (step + layer * layers) + train_flops / speed
