"""The outcome of a fine-tuning run: its course, its scores, and its record."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from scaling.finetune.plan import PlannedFinetuning, parent_facts
from scaling.finetune.price import forward_flops_by_group, train_flops_per_example
from scaling.finetune.scores import Scores
from scaling.finetune.tasks import STOP, TASKS, TRAIN, VAL
from scaling.records.attempt import now
from scaling.records.record import DIVERGED, DONE, RunRecord
from scaling.shapes.flops import BACKWARD_PER_FORWARD


@dataclass
class Course:
    """The course of a run so far, with the step that the stop examples choose; a checkpoint keeps it."""

    step: int = 0
    started_at: str = field(default_factory=now)
    best_step: int = 0
    stop_loss_nats: float | None = None  # loss on the stop examples at the best step
    train_loss_nats: float | None = None  # mean over the steps before the last evaluation
    loss_sum: float = 0.0  # sum over the steps since the last evaluation
    loss_steps: int = 0
    predicted: int = 0
    train_s: float = 0.0
    wall_s: float = 0.0
    eval_flops: int = 0
    diverged: str = ""

    @classmethod
    def at(cls, state: Mapping[str, Any]) -> "Course":
        """The course restored from a checkpoint's state."""
        return cls(**{entry.name: state[entry.name] for entry in fields(cls)})

    def state(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return asdict(self)

    def improves(self, stop_loss_nats: float) -> bool:
        """Whether a loss on the stop examples is lower than at the best step so far."""
        return self.stop_loss_nats is None or stop_loss_nats < self.stop_loss_nats


@dataclass(frozen=True)
class Scored:
    """Scores of the best step's weights on the `val` examples, which chose nothing."""

    loss_nats: float
    loss_se_nats: float | None
    predicted: int
    loss_sums: list[float]  # summed losses in nats, by bucket of documents
    counts: list[float]  # numbers of predictions, by bucket of documents
    scores: Scores
    samples: tuple[dict[str, str], ...]


def filled(bare: RunRecord, run: PlannedFinetuning, course: Course, scored: Scored | None) -> RunRecord:
    """Fill in the record of a fine-tuning run."""
    spec, parts = run.spec, run.examples.parts
    seen, examples = course.step * spec.recipe.batch_sequences, len(parts[TRAIN])
    per_token = (1 + BACKWARD_PER_FORWARD) * spec.recipe.batch_sequences / spec.batch_tokens
    return replace(
        bare,
        status=DIVERGED if course.diverged else DONE,
        why=course.diverged,
        flops_per_token_by_group={group: flops * per_token for group, flops in forward_flops_by_group(spec).items()},
        train_flops=seen * train_flops_per_example(spec),
        paid_flops=seen * train_flops_per_example(spec),
        eval_flops=course.eval_flops,
        train_tokens=course.step * spec.batch_tokens,
        predicted_tokens=course.predicted,
        unique_tokens=examples * spec.batch_tokens // spec.recipe.batch_sequences,
        epochs=seen / examples,
        steps=course.step,
        val_loss_nats=None if scored is None else scored.loss_nats,
        val_loss_se_nats=None if scored is None else scored.loss_se_nats,
        train_loss_nats=course.train_loss_nats,
        val_tokens=0 if scored is None else scored.predicted,
        wall_s=course.wall_s,
        train_s=course.train_s,
        finetuned=_facts(run, course, scored),
    )


def _facts(run: PlannedFinetuning, course: Course, scored: Scored | None) -> dict[str, Any]:
    """The record's entry about task, scores and parent."""
    spec, parts = run.spec, run.examples.parts
    task = TASKS[spec.finetuned.task]
    return {
        "metric": task.metric,
        "scores": {} if scored is None else scored.scores,
        "best_step": course.best_step,
        "stop_loss_nats": course.stop_loss_nats,
        "stop_examples": len(parts[STOP]),
        "val_examples": len(parts[VAL]),
        "val_loss_sums": [] if scored is None else scored.loss_sums,
        "val_counts": [] if scored is None else scored.counts,
        "classes": list(run.examples.classes),
        "parent": None if run.start is None else parent_facts(run.start),
        "seen_in_pretraining": task.on_stdlib and spec.data.kind == "stdlib" and run.start is not None,
        "samples": [] if scored is None else list(scored.samples),
    }
