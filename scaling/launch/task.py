"""The task function of every Hydra launcher: one configuration trained to its record."""

import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import hydra
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.errors import CompactHydraException
from hydra.types import HydraContext
from omegaconf import DictConfig

from scaling.config.config import CONF_DIR, to_run, user_search_path
from scaling.launch.reporting import reporter, stacked_reporters
from scaling.plan.run import Run
from scaling.records.record import RunRecord


def configured_run(cfg: DictConfig) -> Run:
    """The configured run; CompactHydraException where the configuration is invalid or is no longer the planned run."""
    try:
        run = to_run(cfg)
    except ValueError as error:
        raise CompactHydraException(str(error)) from error
    if cfg.planned not in (None, run.spec.run_id):
        raise CompactHydraException(
            f"planned as run {cfg.planned}, but this is run {run.spec.run_id}: the configuration or the data have "
            f"changed since the sweep began; the same command again plans anew, and trains what is then missing"
        )
    return run


def train_task(cfg: DictConfig) -> str:
    """Train the configured run unless it is finished; return its run id."""
    run = configured_run(cfg)
    from scaling.train.run import train_run  # imports torch

    run_reporter = reporter(run.runtime.progress)
    try:
        record = train_run(run, run_reporter)
    finally:
        run_reporter.close()
    _print(run, record)
    return record.run_id


def train_in_lockstep(runs: Sequence[Run]) -> list[str]:
    """Train a stack's unfinished runs in lockstep; return the ids of all its runs.

    An exception that ends one run does not affect the others, and is raised when they have ended.
    """
    from scaling.train.lockstep import train_stack

    reporters = stacked_reporters([run.spec.run_id for run in runs])
    failed: dict[str, BaseException] = {}
    for run, outcome in zip(runs, train_stack(runs, reporters), strict=True):
        if isinstance(outcome, BaseException):
            traceback.print_exception(outcome)
            failed[run.spec.run_id] = outcome
        else:
            _print(run, outcome)
    if failed:
        stopped = all(isinstance(error, KeyboardInterrupt) for error in failed.values())
        why = "; ".join(f"{run_id}: {error}" for run_id, error in failed.items())
        raise KeyboardInterrupt(why) if stopped else RuntimeError(f"{len(failed)} of {len(runs)} runs: {why}")
    return [run.spec.run_id for run in runs]


def _print(run: Run, record: RunRecord) -> None:
    loss = "" if record.val_loss_nats is None else f", validation loss {record.val_loss_nats:.4f} nats"
    loss += "".join(f", {name} loss {nats:.4f}" for name, nats in record.val_auxiliary_nats.items())
    print(f"{run.directory}: {record.status}{loss}{': ' + record.why if record.why else ''}")


def hydra_launcher(cfg: DictConfig) -> Callable[..., Sequence[Any]]:
    """The launch function of the configured Hydra launcher, outside a Hydra app; `cfg` comes from `compose`.

    Its arguments are lists of overrides: launch(job_overrides, initial_job_idx=0).
    """
    with initialize_config_dir(config_dir=str(CONF_DIR), version_base="1.3", job_name="scaling"):
        context = HydraContext(config_loader=GlobalHydra.instance().config_loader(), callbacks=Callbacks())
        plugin = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=train_task, config=cfg)
    return plugin.launch


def run_app(arguments: Sequence[str]) -> int:
    """Run the Hydra application on command-line arguments; return its exit code."""
    app = hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="config")(train_task)
    before = sys.argv
    # Hydra's parser accepts overrides only in one stretch, not some before its flags and some after.
    overrides = [word for word in arguments if word.startswith("~") or ("=" in word and not word.startswith("-"))]
    flags = [word for word in arguments if word not in overrides]
    sys.argv = ["scaling train", *overrides, *user_search_path(), *flags]
    try:
        app()
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 1
    except KeyboardInterrupt as stopped:
        print(f"{stopped or 'stopped'}; the same command again resumes", file=sys.stderr)
        return 130
    finally:
        sys.argv = before
    return 0
