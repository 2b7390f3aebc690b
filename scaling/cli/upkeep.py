"""Commands of a study's upkeep: retry, cancel, gc, archive and wandb-sync."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from scaling.cli.mirrored_runs import wandb_sync

ADD = Callable[..., Any]


def add_upkeep(command: ADD) -> None:
    """Add the commands to the parser; `command` is called with a name, a summary, a function and examples."""

    def of_study(*words: Any) -> Any:
        parser = command(*words)
        parser.add_argument("study", type=Path, metavar="STUDY", help="a study's folder, runs/NAME")
        return parser

    again = of_study(
        "retry",
        "let failed, lost and cancelled runs of a study start again, their failures forgiven",
        retry,
        "runs/quickstart",
        "runs/quickstart 0123456789ab",
    )
    stop = of_study(
        "cancel",
        "cancel runs of a study: nobody starts them, and who trains one saves and stops",
        cancel,
        "runs/quickstart 0123456789ab --why 'too dear'",
        "runs/quickstart --all",
    )
    again.add_argument("runs", nargs="*", metavar="RUN", help="ids of runs (default: every such run)")
    stop.add_argument("runs", nargs="*", metavar="RUN", help="ids of runs")
    stop.add_argument("--all", action="store_true", help="cancel every run that is not finished")
    stop.add_argument("--why", default="by hand", help="the reason, which status shows (default: %(default)s)")
    clean = of_study(
        "gc",
        "remove old checkpoints of a study; records, metrics and logs stay",
        gc,
        "runs/quickstart",
        "runs/quickstart --weights",
    )
    clean.add_argument("--weights", action="store_true", help="also remove the kept weights of finished runs")
    pack = of_study(
        "archive",
        "pack a study without its checkpoints into one file",
        archive,
        "runs/quickstart",
        "runs/quickstart --out quickstart.tar.gz",
    )
    pack.add_argument("--out", type=Path, metavar="FILE", help="the file (default: STUDY.tar.gz)")
    sync = of_study(
        "wandb-sync",
        "send W&B what it lacks of a study's runs, from their records and metric rows",
        wandb_sync,
        "runs/quickstart",
        "runs/quickstart tracker.settings.project=other",
    )
    sync.add_argument("settings", nargs="*", metavar="SETTING", help="tracker.settings.NAME=VALUE, over the plan's")


def retry(options: Any) -> int:
    """Let runs start again."""
    from scaling.records.upkeep import retry_runs

    chosen = _chosen(options.study, options.runs)
    _print("may start again", retry_runs(options.study, chosen))
    return 0


def cancel(options: Any) -> int:
    """Cancel runs."""
    from scaling.records.upkeep import cancel_runs

    if bool(options.runs) == options.all:
        raise ValueError("name the runs to cancel, or give --all for every run that is not finished")
    _print("cancelled", cancel_runs(options.study, _chosen(options.study, options.runs), options.why))
    return 0


def gc(options: Any) -> int:
    """Remove old checkpoints."""
    from scaling.quantities import with_unit
    from scaling.records.upkeep import remove_old_checkpoints

    freed = remove_old_checkpoints(options.study, weights=options.weights)
    print(f"{options.study}: {with_unit(freed, 'B')} of checkpoints removed")
    return 0


def archive(options: Any) -> int:
    """Pack a study."""
    from scaling.records.upkeep import archive

    out = options.out or options.study.with_name(f"{options.study.name}.tar.gz")
    count = archive(options.study, out)
    print(f"archive: {out}, {count} files; checkpoints and weights stay in {options.study}")
    return 0


def _chosen(study: Path, runs: list[str]) -> list[str]:
    """The named runs of a study, or all; ValueError for one that the study does not have."""
    from scaling.plan.plan_file import read_plan
    from scaling.records.record import run_dirs
    from scaling.registry import choose

    known = dict.fromkeys([line["run_id"] for line in read_plan(study)] + [path.name for path in run_dirs(study)])
    for run_id in runs:
        choose(f"run of {study}", known, run_id)
    return runs or list(known)


def _print(verb: str, run_ids: list[str]) -> None:
    print(
        f"{len(run_ids)} run{'' if len(run_ids) == 1 else 's'} {verb}" + (f": {', '.join(run_ids)}" if run_ids else "")
    )
