"""Lockstep: several runs of one process take their steps together, as one stacked step (`stacked_step.py`).

Each run is a coroutine that awaits its step and goes on with the result. A run that fails or stops does not affect the
others.
"""

import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

import torch

from scaling.objectives.batch import Batch
from scaling.plan.run import Run
from scaling.plan.stacks import stack_id, why_not_stacked
from scaling.records.attempt import RunIsLiveError, is_trained_now
from scaling.records.life import Reporter
from scaling.records.record import RunRecord, read_record
from scaling.spec.run_spec import RunSpec
from scaling.train.run import LOOK_AGAIN_S, claim, train_claimed
from scaling.train.setup import Setup, set_up
from scaling.train.stacked_step import Stack, StepRequest
from scaling.train.step import Pace, Stepper, StepResult
from scaling.train.stop_request import StopRequest
from scaling.train.validation import Validation

Outcome = RunRecord | BaseException
Training = Coroutine[Any, Any, RunRecord]


def train_stack(runs: Sequence[Run], reporters: Sequence[Reporter]) -> list[Outcome]:
    """Train runs in lockstep; return the record of each run, or the exception that ended it.

    Runs that another process trains are awaited when the others have ended. Raises ValueError for runs that cannot be
    stacked (see `plan/stacks.py`), and for settings that the user must correct.
    """
    if len(runs) > 1:
        _check_alike([run.spec for run in runs])
    for run in runs:
        if run.runtime.devices_per_run > 1:
            raise ValueError(
                f"run {run.spec.run_id} has runtime.devices_per_run={run.runtime.devices_per_run}: a stack's runs "
                f"share one device; train it by itself"
            )
    outcomes: dict[int, Outcome] = {i: done for i, run in enumerate(runs) if (done := read_record(run.directory))}
    waiting = [i for i in range(len(runs)) if i not in outcomes]
    setups = {i: set_up(runs[i], sharing=len(waiting)) for i in waiting}
    announced: set[int] = set()
    # From here on a signal stops the runs between two steps; before, no training is lost.
    with StopRequest() as stop:
        while waiting:
            members: dict[int, Member] = {}
            for i in waiting:
                member = _claimed(runs[i], setups[i], reporters[i], stop, announce=i not in announced)
                if isinstance(member, Member):
                    members[i] = member
                elif member is not None:
                    outcomes[i] = member
                announced.add(i)
            drive(list(members.values()))
            outcomes |= {i: member.outcome for i, member in members.items() if member.outcome is not None}
            waiting = [i for i in waiting if i not in outcomes]
            while waiting and not members and not stop.requested:
                time.sleep(LOOK_AGAIN_S)
                if not all(is_trained_now(runs[i].directory) for i in waiting):  # a claim reads and checks a checkpoint
                    break
    return [outcomes[i] for i in range(len(runs))]


def _claimed(
    run: Run, setup: Setup, reporter: Reporter, stop: StopRequest, *, announce: bool
) -> "Member | Outcome | None":
    """The claimed run as a member, or its outcome where the run has one; None while another process trains the run."""
    try:
        claimed = claim(run, setup)
    except RunIsLiveError as error:
        if not reporter.waits:
            return error
        if announce:
            print(f"waiting: {error}", flush=True)
        return KeyboardInterrupt("stopped while waiting") if stop.requested else None
    except Exception as error:
        return error
    if isinstance(claimed, RunRecord):
        return claimed
    return Member(lambda pace: train_claimed(run, setup, claimed, reporter, stop, pace))


def _check_alike(specs: Sequence[RunSpec]) -> None:
    for spec in specs:
        if why := why_not_stacked(spec.model):
            raise ValueError(f"run {spec.run_id} cannot be stacked: {why}; train it by itself")
        if stack_id(spec) != stack_id(specs[0]):
            raise ValueError(
                f"runs {specs[0].run_id} and {spec.run_id} cannot be stacked: they may differ in the seed and in the "
                f"optimizer's numbers, and differ in more; train them apart"
            )


class Clock:
    """A run's clock: seconds of its slot that the run took by itself, and its share of stacked steps."""

    def __init__(self) -> None:
        self._taken = 0.0
        self._since: float | None = None

    def start(self) -> None:
        """Start counting the run's own seconds."""
        self._since = time.perf_counter()

    def stop(self) -> None:
        """Stop counting the run's own seconds."""
        self._taken, self._since = self.read(), None

    def add(self, seconds: float) -> None:
        """Add the run's share of a stacked step."""
        self._taken += seconds

    def read(self) -> float:
        """Seconds so far."""
        return self._taken + (0.0 if self._since is None else time.perf_counter() - self._since)


class Member:
    """A run in lockstep: its step request or its outcome, and its clock; the `Pace` of its training."""

    def __init__(self, training: Callable[[Pace], Training]) -> None:
        self.clock = Clock()
        self.request: StepRequest | None = None
        self.outcome: Outcome | None = None
        self._training = training(self)

    async def take(
        self, stepper: Stepper, batch: Batch, factor: float, *, measure_noise: bool, due: bool
    ) -> StepResult:
        return await StepRequest(stepper, batch, factor, measure_noise, due)

    def evaluate(self, stepper: Stepper, batches: Iterable[Batch]) -> Validation:
        return stepper.evaluate(batches)

    def seconds(self) -> float:
        return self.clock.read()

    def go_on(self, result: StepResult | BaseException | None) -> None:
        """Resume the run with the result of its step, up to its next step request or its end."""
        self.request = None
        self.clock.start()
        try:
            if isinstance(result, BaseException):
                self.request = self._training.throw(result)
            else:
                self.request = self._training.send(result)
        except StopIteration as end:
            self.outcome = end.value
        except BaseException as error:
            self.outcome = error
        finally:
            self.clock.stop()


def drive(members: Sequence[Member]) -> None:
    """Train all members to their outcomes; members that await a step take it together."""
    for member in members:
        member.go_on(None)
    stack: Stack | None = None
    while awaiting := [member for member in members if member.request is not None]:
        requests = [member.request for member in awaiting if member.request is not None]
        started = time.perf_counter()
        results: Sequence[StepResult | BaseException]
        try:
            if len(requests) == 1:
                results = [requests[0].take()]
            else:
                steppers = [request.stepper for request in requests]
                stack = stack if stack is not None and stack.steppers == steppers else Stack(steppers)
                results = stack.take(requests)
                if stack.device.type == "cuda" and any(request.due for request in requests):
                    torch.cuda.synchronize()  # otherwise the first run to read would be charged the wait of all
        except BaseException as error:
            results = [error] * len(requests)
        share = (time.perf_counter() - started) / len(requests)
        for member, result in zip(awaiting, results, strict=True):
            member.clock.add(share)
            member.go_on(result)
