"""The plan of a fine-tuning: from a finished run, or a study of finished runs, to priced runs and their controls."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scaling.data.cache import NO_TOKENIZER, digest, load_tokenizer, manifest
from scaling.data.tokenizers import Tokenizer
from scaling.finetune.price import forward_flops_per_example, train_flops_per_example
from scaling.finetune.settings import FinetuneConfig
from scaling.finetune.tasks import TRAIN, VAL, Examples, Task
from scaling.plan.plan_file import write_plan
from scaling.quantities import duration, short
from scaling.records.attempt import RunState, run_state
from scaling.records.record import DIVERGED, DONE, RunRecord, read_record, run_dirs
from scaling.shapes.families import EncoderDecoderShape, EncoderShape
from scaling.shapes.matmuls import parameter_counts
from scaling.shapes.shape import TransformerShape
from scaling.spec.parallel import AUTO
from scaling.spec.run_spec import Finetuned, FinetunedSpec, Parent, RunSpec, from_dict
from scaling.spec.runtime import Runtime

# Fixed seconds of a step, and FLOP/s of its matmuls: measured on one core of a 2020s server CPU.
STEP_S, CPU_FLOPS_PER_S = 2e-3, 20e9
MOST_UNKNOWN = 0.2  # largest share of unknown tokens; with more, the tokenizer was learned on another script


@dataclass(frozen=True)
class Start:
    """The start of a fine-tuning run: a finished run with weights."""

    run_dir: Path
    record: RunRecord
    spec: RunSpec


@dataclass(frozen=True)
class PlannedFinetuning:
    """A planned fine-tuning run: its spec, its start and its price."""

    spec: FinetunedSpec
    start: Start | None  # None: random weights
    examples: Examples

    @property
    def train_flops(self) -> int:
        return self.spec.recipe.steps * self.spec.recipe.batch_sequences * train_flops_per_example(self.spec)

    @property
    def scoring_flops(self) -> int:
        """FLOPs of all evaluations: stop examples at each, `val` examples and generated answers at the end."""
        parts, tuned = self.examples.parts, self.spec.finetuned
        answers = tuned.generated * tuned.answer_tokens
        scored = len(parts["stop"]) * tuned.evaluations + len(parts[VAL]) + answers
        return scored * forward_flops_per_example(self.spec)

    @property
    def label(self) -> str:
        of = "scratch" if self.start is None else self.start.record.run_id
        examples, d_model = self.spec.finetuned.examples, self.spec.model.d_model
        return f"from={of} {self.spec.model.kind}.d_model={d_model} examples={examples} seed={self.spec.seed}"


@dataclass(frozen=True)
class FinetuningPlan:
    """A plan of fine-tuning runs, with the reasons why runs of the study were passed over."""

    runtime: Runtime
    runs: tuple[PlannedFinetuning, ...]
    passed_over: tuple[str, ...]

    @property
    def study_dir(self) -> Path:
        return self.runtime.study_dir

    @property
    def missing(self) -> tuple[PlannedFinetuning, ...]:
        """Runs that are not finished, the most expensive first."""
        states = self.states()
        left = [run for run in self.runs if states[run.spec.run_id].status not in (DONE, DIVERGED)]
        return tuple(sorted(left, key=lambda run: run.train_flops, reverse=True))

    def states(self) -> dict[str, RunState]:
        """States of all runs, by run id."""
        return {run.spec.run_id: run_state(self.runtime.run_dir(run.spec.run_id)) for run in self.runs}

    def write(self) -> None:
        """Write plan.jsonl into the study, one run a line."""
        lines = (
            {"run_id": run.spec.run_id, "steps": run.spec.recipe.steps, "train_flops": run.train_flops}
            for run in self.runs
        )
        write_plan(self.study_dir, lines)

    @property
    def seconds(self) -> float:
        """Estimated seconds of the missing runs, one after another on one CPU core."""
        left = sum(run.train_flops + run.scoring_flops for run in self.missing)
        return sum(run.spec.recipe.steps * STEP_S for run in self.missing) + left / CPU_FLOPS_PER_S

    def words(self) -> str:
        """The plan's runs and their price, in a sentence."""
        flops = sum(run.train_flops for run in self.runs)
        controls = sum(run.start is None for run in self.runs)
        return (
            f"{len(self.runs)} runs ({len(self.runs) - controls} fine-tuned, {controls} from scratch), "
            f"{len(self.missing)} to train; {flops:.4g} FLOPs of training in all; "
            f"about {duration(self.seconds)} of one CPU core's time"
        )


def find_starts(source: Path, classifies: bool, task: str) -> tuple[list[Start], list[str]]:
    """Starts in the folder of a run or a study, and why other runs were passed over; ValueError without a start."""
    alone = (source / "spec.json").is_file()
    if not alone and not source.is_dir():
        raise ValueError(f"{source} is not a directory; name a run (runs/STUDY/RUN) or a study (runs/STUDY)")
    starts, passed_over = [], []
    for run_dir in [source] if alone else run_dirs(source):
        try:
            starts.append(_start(run_dir, classifies, task))
        except ValueError as error:
            if alone:
                raise
            passed_over.append(str(error))
    if not starts:
        why = f": {passed_over[0]}" if passed_over else "; train it first"
        raise ValueError(f"{source} holds no run that can be fine-tuned{why}")
    return starts, passed_over


def _start(run_dir: Path, classifies: bool, task: str) -> Start:
    record = read_record(run_dir)
    if record is None or record.status != DONE:
        state = "has no record yet" if record is None else record.status
        raise ValueError(f"{run_dir}: only a finished run can be fine-tuned, and this one {state}; train it first")
    if record.finetuned is not None:
        raise ValueError(f"{run_dir} was fine-tuned already; name the run that it started from")
    spec = from_dict(record.spec)
    if spec.data.tokenizer == NO_TOKENIZER:
        raise ValueError(
            f"{run_dir}: its data came as tokens (data.source.kind={spec.data.kind}), so that no text can be read to "
            f"it; train or import a run with data.tokenizer=bytes, chars, bpe or hf"
        )
    if not classifies and isinstance(spec.model, EncoderShape):
        raise ValueError(
            f"{run_dir}: task={task} writes text, which an encoder of masked tokens cannot; choose a run of kind "
            f"decoder or encoder_decoder, or a classification (task=modules, task=sentiment)"
        )
    if not any(run_dir.glob("checkpoint/*/model.safetensors")):
        raise ValueError(f"{run_dir} holds no weights; train it with runtime.keep_weights=true")
    return Start(run_dir, record, spec)


def make_plan(source: Path, config: FinetuneConfig, task: Task) -> FinetuningPlan:
    """Plan and price every run; ValueError, with nothing written, for impossible starts and for costs above the cap."""
    source = source.resolve()
    starts, passed_over = find_starts(source, task.classifies, task.kind)
    runs_dir = Path(config.runs_dir) if config.runs_dir else starts[0].run_dir.parents[1]
    study_dir = runs_dir / (config.study or f"{starts[0].run_dir.parent.name}-{task.kind}")
    if study_dir.resolve() == starts[0].run_dir.parent:
        raise ValueError(f"study={study_dir.name} is the parents' own; fine-tuned runs go to a study of their own")
    cache_dir = Path(config.cache_dir) if config.cache_dir else starts[0].run_dir.parents[1] / "cache"
    pool = task.read()
    for spec in {start.spec.data: start.spec for start in starts}.values():
        _check_reads(tokenizer_of(spec, cache_dir), pool, spec, task.kind)
    planned: dict[str, PlannedFinetuning] = {}
    for run in _runs(starts, pool, config, task):
        planned.setdefault(run.spec.run_id, run)  # a control serves every parent of its shape
    runtime = _runtime(config, study_dir, cache_dir)
    plan = FinetuningPlan(runtime, tuple(planned.values()), tuple(passed_over))
    total = sum(run.train_flops for run in plan.runs)
    if config.total_flops is not None and total > config.total_flops:
        raise ValueError(
            f"the plan costs {total:.4g} FLOPs in {len(plan.runs)} runs, more than total_flops={config.total_flops:.4g}"
            f"; choose fewer task.examples, seeds or recipe.steps, or raise the cap"
        )
    return plan


def _runtime(config: FinetuneConfig, study_dir: Path, cache_dir: Path) -> Runtime:
    """The runtime of all runs; settings of pretraining alone are off."""
    settings = dict(config.tracker.settings)
    if "dir" in settings and settings["dir"] is None:
        settings["dir"] = str(study_dir.parent)
    return Runtime(
        study=study_dir.name,
        runs_dir=study_dir.parent,
        cache_dir=cache_dir,
        device=config.device,
        devices_per_run=1,
        devices_by_plan=False,
        nodes_per_run=1,
        parallel=AUTO,
        rank_timeout_s=math.inf,
        threads=None,
        micro_batch_sequences=None,
        recompute_activations=False,
        cuda_graphs=False,
        log_points=config.recipe.evaluations,
        eval_fractions=(),
        checkpoint_every_s=config.checkpoint_every_s,
        keep_weights=config.keep_weights,
        progress=False,
        question=None,
        trackers=config.tracker.chosen(),
        tracker_settings=settings,
    )


def _runs(starts: Sequence[Start], pool: Examples, config: FinetuneConfig, task: Task) -> Iterator[PlannedFinetuning]:
    for seed in config.seeds:
        sizes = sorted({*task.examples, *(task.scratch_examples if config.scratch else ())})
        for size in sizes:
            drawn = pool.chosen(size, task.stop_examples, task.val_examples, seed)
            sha256 = drawn.sha256
            for start in starts:
                for parent in (start, None) if config.scratch else (start,):
                    if parent is not None and size not in task.examples:
                        continue
                    spec = finetuned_spec(start.spec, parent, drawn, sha256, config, task, seed)
                    yield PlannedFinetuning(spec, parent, drawn)


def finetuned_spec(
    of: RunSpec, parent: Start | None, drawn: Examples, sha256: str, config: FinetuneConfig, task: Task, seed: int
) -> FinetunedSpec:
    """The spec of fine-tuning a run's shape, from the run's weights or from random weights."""
    shape, answer_tokens = task_shape(of.model, task)
    return FinetunedSpec(
        model=shape,
        objective=of.objective,
        special=of.special,
        data=of.data,
        recipe=config.recipe.resolved(len(drawn.parts[TRAIN]), of.recipe),
        val_tokens=len(drawn.parts[VAL]) * shape.context,
        seed=seed,
        finetuned=Finetuned(
            parent=None if parent is None else Parent(parent.record.run_id, parent.record.weights_sha256),
            task=task.kind,
            examples_sha256=sha256,
            examples=len(drawn.parts[TRAIN]),
            classes=len(drawn.classes),
            answer_tokens=answer_tokens,
            evaluations=config.recipe.evaluations,
            generated=0 if task.classifies else min(task.generated, len(drawn.parts[VAL])),
        ),
    )


def task_shape(shape: TransformerShape, task: Task) -> tuple[TransformerShape, int]:
    """The shape at the task's lengths, and the most tokens of a text answer without its end, 0 for a class.

    A decoder reads the text, a separator and the answer within its context. An encoder-decoder's target is as long as
    the answer, but learned positions end at the target's length in pretraining. Raises ValueError where a text and its
    answer have no room.
    """
    context = min(task.source_tokens or shape.context, shape.context)
    if task.classifies:
        if isinstance(shape, EncoderShape):
            return replace(shape, context=context, predicted=min(shape.predicted, context)), 0
        return replace(shape, context=context), 0
    answer = task.target_tokens or max(1, shape.context // 2)
    if isinstance(shape, EncoderDecoderShape):
        if shape.positions_kind == "learned":
            answer = min(answer, shape.target_context - 1)
        longest, room = answer, "its learned positions"
        shape = replace(shape, context=context, target_context=answer + 1)
    else:
        longest, room = min(answer, shape.context - 2), f"model.context={shape.context}"
        shape = replace(shape, context=min(shape.context, (task.source_tokens or shape.context) + answer + 1))
    if longest < answer or answer < 1:
        raise ValueError(f"task.target_tokens={answer}: {room} has no room for a text and such an answer; ask for less")
    return shape, answer


def tokenizer_of(spec: RunSpec, cache_dir: Path) -> Tokenizer:
    """The tokenizer of the run's data; ValueError where the data is not prepared in `cache_dir`."""
    prepared = manifest(spec.data, cache_dir)
    if prepared is None:
        raise ValueError(
            f"the tokenizer of run {spec.run_id} is not in {cache_dir}; name the folder of its prepared data with "
            f"cache_dir="
        )
    return load_tokenizer(prepared, cache_dir / digest(spec.data))


def _check_reads(tokenizer: Tokenizer, pool: Examples, spec: RunSpec, task: str) -> None:
    """Raise ValueError where the tokenizer does not know the task's texts, or its ids do not fit the model."""
    if tokenizer.vocab_size > spec.model.vocab_size:
        raise ValueError(
            f"the tokenizer of run {spec.run_id} has {tokenizer.vocab_size} ids, its model {spec.model.vocab_size}; "
            f"choose a run whose data.vocab_size fits"
        )
    if tokenizer.unknown_id is None:
        return
    sample = [
        text for example in pool.parts[VAL][:200] for text in (example.text, "" if pool.classes else example.answer)
    ]
    ids = [token for text in sample for token in tokenizer.encode(text).tolist()]
    unknown = ids.count(tokenizer.unknown_id) / max(1, len(ids))
    if unknown > MOST_UNKNOWN:
        raise ValueError(
            f"data.tokenizer={spec.data.tokenizer} of run {spec.run_id} does not know {unknown:.0%} of the tokens of "
            f"task={task}; choose a run with data.tokenizer=bytes or bpe, or one whose data is of that script"
        )


def parent_facts(start: Start) -> dict[str, Any]:
    """Facts about a run's parent, for the analysis."""
    record = start.record
    return {
        "run_id": record.run_id,
        "study": record.study,
        "weights_sha256": record.weights_sha256,
        "n_params": record.n_params,
        "train_flops": record.train_flops,
        "budget_flops": record.budget_flops,
        "train_tokens": record.train_tokens,
        "val_loss_nats": record.val_loss_nats,
        "steps": record.steps,
        "data_kind": start.spec.data.kind,
        "imported": record.imported is not None,
    }


def describe(run: PlannedFinetuning) -> str:
    """One line about a run, with its price."""
    n = short(parameter_counts(run.spec.model)["non_embedding"])
    return f"{run.spec.run_id}  {run.label}  N {n}  {run.train_flops:.3g} FLOPs"
