"""Runs of one process, each in its own order of things, whose steps are taken together.

A run is a generator: it asks for a step, and goes on with what the step found.
"""

import time
from collections.abc import Generator, Sequence
from typing import Any

import torch

from scaling.records.record import RunRecord
from scaling.train.stacked_step import Ask, Stack
from scaling.train.step_result import StepResult

Training = Generator[Ask | None, Any, RunRecord]  # it asks for None while it waits for another process
LOOK_AGAIN_S = 1.0


class Clock:
    """Seconds of its slot that a run has taken: its own, and its share of those that several spent on steps as one."""

    def __init__(self) -> None:
        self._taken = 0.0
        self._since: float | None = None

    def start(self) -> None:
        """From now on the time is the run's own."""
        self._since = time.perf_counter()

    def stop(self) -> None:
        """No longer."""
        self._taken, self._since = self.read(), None

    def add(self, seconds: float) -> None:
        """Count in a share."""
        self._taken += seconds

    def read(self) -> float:
        """Seconds so far."""
        return self._taken + (0.0 if self._since is None else time.perf_counter() - self._since)


def drive(runs: Sequence[tuple[Training, Clock]]) -> list[RunRecord | BaseException]:
    """Every run's record, or what ended it: one that fails or is stopped leaves the others alone."""
    return _Together(runs).drive()


class _Together:
    """Runs on their way to their ends."""

    def __init__(self, runs: Sequence[tuple[Training, Clock]]) -> None:
        self._runs = runs
        self._asks: dict[int, Ask | None] = dict.fromkeys(range(len(runs)))
        self._outcomes: dict[int, RunRecord | BaseException] = {}
        self._stack: Stack | None = None

    def drive(self) -> list[RunRecord | BaseException]:
        while self._asks:
            asking = [run for run, ask in self._asks.items() if ask is not None]
            waiting = [run for run in self._asks if run not in asking]
            self._step(asking)
            for run in waiting:
                self._go_on(run, None)
            if not any(self._asks.values()) and self._asks:
                time.sleep(LOOK_AGAIN_S)
        return [self._outcomes[run] for run in range(len(self._runs))]

    def _step(self, asking: Sequence[int]) -> None:
        """Take the step of each of these runs, and let each go on with what it found."""
        started = time.perf_counter()
        found: Sequence[StepResult | BaseException]
        try:
            found = self._take([ask for run in asking if (ask := self._asks[run]) is not None])
        except BaseException as error:
            found = [error] * len(asking)
        share = (time.perf_counter() - started) / max(1, len(asking))
        for run, one in zip(asking, found, strict=True):
            self._runs[run][1].add(share)
            self._go_on(run, one)

    def _take(self, asks: Sequence[Ask]) -> list[StepResult]:
        if len(asks) < 2:
            return [ask.take() for ask in asks]
        steppers = [ask.stepper for ask in asks]
        if self._stack is None or self._stack.steppers != steppers:
            self._stack = Stack(steppers)
        found = self._stack.take(asks)
        if self._stack.device.type == "cuda" and any(ask.logged for ask in asks):
            torch.cuda.synchronize()  # otherwise the first to read would wait, and pay, for all
        return found

    def _go_on(self, run: int, found: StepResult | BaseException | None) -> None:
        """Let a run go on to its next step, or to its end."""
        training, clock = self._runs[run]
        clock.start()
        try:
            self._asks[run] = training.throw(found) if isinstance(found, BaseException) else training.send(found)
        except StopIteration as end:
            self._outcomes[run] = end.value
        except BaseException as error:
            self._outcomes[run] = error
        finally:
            clock.stop()
        if run in self._outcomes:
            del self._asks[run]
