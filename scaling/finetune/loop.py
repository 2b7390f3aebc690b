"""Fine-tune one run, from its parent's weights, or random ones, to its record.

A fine-tuning is short: one that was interrupted starts again, and nothing is written but its attempt until it is done.
"""

import json
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from scaling.data.tokenizers import Tokenizer
from scaling.finetune.encode import Encoded, encode
from scaling.finetune.generation import answer
from scaling.finetune.model import start_model
from scaling.finetune.outcome import Outcome, record_of
from scaling.finetune.plan import PlannedTuning, tokenizer_of
from scaling.finetune.price import forward_flops_per_example, train_flops_per_example
from scaling.finetune.scores import TEXT_SCORES, by_group, in_buckets
from scaling.finetune.tasks import STOP, TRAIN, VAL, Example
from scaling.machine import hardware
from scaling.objectives.losses import token_losses
from scaling.records.attempt import FAILED, INTERRUPTED, Attempt, Heartbeat, claim, now
from scaling.records.files import write_json
from scaling.records.record import DONE, RunRecord, publish_record, read_record
from scaling.registry import choose
from scaling.spec.run_spec import FinetunedSpec, to_dict
from scaling.train import checkpoint
from scaling.train.run import Reporter
from scaling.train.schedule import learning_rate_factor
from scaling.train.step import Stepper
from scaling.train.stop_request import StopRequest
from scaling.train.validation import VAL_BATCH_TOKENS

SAMPLES = 5  # answers in text that the record quotes


@dataclass(frozen=True)
class Tuning:
    """One run as it is handed to a process."""

    run: PlannedTuning
    cache_dir: Path
    device: str
    threads: int | None
    keep_weights: bool


def finetune(tuning: Tuning, reporter: Reporter) -> RunRecord:
    """Fine-tune the run unless it is finished, and return its record; `reporter` hears of every metric row.

    Raises KeyboardInterrupt after a clean stop, RunIsLiveError while another process has the run, ValueError for what
    the user must mend.
    """
    run, spec = tuning.run, tuning.run.spec
    if (finished := read_record(run.run_dir)) is not None:
        return finished
    if tuning.threads is not None:
        torch.set_num_threads(tuning.threads)
    device = hardware.pick_device(tuning.device, spec.recipe.precision)
    tokenizer = tokenizer_of(spec, tuning.cache_dir)
    parts = {
        part: encode(spec, examples, run.examples.classes, tokenizer) for part, examples in run.examples.parts.items()
    }
    model, family = start_model(spec, None if run.start is None else run.start.run_dir)
    run.run_dir.mkdir(parents=True, exist_ok=True)
    write_json(run.run_dir / "spec.json", to_dict(spec))
    with StopRequest() as stop:
        attempt = claim(run.run_dir, 0, {"hardware": hardware.describe(device)})
        reporter.claimed(attempt.path, spec.run_id, spec.recipe.steps, 0)
        with Heartbeat(attempt) as heartbeat:
            try:
                training = _Training(tuning, parts, model.to(device), device, attempt, reporter, heartbeat, stop)
                outcome = training.run()
                if not outcome.diverged:
                    training.score(outcome, tokenizer)
                record = record_of(run, outcome, model, family, device, attempt.number)
                return _publish(tuning, attempt, record, model)
            except BaseException as error:
                status = INTERRUPTED if isinstance(error, KeyboardInterrupt) else FAILED
                attempt.end(status, f"{type(error).__name__}: {error}".rstrip(": "), heartbeat.report["step"])
                raise


def _publish(tuning: Tuning, attempt: Attempt, record: RunRecord, model: nn.Module) -> RunRecord:
    """Publish the record, with the weights where they are asked for, unless another attempt took the run over."""
    run_dir = attempt.run_dir
    if attempt.is_current():
        shutil.rmtree(run_dir / "checkpoint", ignore_errors=True)  # of an attempt that died before its record
        if tuning.keep_weights and record.status == DONE:
            checkpoint.save_weights(run_dir, model)
        publish_record(run_dir, record)
    attempt.end(record.status, record.why, record.steps)
    return read_record(run_dir) or record


@dataclass
class _Training:
    """One attempt: what is trained, on what, and who hears of it."""

    tuning: Tuning
    parts: dict[str, Encoded]
    model: nn.Module
    device: torch.device
    attempt: Attempt
    reporter: Reporter
    heartbeat: Heartbeat
    stop: StopRequest

    @property
    def spec(self) -> FinetunedSpec:
        return self.tuning.run.spec

    @property
    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.spec.recipe.precision == "bf16")

    @property
    def batch(self) -> int:
        """Examples that are scored at once."""
        return max(1, VAL_BATCH_TOKENS // self.spec.model.sequence_tokens)

    def run(self) -> Outcome:
        """Train to the last step, and leave the model with the weights of the step that the stop examples choose."""
        spec, model, recipe = self.spec, self.model, self.spec.recipe
        stepper = Stepper(model, recipe, recipe.batch_sequences, self.device)
        torch.manual_seed(spec.seed)  # of dropout
        points = {
            math.ceil(recipe.steps * k / spec.finetuned.evaluations) for k in range(1, spec.finetuned.evaluations + 1)
        }
        found, best = Outcome(recipe.steps, now()), model.state_dict()
        started = mark = time.perf_counter()
        loss_sum, loss_steps = torch.zeros((), device=self.device), 0
        with (self.attempt.path / "metrics.jsonl").open("a", buffering=1) as metrics:
            for step in range(1, recipe.steps + 1):
                factor = learning_rate_factor(recipe.schedule, step - 1, recipe.steps)
                rows = batch_rows(len(self.parts[TRAIN]), recipe.batch_sequences, step - 1, spec.seed)
                batch = self.parts[TRAIN].batch(rows)
                loss_sum += stepper.take(batch, factor).loss
                found.predicted += batch.predicted
                loss_steps += 1
                if self.stop.asked:
                    raise KeyboardInterrupt(f"stopped at step {step} of {recipe.steps}")
                if step not in points:
                    continue
                train_loss = float(loss_sum) / loss_steps
                found.train_s += time.perf_counter() - mark
                found.train_loss_nats = train_loss if math.isfinite(train_loss) else None
                losses, counts, _ = self.losses(STOP)
                stop_loss = sum(losses) / max(1.0, sum(counts))
                found.eval_flops += len(self.parts[STOP]) * forward_flops_per_example(self.spec)
                if not math.isfinite(train_loss) or not math.isfinite(stop_loss):
                    found.diverged, found.steps = f"loss {train_loss} in training at step {step}", step
                    break
                if stop_loss < found.stop_loss_nats:
                    found.best_step, found.stop_loss_nats = step, stop_loss
                    best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
                self.tell(metrics, step, train_loss, stop_loss, recipe.optimizer.learning_rate * factor, found.train_s)
                loss_sum.zero_()
                loss_steps, mark = 0, time.perf_counter()
        model.load_state_dict(best)
        found.wall_s = time.perf_counter() - started
        return found

    def tell(self, metrics: Any, step: int, train_loss: float, stop_loss: float, rate: float, train_s: float) -> None:
        """Write one metric row, and let everybody know."""
        spec, flops = self.spec, step * self.spec.recipe.batch_sequences * train_flops_per_example(self.spec)
        row = {
            "step": step,
            "tokens": step * spec.batch_tokens,
            "flops": flops,
            "train_loss": train_loss,
            "stop_loss": stop_loss,
            "lr": rate,
            "tokens_per_s": step * spec.batch_tokens / train_s,
            "flops_per_s": flops / train_s,
        }
        metrics.write(json.dumps(row) + "\n")
        self.heartbeat.report = {"step": step, "steps": spec.recipe.steps, "loss_nats": train_loss}
        self.heartbeat.report["tokens_per_s"] = row["tokens_per_s"]
        self.reporter.row(row)

    @torch.no_grad()
    def losses(self, part: str) -> tuple[list[float], list[float], list[float]]:
        """Of every example of a part: the sum of its predictions' losses, how many they are, and whether it is right.

        An answer in text is right where every token of it is the likeliest after those before it.
        """
        self.model.eval()
        sums, counts, right = [], [], []
        for batch in self.parts[part].batches(self.batch):
            example = batch.to(self.device)
            with self.autocast:
                logits_BPV = self.model(*example.inputs)
            losses_BP = token_losses(logits_BPV, example.targets_BP)
            weights_BP = torch.ones_like(losses_BP) if example.weights_BP is None else example.weights_BP
            hits_BP = (logits_BPV.argmax(dim=-1) == example.targets_BP) | (weights_BP == 0)
            sums += (losses_BP * weights_BP).sum(dim=1).tolist()
            counts += weights_BP.sum(dim=1).tolist()
            right += hits_BP.all(dim=1).float().tolist()
        self.model.train()
        return sums, counts, right

    def examples(self, part: str) -> Sequence[Example]:
        return self.tuning.run.examples.parts[part]

    def score(self, found: Outcome, tokenizer: Tokenizer) -> None:
        """Score the weights that were kept on the examples that nothing was chosen by."""
        sums, counts, right = self.losses(VAL)
        groups, tuned = [example.group for example in self.examples(VAL)], self.spec.finetuned
        found.val_loss, found.val_predicted = by_group(sums, counts, groups), int(sum(counts))
        found.val_sums = (in_buckets(sums, groups), in_buckets(counts, groups))
        found.eval_flops += len(self.parts[VAL]) * forward_flops_per_example(self.spec)
        if tuned.classes:
            value, se = by_group(right, [1.0] * len(right), groups)
            found.scores = {"accuracy": {"value": value, "se": se}}
        else:
            asked = self.examples(VAL)[: tuned.generated]
            encoded = encode(self.spec, asked, (), tokenizer)
            answers = answer(self.model, self.spec, encoded, tokenizer, self.device, self.batch)
            wanted = [example.answer for example in asked]
            score = choose("task", TEXT_SCORES, tuned.task)
            found.scores = score(answers, wanted, groups[: tuned.generated])
            found.eval_flops += len(asked) * tuned.answer_tokens * forward_flops_per_example(self.spec)
            found.samples = tuple(
                {"text": example.text[:500], "wanted": example.answer, "answer": text}
                for example, text in list(zip(asked, answers, strict=True))[:SAMPLES]
            )
        scored = {name: one["value"] for name, one in found.scores.items()}
        self.reporter.row({"step": found.steps, "val_loss": found.val_loss[0], **scored})


def batch_rows(examples: int, batch: int, step: int, seed: int) -> np.ndarray[Any, np.dtype[np.intp]]:
    """Which examples are in a step's batch: an epoch is all of them once, in an order of its own."""
    place = np.arange(step * batch, (step + 1) * batch)
    return np.array([_order(examples, seed, int(k) // examples)[int(k) % examples] for k in place])


@lru_cache(maxsize=4)
def _order(examples: int, seed: int, epoch: int) -> np.ndarray[Any, np.dtype[np.intp]]:
    words = np.random.PCG64([seed, epoch]).random_raw(examples)  # whose stream NumPy keeps across versions (NEP 19)
    return np.argsort(words, kind="stable")


def run_job(payload: Tuning, channel: Any) -> str:
    """In a pool's process: fine-tune, and tell the pool how it goes."""
    from scaling.launch.reporting import ChannelReporter

    threads = payload.threads if payload.threads is not None else channel.threads
    return finetune(replace(payload, threads=threads), ChannelReporter(channel)).run_id
