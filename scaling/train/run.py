"""One run's training: every step asked for, every metric row, every checkpoint, and the record at its end."""

import json
import time
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from scaling.data.chunks import TrainingChunks
from scaling.data.token_text import TokenText
from scaling.machine import hardware
from scaling.model import build, parameters_by_group
from scaling.model.tower import recompute_activations
from scaling.objectives.objectives import training_batch
from scaling.records.attempt import Heartbeat, now
from scaling.trackers import Tracker
from scaling.train import checkpoint
from scaling.train.cuda_graph import CudaGraph, why_not
from scaling.train.gradient_noise import is_measured
from scaling.train.job import Job, record_of
from scaling.train.lockstep import Clock, Training
from scaling.train.metric_rows import BLANK, MetricRows
from scaling.train.schedule import learning_rate_factor
from scaling.train.stacked_step import Ask
from scaling.train.step import Stepper
from scaling.train.stop_request import StopRequest
from scaling.train.trunk import Trunk, planned_branches
from scaling.train.validation import Validation, evaluate, validation_examples


class Reporter(Protocol):
    """Who hears how a run is doing while it trains."""

    def claimed(self, attempt_dir: Path, run_id: str, steps: int, start_step: int) -> None: ...
    def row(self, row: dict[str, Any]) -> None: ...


def run(
    job: Job, tracker: Tracker, reporter: Reporter, heartbeat: Heartbeat, clock: Clock, stop: StopRequest
) -> Training:
    """Train to the last step, or until the run diverges or is asked to stop, which raises KeyboardInterrupt."""
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
    curve = MetricRows(spec, steps, tokens.manifest, runtime, device, state["train_s"])
    curve.restore(state)
    trunk = Trunk(spec, state, tokens.manifest, runtime, device)

    text = TokenText.of(tokens.tokenizer()) if spec.objective.needs_text() else None
    text_tokens = spec.lengths.text
    batches = TrainingChunks(tokens.train, text_tokens, recipe.batch_sequences, spec.seed)

    def validate() -> Validation:
        return evaluate(model, validation_examples(spec, tokens.val, text, device), stepper.autocast)

    wall_before = state["wall_s"]
    started = mark = clock.read()
    saved_at = time.perf_counter()

    with (attempt.path / "metrics.jsonl").open("a", buffering=1) as metrics:
        for given in state.pop("rows"):
            metrics.write(json.dumps(given) + "\n")
            tracker.log(given)
        for step in range(state["step"] + 1, steps + 1):
            factor = learning_rate_factor(recipe.schedule, step - 1, steps)
            if spec.model.dropout:
                torch.manual_seed(_mix(spec.seed, step))  # dropout, too, is a function of (seed, step)
            batch = training_batch(spec, batches.batch(step - 1), step, text)
            logged = step in curve.steps or trunk.due(step)
            stepped = yield Ask(stepper, batch, factor, is_measured(step), logged)
            state["predicted_tokens"] += batch.predicted
            for each in (curve, *trunk.curves):
                each.add(stepped)
            stopping = stop.asked  # asked once a step: what is announced below was saved
            save = step == steps or stopping or time.perf_counter() - saved_at >= runtime.checkpoint_every_s
            if not (logged or save):
                continue

            # Reading the loss waits for the device, so it happens only at steps that are logged or saved.
            rate, norm = recipe.optimizer.learning_rate * factor, float(stepped.grad_norm)
            state["step"] = step
            state["train_s"] += clock.read() - mark
            take_row = partial(
                MetricRows.take_row,
                step=step,
                lr=rate,
                grad_norm=norm,
                train_s=state["train_s"],
                validate=cache(validate),
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
            state |= {"wall_s": wall_before + clock.read() - started, **curve.state()}
            if curve.diverged:
                break
            if save:
                checkpoint.save(attempt, model, optimizer, state | {"branches": trunk.state()})
                saved_at = time.perf_counter()
            if stopping and step < steps:
                raise KeyboardInterrupt(f"stopped at step {step} of {steps}, checkpoint written")
            mark = clock.read()

    return record_of(job, parameters_by_group(model), checkpoint.weights_digest(model), state, curve.diverged)


def _mix(seed: int, step: int) -> int:
    return int(np.random.SeedSequence((seed, step)).generate_state(1)[0])
