"""Train one run, from its spec to its record.

B batch, P predictions, S tokens of a chunk, V vocabulary
"""

import json
import time
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from scaling import flops as ledger
from scaling.attempt import (
    DIVERGED,
    DONE,
    FAILED,
    INTERRUPTED,
    Attempt,
    Heartbeat,
    RunIsLiveError,
    claim,
    now,
)
from scaling.branches import trunk_id, trunk_steps
from scaling.data.batches import Batches, epoch_tokens
from scaling.data.prepare import DataConfig, TokenData, prepare
from scaling.data.token_text import TokenText
from scaling.ledger import parameter_counts
from scaling.memory import largest_micro_batch
from scaling.model import build, parameters_by_group
from scaling.model.tower import recompute_activations
from scaling.objectives import training_example
from scaling.record import SCHEMA, RunRecord, publish_record, read_record, write_json
from scaling.runtime import Runtime
from scaling.spec import RunSpec, to_dict
from scaling.trackers import Tracker, start_tracker
from scaling.train import checkpoint, hardware
from scaling.train.curve import BLANK, Curve
from scaling.train.evaluate import Validation, evaluate, validation_examples
from scaling.train.graph import CudaGraph, why_not
from scaling.train.noise import is_measured
from scaling.train.schedule import learning_rate_factor
from scaling.train.step import Stepper
from scaling.train.stop import StopRequest
from scaling.train.trunk import Trunk, planned_branches

WAIT_FOR_OTHER_S = 1.0
FREE_SHARE = 0.85  # of the free memory that a step is given: the estimate of what it takes is good to about 15%


class Reporter(Protocol):
    """Who hears how a run is doing while it trains."""

    def claimed(self, attempt_dir: Path, run_id: str, steps: int, start_step: int) -> None: ...
    def row(self, row: dict[str, Any]) -> None: ...


def train(
    spec: RunSpec,
    data: DataConfig,
    runtime: Runtime,
    budget_flops: float | None,
    reporter: Reporter,
) -> RunRecord:
    """Train the run unless it is finished, resuming where an earlier attempt stopped, and return its record.

    `reporter` hears of the claim and of every metric row. Raises KeyboardInterrupt after a clean stop that left the run
    resumable, ValueError for what the user must mend.
    """
    run_dir = runtime.study_dir / spec.run_id
    if (finished := read_record(run_dir)) is not None:
        return finished
    if runtime.threads is not None:
        torch.set_num_threads(runtime.threads)
    device = hardware.pick_device(runtime.device, spec.recipe.precision)
    tokens = prepare(data, spec.data, runtime.cache_dir, progress=runtime.progress)
    micro_batch = runtime.micro_batch_sequences or largest_micro_batch(
        spec, FREE_SHARE * hardware.free_bytes(device), runtime.recompute_activations
    )
    run_dir.mkdir(parents=True, exist_ok=True)
    write_json(run_dir / "spec.json", to_dict(spec))

    # From here on a signal stops the run between two steps; before, there is nothing to lose.
    with StopRequest() as stop:
        claimed = _claim(run_dir, {"hardware": hardware.describe(device)}, stop)
        if isinstance(claimed, RunRecord):  # somebody else finished it while we waited
            return claimed
        attempt, resume_from = claimed
        reporter.claimed(attempt.path, spec.run_id, spec.recipe.steps, resume_from.step if resume_from else 0)
        job = _Job(spec, tokens, runtime, device, micro_batch, attempt, resume_from, budget_flops)
        with Heartbeat(attempt) as heartbeat:
            return _train_and_publish(job, reporter, heartbeat, stop)


@dataclass(frozen=True)
class _Job:
    """One attempt at one run: what is trained, on what, from where on."""

    spec: RunSpec
    tokens: TokenData
    runtime: Runtime
    device: torch.device
    micro_batch: int  # sequences
    attempt: Attempt
    resume_from: checkpoint.Checkpoint | None
    budget_flops: float | None


def _train_and_publish(job: _Job, reporter: Reporter, heartbeat: Heartbeat, stop: StopRequest) -> RunRecord:
    """Train to the record; whatever goes wrong, leave word of it and raise."""
    spec, runtime, attempt = job.spec, job.runtime, job.attempt
    tracker: Tracker | None = None
    try:
        counts = {"n_params": parameter_counts(spec.model), "params_by_group": spec.model.parameters_by_group()}
        config = {**to_dict(spec), **counts, "budget_flops": job.budget_flops}
        tracker = start_tracker(runtime.tracker, spec.run_id, runtime.study, config, runtime.tracker_settings)
        record = _run(job, tracker, reporter, heartbeat, stop)
        return _publish(attempt, record, tracker, runtime.keep_weights)
    except BaseException as error:
        status = INTERRUPTED if isinstance(error, KeyboardInterrupt) else FAILED
        attempt.end(status, f"{type(error).__name__}: {error}".rstrip(": "), heartbeat.report["step"])
        if tracker is not None:
            tracker.finish(status, {})
        raise


def _claim(
    run_dir: Path, meta: dict[str, Any], stop: StopRequest
) -> RunRecord | tuple[Attempt, checkpoint.Checkpoint | None]:
    """Claim the run, waiting while another process trains it, with the checkpoint to resume from."""
    told = False
    while True:
        resume_from = checkpoint.latest(run_dir)
        try:
            # A checkpoint that a trunk left holds the rows up to it, which this attempt then writes itself.
            own = resume_from is not None and "rows" not in resume_from.state
            attempt = claim(run_dir, resume_from.step if resume_from and own else 0, meta)
        except RunIsLiveError as error:
            if not told:
                print(f"waiting: {error}", flush=True)
            told = True
            if stop.asked:
                raise KeyboardInterrupt("stopped while waiting") from None
            time.sleep(WAIT_FOR_OTHER_S)
            continue
        if (finished := read_record(run_dir)) is not None:
            attempt.end(finished.status, "finished by an earlier attempt", finished.steps)
            return finished
        return attempt, resume_from


def _run(job: _Job, tracker: Tracker, reporter: Reporter, heartbeat: Heartbeat, stop: StopRequest) -> RunRecord:
    spec, tokens, runtime, device, attempt = job.spec, job.tokens, job.runtime, job.device, job.attempt
    recipe, steps = spec.recipe, spec.recipe.steps
    model = build(spec.model, spec.seed, recipe.multipliers).to(device)
    if runtime.recompute_activations:
        recompute_activations(model)
    graph = None
    if runtime.cuda_graphs:
        if why := why_not(spec, job.micro_batch, device):
            print(f"runtime.cuda_graphs=true: this run's steps are not recorded, since {why}", flush=True)
        else:
            graph = CudaGraph()
    stepper = Stepper(model, recipe, job.micro_batch, device, graph)
    optimizer = stepper.optimizer
    state: dict[str, Any] = {
        "step": 0,
        "train_s": 0.0,
        "wall_s": 0.0,
        "predicted_tokens": 0,
        "started_at": now(),
        "trunk": None,  # how many steps another run took for this one, and which
        "rows": [],  # that came with them
        "branches": planned_branches(spec, runtime.study_dir),
        **BLANK,
    }
    if job.resume_from is not None:
        checkpoint.restore(job.resume_from, model, optimizer)
        state |= {"branches": {}, **job.resume_from.state}
    curve = Curve(spec, steps, tokens.manifest, runtime, device, state["train_s"])
    curve.restore(state)
    trunk = Trunk(spec, state, tokens.manifest, runtime, device)

    text = TokenText.of(tokens.tokenizer()) if spec.objective.needs_text() else None
    text_tokens = spec.lengths.text
    batches = Batches(tokens.train, text_tokens, recipe.batch_sequences, spec.seed)

    def validate() -> Validation:
        return evaluate(model, validation_examples(spec, tokens.val, text, device), stepper.autocast)

    wall_before = state["wall_s"]
    started = mark = saved_at = time.perf_counter()

    with (attempt.path / "metrics.jsonl").open("a", buffering=1) as metrics:
        for given in state.pop("rows"):
            metrics.write(json.dumps(given) + "\n")
            tracker.log(given)
        for step in range(state["step"] + 1, steps + 1):
            factor = learning_rate_factor(recipe.schedule, step - 1, steps)
            if spec.model.dropout:
                torch.manual_seed(_mix(spec.seed, step))  # dropout, too, is a function of (seed, step)
            batch = training_example(spec, batches.batch(step - 1), step, text)
            stepped = stepper.take(batch, factor, measure_noise=is_measured(step))
            state["predicted_tokens"] += batch.predicted
            for each in (curve, *trunk.curves):
                each.add(stepped)
            stopping = stop.asked  # asked once a step: what is announced below was saved
            save = step == steps or stopping or time.perf_counter() - saved_at >= runtime.checkpoint_every_s
            if not (step in curve.steps or trunk.due(step) or save):
                continue

            # Reading the loss waits for the device, so it happens only at steps that are logged or saved.
            rate, norm = recipe.optimizer.learning_rate * factor, float(stepped.grad_norm)
            state["step"] = step
            state["train_s"] += time.perf_counter() - mark
            take_row = partial(
                Curve.take_row, step=step, lr=rate, grad_norm=norm, train_s=state["train_s"], validate=cache(validate)
            )
            if step in curve.steps:
                row = take_row(curve)
                metrics.write(json.dumps(curve.row) + "\n")
                heartbeat.report = {
                    "step": step,
                    "steps": steps,
                    "loss_nats": row["train_loss"],
                    "tokens_per_s": row["tokens_per_s"],
                }
                if runtime.tracker != "none":
                    row["mfu"] = row["flops_per_s"] / hardware.peak_flops(device, recipe.precision)
                tracker.log(row)
                reporter.row(row)
            trunk.pass_step(state, take_row, model, optimizer)
            state |= {"wall_s": wall_before + time.perf_counter() - started, **curve.state()}
            if curve.diverged:
                break
            if save:
                checkpoint.save(attempt, model, optimizer, state | {"branches": trunk.state()})
                saved_at = time.perf_counter()
            if stopping and step < steps:
                raise KeyboardInterrupt(f"stopped at step {step} of {steps}, checkpoint written")
            mark = time.perf_counter()

    return _record(job, parameters_by_group(model), checkpoint.weights_digest(model), state, curve.diverged)


def _record(
    job: _Job, params_by_group: dict[str, int], weights_sha256: str, state: dict[str, Any], diverged: str
) -> RunRecord:
    """The record of a run that ended in this state; `diverged` says why if it did."""
    spec, manifest, row = job.spec, job.tokens.manifest, state["row"]
    sequences = state["step"] * spec.recipe.batch_sequences
    again = sequences * ledger.recompute_flops_per_sequence(spec.model) if job.runtime.recompute_activations else 0
    given = state["trunk"] or {"steps": 0, "paid_by": None}
    per_step = ledger.train_flops_per_step(spec.model, spec.recipe.batch_sequences, spec.recipe.optimizer.kind)
    optimizer_flops = ledger.OPTIMIZER_FLOPS[spec.recipe.optimizer.kind](spec.model)
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
        flops_per_token_by_group=ledger.train_flops_per_token_by_group(spec.model),
        flops_convention=ledger.EXACT_IN_WORDS + (", and the optimizer's own" if optimizer_flops else ""),
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


def _publish(attempt: Attempt, record: RunRecord, tracker: Tracker, keep_weights: bool) -> RunRecord:
    """Publish the record, unless this attempt was overtaken: then the other's word stands."""
    if not attempt.is_current() or not publish_record(attempt.run_dir, record):
        attempt.end(record.status, "overtaken by a later attempt; its record stands", record.steps)
        return read_record(attempt.run_dir) or record
    attempt.end(record.status, record.why, record.steps)
    checkpoint.finish(attempt.run_dir, keep_weights)
    summary = {
        "val_loss_nats": record.val_loss_nats,
        "train_flops": record.train_flops,
        "train_tokens": record.train_tokens,
        **{f"n_params.{name}": count for name, count in record.n_params.items()},
    }
    tracker.finish(record.status, summary)
    return record


def _mix(seed: int, step: int) -> int:
    return int(np.random.SeedSequence((seed, step)).generate_state(1)[0])
