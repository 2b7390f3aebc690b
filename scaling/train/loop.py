"""Train runs, from their specs to their records: claimed, trained, published, and never lost.

The training itself is in run.py.
"""

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from scaling.data.prepare import DataConfig, prepare
from scaling.machine import hardware
from scaling.plan.stacks import stack_id, why_not_stacked
from scaling.records.attempt import FAILED, INTERRUPTED, Attempt, Heartbeat, RunIsLiveError, claim
from scaling.records.files import write_json
from scaling.records.record import RunRecord, publish_record, read_record
from scaling.shapes.matmuls import parameter_counts
from scaling.spec.memory import largest_micro_batch
from scaling.spec.run_spec import RunSpec, to_dict
from scaling.spec.runtime import Runtime
from scaling.trackers import Tracker, start_tracker
from scaling.train import checkpoint
from scaling.train.job import Job
from scaling.train.lockstep import LOOK_AGAIN_S, Clock, Training, drive
from scaling.train.run import Reporter, run
from scaling.train.stop_request import StopRequest

FREE_SHARE = 0.85  # of the free memory that a step is given: the estimate of what it takes is good to about 15%


@dataclass(frozen=True)
class Order:
    """A run that is wanted, and who hears of its claim and of every metric row."""

    spec: RunSpec
    data: DataConfig
    runtime: Runtime
    budget_flops: float | None
    reporter: Reporter

    @property
    def run_dir(self) -> Path:
        return self.runtime.study_dir / self.spec.run_id


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
    (outcome,) = train_together([Order(spec, data, runtime, budget_flops, reporter)])
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def train_together(orders: Sequence[Order]) -> list[RunRecord | BaseException]:
    """Train runs as `train` does, but their steps as one: the record of each, or what `train` would have raised.

    ValueError for runs that cannot be stacked (see scaling/plan/stacks.py), and for what the user must mend.
    """
    if len(orders) > 1:
        _check_alike([order.spec for order in orders])
    records = [read_record(order.run_dir) for order in orders]
    missing = [order for order, record in zip(orders, records, strict=True) if record is None]
    ready = [_ready(order, len(missing)) for order in missing]
    # From here on a signal stops the runs between two steps; before, there is nothing to lose.
    with StopRequest() as stop:
        clocks = [Clock() for _ in ready]
        trained = drive([(begin(clock, stop), clock) for begin, clock in zip(ready, clocks, strict=True)])
    rest = iter(trained)
    return [next(rest) if record is None else record for record in records]


def _check_alike(specs: Sequence[RunSpec]) -> None:
    for spec in specs:
        if why := why_not_stacked(spec.model):
            raise ValueError(f"run {spec.run_id} cannot be stacked: {why}; train it by itself")
        if stack_id(spec) != stack_id(specs[0]):
            raise ValueError(
                f"runs {specs[0].run_id} and {spec.run_id} cannot be stacked: they may differ in the seed and in the "
                f"optimizer's numbers, and differ in more; train them apart"
            )


def _ready(order: Order, beside: int) -> Callable[[Clock, StopRequest], Training]:
    """What begins the run, once its data is there and its device is known to do; `beside` runs share that device."""
    runtime, spec = order.runtime, order.spec
    if runtime.threads is not None:
        torch.set_num_threads(runtime.threads)
    device = hardware.pick_device(runtime.device, spec.recipe.precision)
    tokens = prepare(order.data, spec.data, runtime.cache_dir, progress=runtime.progress)
    micro_batch = runtime.micro_batch_sequences or largest_micro_batch(
        spec, FREE_SHARE * hardware.free_bytes(device) / beside, runtime.recompute_activations
    )
    order.run_dir.mkdir(parents=True, exist_ok=True)
    write_json(order.run_dir / "spec.json", to_dict(spec))

    def begin(clock: Clock, stop: StopRequest) -> Training:
        claimed = yield from _claim(order.run_dir, {"hardware": hardware.describe(device)}, stop)
        if isinstance(claimed, RunRecord):  # somebody else finished it while we waited
            return claimed
        attempt, resume_from = claimed
        order.reporter.claimed(attempt.path, spec.run_id, spec.recipe.steps, resume_from.step if resume_from else 0)
        job = Job(spec, tokens, runtime, device, micro_batch, attempt, resume_from, order.budget_flops)
        with Heartbeat(attempt) as heartbeat:
            return (yield from _train_and_publish(job, order.reporter, heartbeat, clock, stop))

    return begin


def _train_and_publish(job: Job, reporter: Reporter, heartbeat: Heartbeat, clock: Clock, stop: StopRequest) -> Training:
    """Train to the record; whatever goes wrong, leave word of it and raise."""
    spec, runtime, attempt = job.spec, job.runtime, job.attempt
    tracker: Tracker | None = None
    try:
        counts = {"n_params": parameter_counts(spec.model), "params_by_group": spec.model.parameters_by_group()}
        config = {**to_dict(spec), **counts, "budget_flops": job.budget_flops}
        tracker = start_tracker(runtime.tracker, spec.run_id, runtime.study, config, runtime.tracker_settings)
        record = yield from run(job, tracker, reporter, heartbeat, clock, stop)
        return _publish(attempt, record, tracker, runtime.keep_weights)
    except BaseException as error:
        status = INTERRUPTED if isinstance(error, KeyboardInterrupt | GeneratorExit) else FAILED
        attempt.end(status, f"{type(error).__name__}: {error}".rstrip(": "), heartbeat.report["step"])
        if tracker is not None:
            tracker.finish(status, {})
        raise


def _claim(
    run_dir: Path, meta: dict[str, Any], stop: StopRequest
) -> Generator[None, None, RunRecord | tuple[Attempt, checkpoint.Checkpoint | None]]:
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
            again = time.monotonic() + LOOK_AGAIN_S
            while time.monotonic() < again:
                yield None
            continue
        if (finished := read_record(run_dir)) is not None:
            attempt.end(finished.status, "finished by an earlier attempt", finished.steps)
            return finished
        return attempt, resume_from


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
