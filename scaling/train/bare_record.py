"""A bare record: a run's record without measurements, which training, fine-tuning and importing fill in."""

import torch
from torch import nn

from scaling.machine import hardware
from scaling.machine.checkout import git_commit
from scaling.model import parameters_by_group
from scaling.records.attempt import Attempt, now
from scaling.records.record import DONE, LINK, SCHEMA, RunRecord
from scaling.shapes.flops import EXACT_IN_WORDS, train_flops_per_token_by_group
from scaling.shapes.matmuls import parameter_counts
from scaling.spec.run_spec import RunSpec, to_dict
from scaling.train.checkpoint import weights_digest


def bare_record(spec: RunSpec, attempt: Attempt, model: nn.Module, device: torch.device, started_at: str) -> RunRecord:
    """The record of a finished attempt as far as it follows from spec, model and machine; measured fields are empty."""
    return RunRecord(
        schema=SCHEMA,
        run_id=spec.run_id,
        study=attempt.run_dir.parent.name,
        status=DONE,
        why="",
        spec=to_dict(spec),
        params_by_group=parameters_by_group(model),
        n_params=parameter_counts(spec.model),
        flops_per_token_by_group=train_flops_per_token_by_group(spec.model),
        flops_convention=EXACT_IN_WORDS,
        budget_flops=None,
        train_flops=0,
        optimizer_flops=0,
        paid_flops=0,
        trunk=None,
        eval_flops=0,
        recompute_flops=0,
        train_tokens=0,
        predicted_tokens=0,
        unique_tokens=0,
        epochs=0.0,
        steps=0,
        val_loss_nats=None,
        val_loss_se_nats=None,
        val_bits_per_byte=None,
        val_auxiliary_nats={},
        train_loss_nats=None,
        val_tokens=0,
        entropy_rate_nats=None,
        least_loss_nats=None,
        wall_s=0.0,
        train_s=0.0,
        attempts=attempt.number,
        weights_sha256=weights_digest(model),
        hardware=hardware.describe(device),
        versions=hardware.versions(),
        git_commit=git_commit(),
        started_at=started_at,
        ended_at=now(),
        imported=None,
        publication=LINK,
        truth=None,
        finetuned=None,
        continued=None,
    )
