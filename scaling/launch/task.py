"""The task function of every Hydra launcher: one configuration trained to its record."""

import math
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import hydra
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import CompactHydraException, ConfigCompositionException, HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig

from scaling.config.config import check_folders, compose, in_words, refuse_folder, to_run, user_search_path
from scaling.config.grid import split_axes
from scaling.config.presets import CONF_DIR
from scaling.launch.exit_codes import INTERRUPTED
from scaling.launch.reporting import is_launched, report_outcome, reporter, stacked_reporters
from scaling.plan.degrees import with_devices_of
from scaling.plan.limits import check_limits
from scaling.plan.run import Run
from scaling.records.attempt import RunIsLiveError
from scaling.records.record import DIVERGED, RunRecord
from scaling.spec.runtime import check_study

FOLDERS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")  # which runs_dir and study decide
FULL_ERROR = "HYDRA_FULL_ERROR"


def configured_run(cfg: DictConfig) -> Run:
    """The configured run; CompactHydraException where the configuration is invalid or is no longer the planned run."""
    try:
        run = to_run(cfg)
        (run,) = with_devices_of({}, [run])  # of this process, whatever launched it
        if not (run.directory / "record.json").exists():
            check_limits([run])
    except ValueError as error:
        raise CompactHydraException(str(error)) from error
    if cfg.planned not in (None, run.spec.run_id):
        raise CompactHydraException(
            f"planned as run {cfg.planned}, but this is run {run.spec.run_id}: the configuration or the data have "
            f"changed since the sweep began; the same command again plans anew, and trains what is then missing"
        )
    return run


def train_task(cfg: DictConfig) -> float:
    """Train the configured run unless it is finished; return its loss, which optimising sweepers minimise."""
    return train_alone(configured_run(cfg))


def train_alone(run: Run) -> float:
    """Train the run unless it is finished; return its loss."""
    from scaling.train.run import train_run  # imports torch

    run_reporter = reporter(run.runtime.progress)
    try:
        record = train_run(run, run_reporter)
    finally:
        run_reporter.close()
    _print(run, record)
    report_outcome([record])
    return loss_of(record)


def loss_of(record: RunRecord) -> float:
    """The validation loss that an optimising sweeper minimises, nats; infinite for a run that diverged."""
    return math.inf if record.val_loss_nats is None or record.status == DIVERGED else record.val_loss_nats


def train_in_lockstep(runs: Sequence[Run]) -> list[float]:
    """Train a stack's unfinished runs in lockstep; return the losses of all its runs.

    An exception that ends one run does not affect the others, and is raised when they have ended.
    """
    from scaling.train.lockstep import train_stack

    reporters = stacked_reporters([run.spec.run_id for run in runs])
    failed: dict[str, BaseException] = {}
    records: list[RunRecord] = []
    for run, outcome in zip(runs, train_stack(runs, reporters), strict=True):
        if isinstance(outcome, BaseException):
            traceback.print_exception(outcome)
            failed[run.spec.run_id] = outcome
        else:
            _print(run, outcome)
            records.append(outcome)
    if failed:
        stopped = all(isinstance(error, KeyboardInterrupt) for error in failed.values())
        if all(isinstance(error, RunIsLiveError) for error in failed.values()):
            raise next(iter(failed.values()))
        why = "; ".join(f"{run_id}: {error}" for run_id, error in failed.items())
        raise KeyboardInterrupt(why) if stopped else RuntimeError(f"{len(failed)} of {len(runs)} runs: {why}")
    report_outcome(records)
    return [loss_of(record) for record in records]


def _print(run: Run, record: RunRecord) -> None:
    loss = "" if record.val_loss_nats is None else f", validation loss {record.val_loss_nats:.4f} nats"
    loss += "".join(f", {name} loss {nats:.4f}" for name, nats in record.val_auxiliary_nats.items())
    with suppress(BrokenPipeError):  # the record stands, whoever reads of it
        print(f"{run.directory}: {record.status}{loss}{': ' + record.why if record.why else ''}", flush=True)


def hydra_launcher(cfg: DictConfig) -> Callable[..., Sequence[Any]]:
    """The launch function of the configured Hydra launcher, outside a Hydra app; `cfg` comes from `compose`.

    Its arguments are lists of overrides: launch(job_overrides, initial_job_idx=0).
    """
    with initialize_config_dir(config_dir=str(CONF_DIR), version_base="1.3", job_name="scaling"):
        context = HydraContext(config_loader=GlobalHydra.instance().config_loader(), callbacks=Callbacks())
        plugin = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=train_task, config=cfg)
    return plugin.launch


def command_task(cfg: DictConfig) -> float:
    """The task of the command: a mistake of the user ends a single run in one line."""
    try:
        check_folders(HydraConfig.get(), cfg.runs_dir, cfg.study)
        return train_task(cfg)
    except (CompactHydraException, ValueError) as error:
        if is_launched() or not is_ours(error):
            raise
        raise SystemExit(_refuse(error)) from None


def is_ours(error: BaseException) -> bool:
    """Whether this package raised the error: its ValueErrors name a user's mistake, and a library's a fault of ours."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__")).startswith("scaling.")


def run_app(arguments: Sequence[str]) -> int:
    """Run the Hydra application on command-line arguments; return its exit code."""
    app = hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="config")(command_task)
    before = sys.argv
    # Hydra's parser accepts overrides only in one stretch, not some before its flags and some after.
    overrides = [word for word in arguments if word.startswith("~") or ("=" in word and not word.startswith("-"))]
    flags = [word for word in arguments if word not in overrides]
    if {"-sc", "--shell-completion"} & {*flags}:
        raise ValueError("Hydra's completion does not know this command's own words; use  scaling completion bash")
    for word in overrides:
        key, _, value = word.partition("=")
        # Hydra makes these folders before the task begins.
        if key == "study":
            check_study(value.strip("'\""))
        if key.lstrip("+~") in FOLDERS:
            refuse_folder(key.lstrip("+~"), value)
    sys.argv = ["scaling train", *overrides, *user_search_path(), *flags]
    try:
        with _raised():
            app()
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 1
    except HydraException as error:
        return _refuse(error, overrides)
    except BrokenPipeError:
        raise
    except OSError as error:  # names its file: a disk is full, a folder read-only
        return _refuse(error)
    except Exception:
        traceback.print_exc()
        return 1
    except KeyboardInterrupt as stopped:
        print(f"{str(stopped) or 'stopped'}; the same command again resumes", file=sys.stderr)
        return INTERRUPTED
    finally:
        sys.argv = before
    return 0


def _refuse(error: Exception, overrides: Sequence[str] = ()) -> int:
    """Print a mistake in the arguments in one line; return the exit code."""
    words = in_words(error)
    if isinstance(error, ConfigCompositionException):
        try:
            compose(split_axes(overrides)[0])
        except ValueError as again:  # the same, with the settings that exist
            words = str(again)
    print(f"scaling train: {words}", file=sys.stderr)
    return 2


@contextmanager
def _raised() -> Iterator[None]:
    """Within, Hydra's application raises its errors as they are, where it would print its own words."""
    before = os.environ.get(FULL_ERROR)
    os.environ[FULL_ERROR] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[FULL_ERROR]
        else:
            os.environ[FULL_ERROR] = before
