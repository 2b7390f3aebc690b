"""Fine-tuning of one run, from its parent's weights or random weights to its record."""

import math
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from scaling.data.tokenizers import Tokenizer
from scaling.finetune.encode import Encoded, encode
from scaling.finetune.generation import answer
from scaling.finetune.model import start_model
from scaling.finetune.outcome import Course, Scored, filled
from scaling.finetune.plan import PlannedFinetuning, tokenizer_of
from scaling.finetune.price import forward_flops_per_example, train_flops_per_example
from scaling.finetune.scores import TEXT_SCORES, Scores, by_group, in_buckets
from scaling.finetune.tasks import STOP, TRAIN, VAL
from scaling.machine import hardware
from scaling.machine.speed import layers
from scaling.model.tower import taken_eagerly
from scaling.objectives.losses import token_losses
from scaling.records.leftovers import tidy
from scaling.records.life import Life, Reporter, claim_run, live
from scaling.records.record import DONE, RunRecord, read_record
from scaling.registry import choose
from scaling.spec.run_spec import FinetunedSpec
from scaling.spec.runtime import Runtime
from scaling.spec.schedule import learning_rate_factor
from scaling.train import checkpoint
from scaling.train.bare_record import bare_record
from scaling.train.checkpoint_writer import Writer
from scaling.train.step import Stepper, seed_dropout
from scaling.train.stop_request import StopRequest
from scaling.train.validation import VAL_BATCH_TOKENS

SAMPLES = 5  # text answers that the record quotes


def finetune(run: PlannedFinetuning, runtime: Runtime, reporter: Reporter) -> RunRecord:
    """Fine-tune the run unless it is finished, resuming where an earlier attempt stopped, and return its record.

    Raises KeyboardInterrupt after a clean stop, RunIsLiveError while another process holds the run, and ValueError for
    settings that the user must correct.
    """
    spec, run_dir = run.spec, runtime.run_dir(run.spec.run_id)
    if (finished := read_record(run_dir)) is not None:
        return finished
    device = hardware.pick_device(runtime.device, spec.recipe.precision)
    step_flops = spec.recipe.batch_sequences * train_flops_per_example(spec)
    hardware.use_threads(runtime.threads, device, step_flops, layers(spec))
    tokenizer = tokenizer_of(spec, runtime.cache_dir)
    parts = {
        part: encode(spec, examples, run.examples.classes, tokenizer) for part, examples in run.examples.parts.items()
    }
    model = start_model(spec, None if run.start is None else run.start.run_dir)
    model.to(device)
    with StopRequest() as stop:
        start = checkpoint.latest(run_dir)
        meta = {"hardware": hardware.describe(device), "warnings": start.warnings}
        claimed = claim_run(spec, runtime, start.own_step, meta)
        if isinstance(claimed, RunRecord):
            return claimed
        start.announce()
        with live(claimed, spec, runtime, None, reporter) as life, Writer(device, runtime.checkpoint_every_s) as writer:
            reporter.claimed(claimed.path, spec.run_id, spec.recipe.steps, start.step)
            course = _train(spec, runtime, model, device, parts, life, start.checkpoint, stop, writer)
            with life.heartbeat.doing("validating"):
                scored = None if course.diverged else _score(run, model, device, parts[VAL], tokenizer, course)
            if scored is not None:
                _mirror_scores(life, course, scored)
            record = filled(bare_record(spec, claimed, model, device, course.started_at), run, course, scored)
            if runtime.keep_weights and record.status == DONE and claimed.is_current():
                checkpoint.save_weights(run_dir, model)
            if life.publish(record):
                tidy(run_dir, keep_weights=runtime.keep_weights)
                return record
            return read_record(run_dir) or record


def _train(
    spec: FinetunedSpec,
    runtime: Runtime,
    model: nn.Module,
    device: torch.device,
    parts: dict[str, Encoded],
    life: Life,
    resume_from: checkpoint.Checkpoint | None,
    stop: StopRequest,
    writer: Writer,
) -> Course:
    """Train to the last step, and leave the model with the weights of the step chosen by the stop examples."""
    recipe, evaluations = spec.recipe, spec.finetuned.evaluations
    evaluated = {math.ceil(recipe.steps * k / evaluations) for k in range(1, evaluations + 1)}
    step_flops = recipe.batch_sequences * train_flops_per_example(spec)
    stepper = Stepper(model, recipe, recipe.batch_sequences, device)
    course, best = Course(), model.state_dict()
    if resume_from is not None:
        checkpoint.restore(resume_from, model, stepper.optimizer)
        course, best = Course.at(resume_from.state), resume_from.tensors("best")
    loss_sum = torch.full((), course.loss_sum, device=device)
    wall_before = course.wall_s
    started = mark = time.perf_counter()

    def save(*, stopping: bool) -> None:
        course.loss_sum, course.wall_s = float(loss_sum), wall_before + time.perf_counter() - started
        with life.heartbeat.doing("saving"):
            tables = checkpoint.tables_of(model, stepper.optimizer, best=best)
            writer.save(life.attempt, tables, course.state(), wait=stopping)

    for step in range(course.step + 1, recipe.steps + 1):
        factor = learning_rate_factor(recipe.schedule, step - 1, recipe.steps)
        if spec.model.dropout:
            seed_dropout(spec.seed, step)
        rows = batch_rows(len(parts[TRAIN]), recipe.batch_sequences, step - 1, spec.seed)
        batch = parts[TRAIN].batch(rows)
        loss_sum += stepper.take(batch, factor).loss
        course.step = life.heartbeat.taken = step
        course.predicted += batch.predicted
        course.loss_steps += 1
        stopping = stop.requested and step < recipe.steps
        if step in evaluated:
            train_loss = float(loss_sum) / course.loss_steps
            course.train_s += time.perf_counter() - mark
            course.train_loss_nats = train_loss if math.isfinite(train_loss) else None
            with life.heartbeat.doing("validating"):
                losses, counts, _ = _losses(spec, model, device, parts[STOP])
            stop_loss = sum(losses) / max(1.0, sum(counts))
            course.eval_flops += len(parts[STOP]) * forward_flops_per_example(spec)
            if not math.isfinite(train_loss) or not math.isfinite(stop_loss):
                course.diverged = f"loss {train_loss} in training at step {step}"
                break
            if course.improves(stop_loss):
                course.best_step, course.stop_loss_nats = step, stop_loss
                best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            row = {
                "step": step,
                "tokens": step * spec.batch_tokens,
                "flops": step * step_flops,
                "train_loss": train_loss,
                "stop_loss": stop_loss,
                "lr": recipe.optimizer.learning_rate * factor,
                "tokens_per_s": step * spec.batch_tokens / course.train_s,
                "flops_per_s": step * step_flops / course.train_s,
            }
            life.log(row, recipe.steps)
            loss_sum.zero_()
            course.loss_steps, mark = 0, time.perf_counter()
        if stopping or writer.due():
            course.train_s += time.perf_counter() - mark
            save(stopping=stopping)
            mark = time.perf_counter()
        if stopping:
            raise KeyboardInterrupt(f"stopped at step {step} of {recipe.steps}, checkpoint written")
    writer.wait()
    model.load_state_dict(best)
    course.wall_s = wall_before + time.perf_counter() - started
    return course


@torch.no_grad()
def _losses(
    spec: FinetunedSpec, model: nn.Module, device: torch.device, examples: Encoded
) -> tuple[list[float], list[float], list[float]]:
    """Sums of losses in nats, numbers of predictions, and correctness (1 or 0), one each per example.

    A text answer is correct where each of its tokens is the likeliest after the tokens before it.
    """
    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=spec.recipe.precision == "bf16")
    sums, counts, right = [], [], []
    model.eval()
    for batch in examples.batches(scored_at_once(spec)):
        batch = batch.to(device)
        with taken_eagerly(model), autocast:
            logits_BPV: Tensor = model(*batch.inputs)
        losses_BP = token_losses(logits_BPV, batch.targets_BP)
        weights_BP = torch.ones_like(losses_BP) if batch.weights_BP is None else batch.weights_BP
        hits_BP = (logits_BPV.argmax(dim=-1) == batch.targets_BP) | (weights_BP == 0)
        sums += (losses_BP * weights_BP).sum(dim=1).tolist()
        counts += weights_BP.sum(dim=1).tolist()
        right += hits_BP.all(dim=1).float().tolist()
    model.train()
    return sums, counts, right


def scored_at_once(spec: FinetunedSpec) -> int:
    """The number of examples that are scored at once."""
    return max(1, VAL_BATCH_TOKENS // spec.model.sequence_tokens)


def _score(
    run: PlannedFinetuning,
    model: nn.Module,
    device: torch.device,
    encoded: Encoded,
    tokenizer: Tokenizer,
    course: Course,
) -> Scored:
    """Score the kept weights on the `val` examples, which chose nothing; `course` is charged the FLOPs."""
    spec, examples = run.spec, run.examples.parts[VAL]
    sums, counts, right = _losses(spec, model, device, encoded)
    groups = [example.group for example in examples]
    loss, error = by_group(sums, counts, groups)
    course.eval_flops += len(encoded) * forward_flops_per_example(spec)
    samples: Sequence[dict[str, str]] = ()
    scores: Scores
    if spec.finetuned.classes:
        value, se = by_group(right, [1.0] * len(right), groups)
        scores = {"accuracy": {"value": value, "se": se}}
    else:
        answered = examples[: spec.finetuned.generated]
        prompts = encode(spec, answered, (), tokenizer)
        answers = answer(model, spec, prompts, tokenizer, device, scored_at_once(spec))
        score = choose("task", TEXT_SCORES, spec.finetuned.task)
        scores = score(answers, [example.answer for example in answered], groups[: len(answered)])
        course.eval_flops += len(answered) * spec.finetuned.answer_tokens * forward_flops_per_example(spec)
        samples = [
            {"text": example.text[:500], "wanted": example.answer, "answer": text}
            for example, text in list(zip(answered, answers, strict=True))[:SAMPLES]
        ]
    return Scored(
        loss, error, int(sum(counts)), in_buckets(sums, groups), in_buckets(counts, groups), scores, tuple(samples)
    )


def _mirror_scores(life: Life, course: Course, scored: Scored) -> None:
    """Pass the loss and the scores to tracker and reporter."""
    row: dict[str, Any] = {"step": course.step, "val_loss": scored.loss_nats}
    row |= {name: score["value"] for name, score in scored.scores.items()}
    life.tracker.log(row)
    life.reporter.row(row)


def batch_rows(examples: int, batch: int, step: int, seed: int) -> np.ndarray[Any, np.dtype[np.intp]]:
    """Numbers of the examples in a step's batch: an epoch has every example once, in an order of its own."""
    place = np.arange(step * batch, (step + 1) * batch)
    return np.array([_order(examples, seed, int(k) // examples)[int(k) % examples] for k in place])


@lru_cache(maxsize=4)
def _order(examples: int, seed: int, epoch: int) -> np.ndarray[Any, np.dtype[np.intp]]:
    words = np.random.PCG64([seed, epoch]).random_raw(examples)  # NumPy keeps this stream across versions (NEP 19)
    return np.argsort(words, kind="stable")
