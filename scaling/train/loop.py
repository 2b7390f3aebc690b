"""The training loop: one run, in order, from its model to its record.

The loop awaits every step, because runs in lockstep take steps together; a run that trains alone takes a step at once.
"""

from dataclasses import replace
from functools import cache

import torch

from scaling.data.chunks import epoch_tokens
from scaling.machine import hardware
from scaling.plan.branches import trunk_id, trunk_steps
from scaling.plan.hopeless import hopeless
from scaling.plan.run import Run
from scaling.records.life import Life
from scaling.records.orders import cancel
from scaling.records.record import DIVERGED, DONE, RunRecord
from scaling.shapes import flops
from scaling.spec.schedule import learning_rate_factor
from scaling.train import checkpoint
from scaling.train.bare_record import bare_record
from scaling.train.checkpoint import Progress
from scaling.train.checkpoint_writer import Writer
from scaling.train.gradient_noise import is_measured
from scaling.train.metric_rows import Row, validated_auxiliary
from scaling.train.setup import Prepare, Setup, batches_of, stepper_of, text_of
from scaling.train.step import Pace, seed_dropout
from scaling.train.stop_request import StopRequest
from scaling.train.trunk import TrunkRows
from scaling.train.validation import Validation, validation_batches


async def train(
    run: Run,
    setup: Setup,
    life: Life,
    resume_from: checkpoint.Checkpoint | None,
    stop: StopRequest,
    pace: Pace,
    writer: Writer,
    prepare: Prepare = stepper_of,
) -> RunRecord:
    """Train to the last step, or until the run diverges; return the record, which is not published yet.

    Raises KeyboardInterrupt, with a checkpoint written, when `stop` is requested.
    """
    spec, runtime, device, tokens = run.spec, run.runtime, setup.device, setup.tokens
    recipe, steps = spec.recipe, spec.recipe.steps

    # The model and its optimizer, at the beginning or where an earlier attempt stopped.
    stepper = prepare(run, setup, resume_from)

    text = text_of(spec, tokens)
    batch_of = batches_of(spec, tokens, text)

    def validate() -> Validation:
        with life.heartbeat.doing("validating"):
            return pace.evaluate(stepper, validation_batches(spec, tokens.val, text, device))

    progress = Progress()
    if resume_from is not None:
        progress = Progress.at(resume_from)
        for earlier in resume_from.rows:
            life.repeat(earlier)
    rows = TrunkRows(spec, runtime, tokens.manifest, stepper, progress, resume_from)

    wall_before = progress.wall_s
    started = mark = pace.seconds()
    for step in range(progress.step + 1, steps + 1):
        factor = learning_rate_factor(recipe.schedule, step - 1, steps)
        if spec.model.dropout:
            seed_dropout(spec.seed, step)
        batch = batch_of(step)
        due = rows.due(step)
        result = await pace.take(stepper, batch, factor, measure_noise=is_measured(step), due=due)
        rows.add(result)
        life.heartbeat.taken = step
        progress.predicted_tokens += batch.predicted
        # Read once a step, so that a stop raised below has its checkpoint.
        stopping = stop.requested or life.heartbeat.cancelled is not None
        wait = stopping or step == steps
        save = wait or writer.due()
        if not (due or save):
            continue

        # Reading a result waits for the device, so it happens only at steps that are logged or saved.
        rate, norm = recipe.optimizer.learning_rate * factor, float(result.grad_norm)
        progress.step = step
        progress.train_s += pace.seconds() - mark
        row = rows.make(step, rate, norm, progress.train_s, cache(validate))
        if row is not None:
            life.log(row, steps, **_utilisation(row, run, device))
            if why := hopeless(run, row):
                cancel(run.directory, why)
                life.heartbeat.cancelled = why  # at once, not at the next beat
        progress.wall_s = wall_before + pace.seconds() - started
        if rows.diverged:
            break
        if save:
            with life.heartbeat.doing("saving"):
                model, optimizer = stepper.whole()
                tables, state = checkpoint.tables_of(model, optimizer), progress.state() | rows.state()
                writer.save(life.attempt, tables, state, wait=wait, gathered=model is not stepper.model)
        if stopping and step < steps:
            raise KeyboardInterrupt(f"stopped at step {step} of {steps}, checkpoint written")
        mark = pace.seconds()

    writer.wait()  # a diverged run's last checkpoint may still be in flight
    bare = bare_record(spec, life.attempt, stepper.whole()[0], device, progress.started_at)
    bare = replace(bare, hardware=bare.hardware | stepper.notes)
    return _filled(bare, run, setup, progress, rows.last, rows.eval_flops, rows.diverged)


def _filled(
    bare: RunRecord, run: Run, setup: Setup, progress: Progress, row: Row, eval_flops: int, diverged: str
) -> RunRecord:
    """Fill in the record of a run that ended with `progress` and the metric row `row`."""
    spec, manifest, step = run.spec, setup.tokens.manifest, progress.step
    recipe, kind = spec.recipe, spec.recipe.optimizer.kind
    sequences, text = step * recipe.batch_sequences, spec.lengths.text
    per_step = flops.train_flops_per_step(spec.model, recipe.batch_sequences, kind)
    optimizer_flops = flops.OPTIMIZER_FLOPS[kind](spec.model)
    recomputed = flops.recompute_flops_per_sequence(spec.model) if run.runtime.recompute_activations else 0
    trunk = progress.trunk or {"steps": 0, "paid_by": None}  # steps that another run took
    bounded = spec.objective.predicts_every_token  # a source's entropies bound predictions from earlier tokens alone
    final = {} if diverged else row
    return replace(
        bare,
        status=DIVERGED if diverged else DONE,
        why=diverged,
        flops_convention=bare.flops_convention + (", and the optimizer's own" if optimizer_flops else ""),
        budget_flops=run.budget_flops,
        train_flops=step * per_step,
        optimizer_flops=step * optimizer_flops,
        paid_flops=(step - trunk["steps"]) * per_step,
        trunk={"id": trunk_id(spec), "steps": trunk_steps(spec), "paid_by": trunk["paid_by"]},
        eval_flops=eval_flops,
        recompute_flops=sequences * recomputed,
        train_tokens=step * spec.batch_tokens,
        predicted_tokens=progress.predicted_tokens,
        unique_tokens=manifest.unique_train_tokens,
        epochs=sequences * text / epoch_tokens(manifest.train_tokens, text),
        steps=step,
        val_loss_nats=final.get("val_loss"),
        val_loss_se_nats=final.get("val_loss_se"),
        val_bits_per_byte=final.get("val_bpb"),
        val_auxiliary_nats=validated_auxiliary(final),
        train_loss_nats=row["train_loss"],
        val_tokens=row.get("val_tokens", 0),
        entropy_rate_nats=manifest.entropy_rate_nats if bounded else None,
        least_loss_nats=manifest.least_loss_nats(spec.model.context) if bounded else None,
        hardware=bare.hardware
        | {"devices_per_run": run.runtime.devices_per_run, "nodes_per_run": run.runtime.nodes_per_run},
        truth=None if manifest.truth is None else dict(manifest.truth),
        wall_s=progress.wall_s,
        train_s=progress.train_s,
        continued=None if run.parent is None else run.parent.facts(spec.data, run.runtime.cache_dir),
    )


def _utilisation(row: Row, run: Run, device: torch.device) -> dict[str, float]:
    """Model FLOPs utilisation for a tracker, a share of peak; empty without a tracker or a known peak."""
    peak = hardware.peak_flops(device, run.spec.recipe.precision) if run.runtime.trackers else None
    return {} if peak is None else {"mfu": row["flops_per_s"] / (peak * run.runtime.devices_per_run)}
