"""How a fine-tuning went, and the record of it."""

import math
from dataclasses import dataclass

import torch
from torch import nn

from scaling.finetune.plan import PlannedTuning, parent_facts
from scaling.finetune.price import forward_flops_by_group, train_flops_per_example
from scaling.finetune.scores import Scores
from scaling.finetune.tasks import STOP, TASKS, TRAIN, VAL
from scaling.machine import hardware
from scaling.model import parameters_by_group
from scaling.records.attempt import now
from scaling.records.record import DIVERGED, DONE, SCHEMA, RunRecord
from scaling.shapes import flops as exact_flops
from scaling.shapes.matmuls import parameter_counts
from scaling.spec.run_spec import to_dict
from scaling.train.checkpoint import weights_digest


@dataclass
class Outcome:
    """How a run went; the weights are those of `best_step`."""

    steps: int
    started_at: str
    best_step: int = 0
    stop_loss_nats: float = math.inf
    train_loss_nats: float | None = None
    predicted: int = 0
    train_s: float = 0.0
    wall_s: float = 0.0
    eval_flops: int = 0
    diverged: str = ""
    val_loss: tuple[float, float | None] | None = None
    val_sums: tuple[list[float], ...] = ([], [])  # of losses and of predictions, by bucket of documents
    val_predicted: int = 0
    scores: Scores | None = None
    samples: tuple[dict[str, str], ...] = ()


def record_of(
    run: PlannedTuning, found: Outcome, model: nn.Module, family: nn.Module, device: torch.device, attempts: int
) -> RunRecord:
    """The record of a run that went like this; `family` is the family's own model within `model`."""
    spec, parts = run.spec, run.examples.parts
    seen, examples = found.steps * spec.recipe.batch_sequences, len(parts[TRAIN])
    loss, error = found.val_loss or (None, None)
    task = TASKS[spec.finetuned.task]
    groups = forward_flops_by_group(spec)
    head = {"task_head": (spec.model.d_model + 1) * spec.finetuned.classes} if spec.finetuned.classes else {}
    facts = {
        "metric": task.metric,
        "scores": found.scores or {},
        "best_step": found.best_step,
        "stop_loss_nats": found.stop_loss_nats if math.isfinite(found.stop_loss_nats) else None,
        "stop_examples": len(parts[STOP]),
        "val_examples": len(parts[VAL]),
        "val_loss_sums": found.val_sums[0],
        "val_counts": found.val_sums[1],
        "classes": list(run.examples.classes),
        "parent": None if run.start is None else parent_facts(run.start),
        "seen_in_pretraining": task.on_stdlib and spec.data.kind == "stdlib" and run.start is not None,
        "samples": list(found.samples),
    }
    per_token = (1 + exact_flops.BACKWARD_PER_FORWARD) * spec.recipe.batch_sequences / spec.batch_tokens
    return RunRecord(
        schema=SCHEMA,
        run_id=spec.run_id,
        study=run.run_dir.parent.name,
        status=DIVERGED if found.diverged else DONE,
        why=found.diverged,
        spec=to_dict(spec),
        params_by_group=parameters_by_group(family) | head,
        n_params=parameter_counts(spec.model),
        flops_per_token_by_group={group: flops * per_token for group, flops in groups.items()},
        flops_convention=exact_flops.EXACT_IN_WORDS,
        budget_flops=None,
        train_flops=seen * train_flops_per_example(spec),
        optimizer_flops=0,
        paid_flops=seen * train_flops_per_example(spec),
        trunk=None,
        eval_flops=found.eval_flops,
        recompute_flops=0,
        train_tokens=found.steps * spec.batch_tokens,
        predicted_tokens=found.predicted,
        unique_tokens=examples * spec.batch_tokens // spec.recipe.batch_sequences,
        epochs=seen / examples,
        steps=found.steps,
        val_loss_nats=loss,
        val_loss_se_nats=error,
        val_bits_per_byte=None,
        val_next_loss_nats=None,
        train_loss_nats=found.train_loss_nats,
        val_tokens=found.val_predicted,
        entropy_rate_nats=None,
        least_loss_nats=None,
        wall_s=found.wall_s,
        train_s=found.train_s,
        attempts=attempts,
        weights_sha256=weights_digest(model),
        hardware=hardware.describe(device),
        versions=hardware.versions(),
        git_commit=hardware.git_commit(),
        started_at=found.started_at,
        ended_at=now(),
        imported=None,
        finetuned=facts,
    )
