"""One attempt at one run, and the record that it ends with."""

from dataclasses import dataclass
from typing import Any

import torch

from scaling.data.chunks import epoch_tokens
from scaling.data.prepare import TokenData
from scaling.machine import hardware
from scaling.plan.branches import trunk_id, trunk_steps
from scaling.records.attempt import Attempt, now
from scaling.records.record import DIVERGED, DONE, SCHEMA, RunRecord
from scaling.shapes import flops as exact_flops
from scaling.shapes.matmuls import parameter_counts
from scaling.spec.run_spec import RunSpec, to_dict
from scaling.spec.runtime import Runtime
from scaling.train import checkpoint


@dataclass(frozen=True)
class Job:
    """One attempt at one run: what is trained, on what, from where on."""

    spec: RunSpec
    tokens: TokenData
    runtime: Runtime
    device: torch.device
    micro_batch: int  # sequences
    attempt: Attempt
    resume_from: checkpoint.Checkpoint | None
    budget_flops: float | None


def record_of(
    job: Job, params_by_group: dict[str, int], weights_sha256: str, state: dict[str, Any], diverged: str
) -> RunRecord:
    """The record of a run that ended in this state; `diverged` says why if it did."""
    spec, manifest, row = job.spec, job.tokens.manifest, state["row"]
    sequences = state["step"] * spec.recipe.batch_sequences
    again = sequences * exact_flops.recompute_flops_per_sequence(spec.model) if job.runtime.recompute_activations else 0
    given = state["trunk"] or {"steps": 0, "paid_by": None}
    per_step = exact_flops.train_flops_per_step(spec.model, spec.recipe.batch_sequences, spec.recipe.optimizer.kind)
    optimizer_flops = exact_flops.OPTIMIZER_FLOPS[spec.recipe.optimizer.kind](spec.model)
    # A source's entropies bound what is predicted from one side alone.
    bounded = spec.objective.predicts_every_token
    return RunRecord(
        schema=SCHEMA,
        run_id=spec.run_id,
        study=job.runtime.study,
        status=DIVERGED if diverged else DONE,
        why=diverged,
        spec=to_dict(spec),
        params_by_group=params_by_group,
        n_params=parameter_counts(spec.model),
        flops_per_token_by_group=exact_flops.train_flops_per_token_by_group(spec.model),
        flops_convention=exact_flops.EXACT_IN_WORDS + (", and the optimizer's own" if optimizer_flops else ""),
        budget_flops=job.budget_flops,
        train_flops=state["step"] * per_step,
        optimizer_flops=state["step"] * optimizer_flops,
        paid_flops=(state["step"] - given["steps"]) * per_step,
        trunk={"id": trunk_id(spec), "steps": trunk_steps(spec), "paid_by": given["paid_by"]},
        eval_flops=state["eval_flops"],
        recompute_flops=again,
        train_tokens=state["step"] * spec.batch_tokens,
        predicted_tokens=state["predicted_tokens"],
        unique_tokens=manifest.unique_train_tokens,
        epochs=sequences * spec.lengths.text / epoch_tokens(manifest.train_tokens, spec.lengths.text),
        steps=state["step"],
        val_loss_nats=None if diverged else row["val_loss"],
        val_loss_se_nats=None if diverged else row["val_loss_se"],
        val_bits_per_byte=None if diverged else row["val_bpb"],
        val_next_loss_nats=None if diverged else row.get("val_next_loss"),
        train_loss_nats=row["train_loss"],
        val_tokens=row.get("val_tokens", 0),
        entropy_rate_nats=manifest.entropy_rate_nats if bounded else None,
        least_loss_nats=manifest.least_loss_nats(spec.model.context) if bounded else None,
        wall_s=state["wall_s"],
        train_s=state["train_s"],
        attempts=job.attempt.number,
        weights_sha256=weights_sha256,
        hardware=hardware.describe(job.device),
        versions=hardware.versions(),
        git_commit=hardware.git_commit(),
        started_at=state["started_at"],
        ended_at=now(),
        imported=None,
        finetuned=None,
    )
