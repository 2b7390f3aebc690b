"""Training of a run from its claim to its published record, never twice."""

import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from scaling.machine import hardware
from scaling.machine.code import code_digest
from scaling.machine.nodes import check_nodes, nodes_here
from scaling.plan.admission import admission
from scaling.plan.run import Run
from scaling.records.attempt import Attempt, RunIsLiveError, is_trained_now
from scaling.records.leftovers import tidy
from scaling.records.life import Reporter, claim_run, live
from scaling.records.record import RunRecord, read_record
from scaling.train import checkpoint
from scaling.train.checkpoint_writer import Writer
from scaling.train.loop import train
from scaling.train.setup import Prepare, Setup, set_up, stepper_of
from scaling.train.step import Alone, Pace
from scaling.train.stop_request import StopRequest

LOOK_AGAIN_S = 1.0  # seconds between two tries to claim a run that another process trains
Claimed = tuple[Attempt, checkpoint.Checkpoint | None]

T = TypeVar("T")


def train_run(run: Run, reporter: Reporter) -> RunRecord:
    """Train the run unless it is finished, resuming where an earlier attempt stopped, and return its record.

    Raises KeyboardInterrupt after a clean stop that left the run resumable, ValueError for settings that the user must
    correct and where a cap of the study leaves too little, and RunIsLiveError while another process trains the run, or
    may leave enough of a cap, and the reporter does not wait.
    """
    if (finished := read_record(run.directory)) is not None:
        return finished
    check_nodes(run.runtime.nodes_per_run, nodes_here())
    setup = set_up(run)
    hardware.check_devices(run.runtime.devices_per_node, setup.device)
    # From here on a signal stops the run between two steps; before, no training is lost.
    with StopRequest() as stop:
        claimed = _wait_for_claim(run, setup, stop) if reporter.waits else claim(run, setup)
        if isinstance(claimed, RunRecord):
            return claimed
        if run.runtime.devices_per_run == 1:
            return at_once(train_claimed(run, setup, claimed, reporter, stop, Alone()))
        from scaling.train.parallel.leader import Leader  # a run on one device needs none of it

        with Leader(run, setup, *claimed, stop) as leader:
            return at_once(train_claimed(run, setup, claimed, reporter, stop, leader, leader.prepare))


def claim(run: Run, setup: Setup) -> Claimed | RunRecord:
    """Claim the run and find the checkpoint to resume from; return the record where an earlier attempt finished it."""
    start = checkpoint.latest(run.directory)
    admitted = admission(run, start.step, setup.share * run.runtime.devices_per_run)
    admitted.check()
    meta = {"hardware": hardware.describe(setup.device), "code": code_digest(), "warnings": start.warnings}
    claimed = claim_run(run.spec, run.runtime, start.own_step, meta | admitted.meta)
    if isinstance(claimed, RunRecord):
        return claimed
    admitted.confirm(claimed)
    start.announce()
    return claimed, start.checkpoint


async def train_claimed(
    run: Run,
    setup: Setup,
    claimed: Claimed,
    reporter: Reporter,
    stop: StopRequest,
    pace: Pace,
    prepare: Prepare = stepper_of,
) -> RunRecord:
    """Train a claimed run and publish its record; return the published record, a later attempt's where that won."""
    attempt, resume_from = claimed
    with (
        live(attempt, run.spec, run.runtime, run.budget_flops, reporter) as life,
        Writer(setup.device, run.runtime.checkpoint_every_s) as writer,
    ):
        start = 0 if resume_from is None else resume_from.step
        reporter.claimed(attempt.path, run.spec.run_id, run.spec.recipe.steps, start)
        record = await train(run, setup, life, resume_from, stop, pace, writer, prepare)
        if life.publish(record):
            tidy(run.directory, keep_weights=run.runtime.keep_weights)
            return record
        return read_record(run.directory) or record


def at_once(awaited: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits, and return its result."""
    try:
        awaited.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("the coroutine waits for somebody who does not exist")


def _wait_for_claim(run: Run, setup: Setup, stop: StopRequest) -> Claimed | RunRecord:
    """Claim the run, waiting while another process trains it."""
    announced = False
    while True:
        try:
            return claim(run, setup)
        except RunIsLiveError as error:
            if not announced:
                print(f"waiting: {error}", flush=True)
            announced = True
            time.sleep(LOOK_AGAIN_S)
            while is_trained_now(run.directory) and not stop.requested:  # a claim would read and check a checkpoint
                time.sleep(LOOK_AGAIN_S)
            if stop.requested:
                raise KeyboardInterrupt("stopped while waiting") from None
