"""A rank above 0 of a run: it takes the steps that rank 0 orders, and no more.

`python -m scaling.train.parallel.rank FILE` reads one file that rank 0 wrote (`leader.py`); environment variables hold
its number, RANK, and its place among the ranks of its node, LOCAL_RANK of LOCAL_WORLD_SIZE.
"""

import json
import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from scaling.machine.nodes import use_interface
from scaling.machine.slots import rank_environment
from scaling.plan.run import Run
from scaling.plan.work import run_of
from scaling.spec.parallel import DDP
from scaling.spec.schedule import learning_rate_factor
from scaling.train import checkpoint
from scaling.train.gradient_noise import is_measured
from scaling.train.parallel.followers import LEFT_ALONE
from scaling.train.parallel.leader import evaluate_together, ready
from scaling.train.parallel.ranks import END, VALIDATE, WHOLE, Ranks, RanksApartError, meeting_place
from scaling.train.parallel.sharded_step import sharded_stepper_of
from scaling.train.setup import Setup, batches_of, set_up, stepper_of, text_of
from scaling.train.step import Stepper, seed_dropout
from scaling.train.stop_request import StopRequest
from scaling.train.validation import validation_batches

PATIENCE = 10.0  # times rank 0's timeout: rank 0 may write a checkpoint meanwhile, and finds out first who hangs


def main(file: Path) -> int:
    """Train as this process's rank of the run in `file`; return an exit code."""
    threading.Thread(target=_end_with_the_leader, daemon=True).start()
    with StopRequest(patient=True) as stop:
        values = json.loads(file.read_text())
        _take_place(values)
        run = run_of(values["run"], Path(values["study_dir"]))
        setup = replace(set_up(run), micro_batch=values["micro_batch"], parallel=values["parallel"])
        try:
            follow(run, setup, values, int(os.environ["RANK"]), stop)
        except RanksApartError as error:
            print(f"left alone: {error}", file=sys.stderr)
            return LEFT_ALONE
    return 0


def _take_place(values: Mapping[str, Any]) -> None:
    """Take this rank's device, cores and network of its node."""
    local, ranks = (int(os.environ[name]) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    os.environ.update(rank_environment(local, ranks))
    use_interface(values["store"][0])


def follow(run: Run, setup: Setup, values: Mapping[str, Any], rank: int, stop: StopRequest) -> None:
    """Take steps and validate as rank 0 orders, until it orders the end."""
    spec, tokens, recipe = run.spec, setup.tokens, run.spec.recipe
    resume_from = None if values["checkpoint"] is None else checkpoint.read(Path(values["checkpoint"]))
    text = text_of(spec, tokens)
    batch_of = batches_of(spec, tokens, text)

    def join() -> Ranks:
        timeout_s = run.runtime.rank_timeout_s
        host, port = values["store"]
        store = meeting_place(host, port, timeout_s, opened=False)
        store.set(ready(rank), "")
        return Ranks(rank, run.runtime.devices_per_run, store, setup.device, PATIENCE * timeout_s)

    # Ranks that hold all weights load them before they join, and shards are made together.
    stepper: Stepper
    if setup.parallel == DDP:
        stepper = stepper_of(run, setup, resume_from)
        ranks = join()
    else:
        ranks = join()
        stepper = sharded_stepper_of(run, setup, resume_from, ranks)
    ranks.check_same(stepper.own_weights(), stepper.shards)

    step = 0 if resume_from is None else resume_from.step
    batch = None  # of the next step, made while rank 0 makes its own
    while True:
        if batch is None and step < recipe.steps:
            batch = batch_of(step + 1)
        order = ranks.next_order(stop.requested)
        if order == END:
            break
        if order == WHOLE:
            stepper.whole()
            continue
        if order == VALIDATE:
            evaluate_together(stepper, validation_batches(spec, tokens.val, text, setup.device), ranks)
            continue
        assert batch is not None
        step += 1
        if spec.model.dropout:
            seed_dropout(spec.seed, step, rank)
        factor = learning_rate_factor(recipe.schedule, step - 1, recipe.steps)
        stepper.take(batch, factor, measure_noise=is_measured(step), sharing=ranks)  # shards are measured together
        batch = None
    ranks.close()


def _end_with_the_leader() -> None:
    """End this process at once when rank 0's has ended, which closes this process's standard input."""
    os.read(0, 1)  # not sys.stdin, whose lock this thread would hold when the interpreter shuts down
    os._exit(LEFT_ALONE)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
