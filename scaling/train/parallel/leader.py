"""The leader: rank 0 of a run over several devices, which alone claims, decides, logs and saves.

The leader is the pace of its run: it gives the other ranks (`rank.py`) an order for each step and each validation, and
takes both with them.
"""

import time
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType

from scaling.machine.nodes import LOOPBACK, address, use_interface
from scaling.objectives.batch import Batch
from scaling.plan.run import Run
from scaling.plan.work import run_values
from scaling.records.attempt import Attempt, LostError
from scaling.spec.parallel import DDP
from scaling.train.checkpoint import Checkpoint
from scaling.train.parallel.followers import Followers
from scaling.train.parallel.ranks import END, STEP, VALIDATE, Ranks, RanksApartError, meeting_place
from scaling.train.parallel.sharded_step import sharded_stepper_of
from scaling.train.setup import Setup, stepper_of
from scaling.train.step import Stepper, StepResult
from scaling.train.stop_request import StopRequest
from scaling.train.validation import Validation

LOOK_S = 0.1  # pause between two looks at followers that have not joined yet


class Leader:
    """The pace of a run that leads its followers; a context that starts them, and leaves none behind."""

    def __init__(
        self, run: Run, setup: Setup, attempt: Attempt, resume_from: Checkpoint | None, stop: StopRequest
    ) -> None:
        self._run, self._setup, self._stop = run, setup, stop
        self._attempt, self._resume_from = attempt, resume_from
        self._timeout_s = run.runtime.rank_timeout_s
        self._ranks: Ranks | None = None  # None until the first step
        self._compared = False  # whether the ranks' weights were compared
        self._joining_s = 0.0  # the others load their modules and data, which is no training

    def __enter__(self) -> "Leader":
        runtime, checkpoint = self._run.runtime, self._resume_from
        # The name of a machine may lead to no interface of it.
        host = LOOPBACK if runtime.nodes_per_run == 1 else address()
        self._store = meeting_place(host, 0, self._timeout_s, opened=True)
        values = {
            "run": run_values(self._run),
            "study_dir": str(self._run.runtime.study_dir),
            "checkpoint": None if checkpoint is None else str(checkpoint.path),
            "micro_batch": self._setup.micro_batch,
            "parallel": self._setup.parallel,
            "store": [host, self._store.port],
        }
        self._followers = Followers(self._attempt.path, runtime.devices_per_run, runtime.nodes_per_run, values)
        use_interface(host)  # this process's, which followers on other nodes do not inherit
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if kind is None and self._ranks is not None:
                with suppress(RanksApartError, LostError):  # the run itself has ended well
                    self._ranks.order(END)
                    self._followers.wait()
        finally:
            self._followers.kill()
            if self._ranks is not None:
                self._ranks.close()

    def prepare(self, run: Run, setup: Setup, resume_from: Checkpoint | None) -> Stepper:
        """The run's stepper: a sharded one is made with the others, which must be ready first."""
        if setup.parallel == DDP:
            return stepper_of(run, setup, resume_from)
        return sharded_stepper_of(run, setup, resume_from, self._join())

    async def take(
        self, stepper: Stepper, batch: Batch, factor: float, *, measure_noise: bool, due: bool
    ) -> StepResult:
        ranks = self._joined(stepper)
        if ranks.order(STEP):
            self._stop.ask()
        return stepper.take(batch, factor, measure_noise=measure_noise, sharing=ranks)

    def evaluate(self, stepper: Stepper, batches: Iterable[Batch]) -> Validation:
        ranks = self._joined(stepper)
        if ranks.order(VALIDATE):
            self._stop.ask()
        return evaluate_together(stepper, batches, ranks)

    def seconds(self) -> float:
        return time.perf_counter() - self._joining_s

    def _joined(self, stepper: Stepper) -> Ranks:
        """The ranks, joined and compared before the first order."""
        ranks = self._ranks or self._join()
        if not self._compared:
            ranks.check_same(stepper.own_weights(), stepper.shards)
            self._compared = True
        return ranks

    def _join(self) -> Ranks:
        """Wait until all followers are ready, and join them."""
        began = time.monotonic()
        while not self._store.check([ready(rank) for rank in range(1, self._followers.count)]):
            if (dead := self._followers.dead()) is not None:
                raise _error(*dead)
            if time.monotonic() - began > self._timeout_s:
                raise self._apart(RuntimeError("not all joined"))
            time.sleep(LOOK_S)
        ranks = Ranks(0, self._followers.count, self._store, self._setup.device, self._timeout_s, self._apart)
        self._ranks = ranks
        self._joining_s = time.monotonic() - began
        return ranks

    def _apart(self, error: RuntimeError) -> Exception:
        """The error of an exchange that failed: a follower's own where one is dead."""
        dead = self._followers.dead_soon()
        if dead is not None:
            return _error(*dead)
        count, first = self._followers.count, str(error).partition("\n")[0]
        return LostError(
            f"one of the ranks 1 to {count - 1} hangs: no answer within runtime.rank_timeout_s={self._timeout_s:g} "
            f"({first})"
        )


def evaluate_together(stepper: Stepper, batches: Iterable[Batch], ranks: Ranks) -> Validation:
    """Validate the model with the other ranks, after a check that copies of weights are the same."""
    ranks.check_same(stepper.own_weights(), stepper.shards)
    return stepper.evaluate(batches, ranks)


def ready(rank: int) -> str:
    """The store's key that a follower sets when it is ready to join."""
    return f"ready {rank}"


def _error(words: str, killed: bool) -> Exception:
    return LostError(words) if killed else RuntimeError(words)
