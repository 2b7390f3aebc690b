"""The `scaling` command: its subcommands, their options, and the exit status."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from scaling import __version__
from scaling.cli import commands
from scaling.cli.completion import SCRIPTS, candidates
from scaling.cli.upkeep import add_upkeep
from scaling.config.presets import choices
from scaling.machine.devices import DEVICES
from scaling.machine.threads import wait_passively

PROG = "scaling"
SWEEPS = ("plan", "tune", "train", "check-transfer")  # commands of a sweep's overrides, whose help lists the presets
PRESETS = "choose with NAME=, or write a file of your own into ./conf/:\n"
CLOSED_PIPE = 141  # exit status of a command that the closed pipe of its output ended: 128 + SIGPIPE
T = TypeVar("T", int, float)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; return the exit status: 0 done, 1 something failed, 2 a mistake in the arguments.

    The status is CLOSED_PIPE where the reader of the output has gone.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _open_closed_streams()
    wait_passively()
    try:
        status = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # its reader has read enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what the interpreter flushes at its end
        return CLOSED_PIPE
    return status


def _run(arguments: list[str]) -> int:
    command, train = arguments[0] if arguments else "", arguments[:1] == ["train"]
    try:
        if train and not {"-h", "--help"} & set(arguments):
            _refuse_repeats([part for part in arguments[1:] if not part.startswith("-")])
            return commands.train(arguments[1:])  # Hydra reads the rest of the line itself
        options = _parse(arguments)
        _refuse_repeats([*getattr(options, "overrides", ()), *getattr(options, "settings", ())])
        status: int = options.run(options)
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:  # an OSError names its file: a disk is full, a folder read-only
        print(f"{PROG} {command}: {error}", file=sys.stderr)
        return 2
    return status


def _refuse_repeats(overrides: Sequence[str]) -> None:
    """ValueError for a setting that the overrides give twice."""
    given: dict[str, str] = {}
    for part in overrides:
        key = part.partition("=")[0].lstrip("+~")
        if key in given:
            raise ValueError(f"{key} is given twice, as {given[key]} and as {part}: keep one")
        given[key] = part


def _open_closed_streams() -> None:
    """Open the null device where the caller closed a standard stream, lest another file take its number."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse options and overrides in any order: argparse by itself takes no override after the first option."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    late = [part for part in rest if "=" in part and not part.startswith("-") and "overrides" in options]
    if len(late) < len(rest):
        parser.error(f"unrecognized arguments: {' '.join(part for part in rest if part not in late)}")
    if late:
        options.overrides = [*options.overrides, *late]
    return options


def _parser() -> argparse.ArgumentParser:
    return _parsers()[0]


def _parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser, and the parser of each command."""
    chosen = f"{PRESETS}{choices()}\n"
    parser = argparse.ArgumentParser(
        prog=PROG,
        description="Scaling-law experiments: plan a grid, train it, fit the law, draw it.",
        epilog=chosen,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands_by_name: dict[str, argparse.ArgumentParser] = {}
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND [OPTIONS]")

    def command(name: str, summary: str, run: Callable[[Any], int], *examples: str) -> argparse.ArgumentParser:
        sub = subparsers.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=(chosen if name in SWEEPS else "")
            + "examples:\n"
            + "".join(f"  {PROG} {name} {example}\n" for example in examples),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(run=run)
        commands_by_name[name] = sub
        return sub

    plan = command(
        "plan",
        "price every run of a sweep; nothing starts",
        commands.plan,
        "+sweep=quickstart",
        "+sweep=gpu-1e18 --on h100 --count 8 --usd-per-hour 2.5",
    )
    plan.add_argument("overrides", nargs="*", help="Hydra overrides, e.g. +sweep=quickstart or model.d_model=64,128")
    plan.add_argument("--write", action="store_true", help="write the plan into the study, for `scaling worker`")
    plan.add_argument("--json", action="store_true", help="print the plan as one JSON document")
    plan.add_argument("--on", metavar="DEVICE", help=f"price it on a machine that is not here: {', '.join(DEVICES)}")
    plan.add_argument("--count", type=int, default=1, metavar="K", help="devices of --on, a run each (default: 1)")
    plan.add_argument("--usd-per-hour", type=float, metavar="USD", help="price of one device of --on for an hour")
    tune = command(
        "tune",
        "search learning rate and batch at a few sizes of a sweep, and write them as its recipe",
        commands.tune,
        "+sweep=quickstart",
        "+sweep=gpu-1e18 --flops 1e18 --budgets 5e15,2e16",
    )
    tune.add_argument("overrides", nargs="*", help="the sweep's Hydra overrides, as for plan")
    tune.add_argument("--flops", type=float, metavar="C", help="cap on the search (default: a quarter of the sweep's)")
    tune.add_argument(
        "--budgets", type=_between_commas(float), default=[], metavar="C,C", help="FLOPs of a run (default: to suit)"
    )
    command(
        "train",
        "train one run, or every missing run of a sweep",
        _unreachable,
        "+sweep=quickstart -m",
        "model.n_layers=2 model.d_model=64 model.n_heads=4 budget.flops=1e11",
    ).add_argument("overrides", nargs="*", help="Hydra overrides and flags; --hydra-help lists the flags")
    worker = command(
        "worker",
        "train planned runs of a study, one after another, beside any other workers (exit codes: docs/workers.md)",
        commands.worker,
        "runs/quickstart",
        "runs/quickstart --until +90 --max-runs 4",
    )
    worker.add_argument("study", type=Path, metavar="STUDY", help="a planned study's folder, runs/NAME")
    worker.add_argument(
        "--until", metavar="TIME", help="end by then: 2026-01-31T18:00, +90 (minutes) or seconds since 1970"
    )
    worker.add_argument("--max-runs", type=int, metavar="K", help="take K runs at most (default: no limit)")
    worker.add_argument("--slots", type=int, metavar="K", help="runs at once (default: one a visible GPU, or one)")
    worker.add_argument(
        "--allow-other-code",
        action="store_true",
        help="train though the plan was made by other code; attempts record it",
    )
    worker.add_argument(
        "--requeue", choices=("slurm",), help="where the exit code would be 75, let the batch system start it again"
    )
    status = command(
        "status",
        "show how the runs of a study are doing",
        commands.status,
        "runs/quickstart",
        "runs/quickstart runs/smoke --json",
    )
    status.add_argument(
        "studies",
        nargs="*",
        type=Path,
        metavar="STUDY",
        help="a study's folder, runs/NAME (default: the only study in runs/)",
    )
    status.add_argument("--json", action="store_true", help="print one JSON document")
    _add_against(status)
    add_upkeep(command)
    bench = command(
        "bench",
        "time training steps on this machine, so that plans know how long runs take",
        commands.bench,
        "",
        "--precision bf16 --seconds 10",
    )
    bench.add_argument("overrides", nargs="*", help="the launcher's Hydra overrides, e.g. hydra.launcher.slots=2")
    bench.add_argument("--precision", default="fp32", help="fp32 or bf16 (default: %(default)s)")
    bench.add_argument("--seconds", type=float, default=3.0, help="of training a measurement (default: %(default)s)")
    bench.add_argument("--cache", type=Path, default=Path("runs/cache"), help="where plans look (default: %(default)s)")
    fit = command(
        "fit",
        "fit scaling laws to a study or to anybody's table of runs",
        commands.fit,
        "runs/quickstart",
        "runs.csv --law chinchilla --law power:C --params total --out fits/",
    )
    _add_fit_options(fit)
    fit.add_argument("--json", action="store_true", help="print the whole results document as JSON")
    fit.add_argument("--out", type=Path, help="folder for results.json (default: the study's own, or none for a table)")
    predict = command(
        "predict",
        "predict loss and allocation from results, each with an interval",
        commands.predict,
        "runs/quickstart/results.json --flops 1e13 --register",
        "results.json --loss 2.1 --serve 1e12",
        "results.json --at N=1e9 V=32000",
    )
    predict.add_argument(
        "results", type=Path, help="a results.json that `scaling fit` wrote, or the study that holds it"
    )
    predict.add_argument("--flops", type=float, help="training compute, FLOPs")
    predict.add_argument("--params", type=float, help="parameters, in the convention of the fit")
    predict.add_argument("--tokens", type=float, help="training tokens")
    predict.add_argument(
        "--at",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="values of all variables of a fitted law, such as P=1e9 V=32000: its loss there",
    )
    predict.add_argument("--loss", type=float, help="a loss to reach as cheaply as can be, nats per token")
    predict.add_argument(
        "--serve",
        type=float,
        help="tokens to be served: the cheapest model of --loss, or as good as "
        "the optimum at --flops, with serving paid for",
    )
    predict.add_argument("--json", action="store_true", help="print JSON")
    predict.add_argument(
        "--register",
        action="store_true",
        help="write the forecast into the study's predictions/, once, before its target is trained; `scaling report` "
        "grades it by the target's record",
    )
    _add_against(predict)
    _add_next_options(
        command(
            "next",
            "propose the runs that sharpen a forecast most for their FLOPs, and write them as a sweep",
            commands.next_runs,
            "runs/quickstart --budget 3e12 --target flops=1e13",
            "runs.csv --budget 1e20 --target params=7e9 tokens=2e12 --width 0.02",
        )
    )
    report = command(
        "report",
        "fit if need be, then draw every figure and write report.html",
        commands.report,
        "runs/quickstart",
        "runs/quickstart --tracker wandb tracker.settings.mode=offline",
    )
    _add_fit_options(report)
    report.set_defaults(overrides=[])
    report.add_argument("--out", type=Path, help="folder for report.html (default: report/ in the study, or ./report)")
    report.add_argument(
        "--width", metavar="WIDTH", help="of the saved figures, e.g. 3.25in, 8.3cm or 234pt (default: 6.5in)"
    )
    report.add_argument("--font", help="of the saved figures, one that is installed (default: DejaVu Sans)")
    report.add_argument(
        "--tracker",
        action="append",
        default=[],
        metavar="NAME",
        help="a tracker that receives the analysis as a run, repeatable; tracker.settings.K=V beside DATA sets it up",
    )
    imported = command(
        "import",
        "make a published Hugging Face checkpoint a run of a study, evaluated on your data",
        commands.import_run,
        "./model study=published train_tokens=3e8 data=text 'data.source.paths=[corpus/*.txt]'",
        "EleutherAI/pythia-70m revision=step3000 study=p train_tokens=6.3e9 data=tokens data.source.train=[a.bin]",
    )
    imported.add_argument(
        "source", metavar="DIR_OR_HUB_ID", help="a folder with config.json and safetensors, or a name"
    )
    imported.add_argument(
        "settings",
        nargs="*",
        help="study=NAME, train_tokens=D (what it was trained on, as published), unique_tokens=U if it repeated them, "
        "revision=R for a branch, tag or commit of the hub, "
        "and Hydra overrides of the data and the evaluation",
    )
    finetune = command(
        "finetune",
        "fine-tune a run, or a study's, on a task, each beside the same shape from scratch",
        commands.finetune,
        "runs/objectives task=modules",
        "runs/quickstart/0123456789ab task=sentiment task.path=reviews.csv task.examples=[100,400,1600]",
    )
    finetune.add_argument("source", type=Path, metavar="RUN|STUDY", help="runs/STUDY/RUN_ID, or runs/STUDY for all")
    finetune.add_argument(
        "settings",
        nargs="*",
        help="task=modules, sentiment, docstrings or translation, and overrides of conf/finetune.yaml and conf/task/",
    )
    export = command(
        "export",
        "write a finished run's weights and tokenizer as a folder that Hugging Face loads",
        commands.export,
        "runs/quickstart/0123456789ab --format hf --out model/",
        "runs/quickstart/0123456789ab --out model/ --cache runs/cache",
    )
    export.add_argument("run_dir", type=Path, metavar="RUN", help="a run's folder, runs/NAME/RUN_ID")
    export.add_argument("--format", default="hf", choices=("hf",), help="hf: transformers' (default)")
    export.add_argument(
        "--model-type",
        metavar="TYPE",
        help="Hugging Face's, where several fit, e.g. mistral (default: that of the imported checkpoint, or the first)",
    )
    export.add_argument("--out", type=Path, required=True, help="the folder to write, which must not exist")
    export.add_argument("--cache", type=Path, help="where prepared data lies (default: cache/ beside the study)")
    _add_profile_options(
        command(
            "profile",
            "measure what finished runs cost to serve: latency, throughput, memory, bytes",
            commands.profile,
            "runs/quickstart",
            "runs/quickstart/0123456789ab --batches 1,4,16 --device cpu --threads 1",
        )
    )
    check = command(
        "check-transfer",
        "verify that a recipe's learning rate can transfer: a coordinate check at several widths and depths",
        commands.check_transfer,
        "recipe=completep",
        "recipe=mup recipe.base_d_model=128 data=synthetic --widths 1,2,4 --out check.png",
    )
    check.add_argument("overrides", nargs="*", help="Hydra overrides; recipe=mup or completep, or one of your own")
    check.add_argument(
        "--widths", type=_between_commas(int), default=(1, 2, 4), help="times the base's (default: 1,2,4)"
    )
    check.add_argument(
        "--depths", type=_between_commas(int), default=(1, 2, 4), help="times the base's (default: 1,2,4)"
    )
    check.add_argument("--steps", type=int, default=6, help="of training (default: %(default)s)")
    check.add_argument("--seeds", type=int, default=2, help="models of each size (default: %(default)s)")
    check.add_argument("--out", type=Path, default=Path("check-transfer.png"), help="the figure (default: %(default)s)")
    completion = command(
        "completion",
        "print the shell's script that completes this command's words with the tab key",
        _complete,
        "bash >> ~/.bashrc",
        'query "scaling train model=g"',
    )
    completion.add_argument("shell", choices=(*SCRIPTS, "query"), help="bash; query prints the words that may end LINE")
    completion.add_argument("line", nargs="?", default="", metavar="LINE", help="a line to be completed")
    return parser, commands_by_name


def _add_next_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("data", metavar="STUDY", help="runs/STUDY, or a table of runs, for which no sweep is written")
    add("--budget", type=float, required=True, metavar="FLOPS", help="to spend on the runs")
    add(
        "--target",
        nargs="+",
        metavar="NAME=VALUE",
        help="the forecast to sharpen: flops=C, or params=N tokens=D (default: flops= ten times the largest run's)",
    )
    add(
        "--width",
        type=float,
        default=0.0,
        metavar="W",
        help="stop buying once the interval is within this share of the loss either way, e.g. 0.01",
    )
    laws = ", ".join(commands.DESIGN_LAWS)
    add("--law", action="append", metavar="NAME", help=f"a law of the mixture, repeatable (default: {laws})")
    add("--params", metavar="N", help="total, non_embedding, non_embedding_head or a column (default: non_embedding)")
    add("--sweep", metavar="NAME", help="the sweep that trained the study (default: the one of the study's name)")
    add("--json", action="store_true", help="print one JSON document; no sweep is written")


def _add_profile_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("path", type=Path, metavar="RUN_OR_STUDY", help="runs/NAME/RUN_ID, or runs/NAME for all its finished runs")
    add("--batches", default="1,4,16", metavar="B,B", help="batch sizes to time (default: %(default)s)")
    add("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    add("--threads", type=int, metavar="T", help="CPU threads (default: torch's choice)")
    add("--cache", type=Path, help="where prepared data lies (default: cache/ beside the study)")
    add("--missing", action="store_true", help="of a study, measure only the runs without a profile")


def _add_fit_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data",
        nargs="+",
        metavar="DATA",
        help="runs/STUDY, a CSV, JSON or Parquet file with params, tokens, loss, wandb:ENTITY/PROJECT, or several",
    )
    add = parser.add_argument
    add(
        "--law",
        action="append",
        metavar="LAW",
        help="a law to fit and to answer alone, repeatable: a name such as kaplan or power:C, a formula over columns "
        "such as 'E + A*P^-a + B*V^-b', or module:Class of your own (default: the log mean of forecasters near the "
        "isoFLOP minima answers, and chinchilla is fitted to all runs beside it)",
    )
    add("--fix", action="append", default=[], metavar="NAME=VALUE", help="hold a parameter at a value, repeatable")
    add(
        "--bounds",
        action="append",
        default=[],
        metavar="NAME=LOW:HIGH",
        help="keep a parameter between values, repeatable; leave one end out for none, as in alpha=0.2:",
    )
    add("--loss", default="huber", help="huber, mse, mae or asymmetric (default: %(default)s)")
    add("--delta", type=float, default=1e-3, help="where huber turns linear (default: %(default)s)")
    add("--on", default="log", help="residuals of the log loss, or linear: any sign (default: %(default)s)")
    add(
        "--errors",
        default="given",
        help="what weighs runs: given, the table's own if any; seeds, the measured seed noise (default: %(default)s)",
    )
    add(
        "--params",
        metavar="N",
        help="total, non_embedding, non_embedding_head or a column (default: non_embedding)",
    )
    add("--flops", metavar="C", help="exact, 6nd or a column (default: exact)")
    _add_table_options(parser)
    add("--where", metavar="QUERY", help="keep only these rows, e.g. 'loss < 4 and params > 1e6'")
    add("--cluster", metavar="COLUMN", help="rows that are resampled together (default: a run's)")
    add(
        "--bootstrap",
        type=int,
        default=1000,
        metavar="R",
        help="resamples; 0 for a point fit (default: %(default)s)",
    )
    add("--seed", type=int, default=0, help="of the resampling (default: %(default)s)")
    _add_against(parser)
    add(
        "--holdout",
        default="budget",
        choices=("budget", "none"),
        help="budget: also fit on the smaller budgets and predict the larger (default); none",
    )
    add(
        "--minimum",
        choices=("cubic", "parabola", "akima", "surface"),
        help="the curve whose isoFLOP minima are quoted (default: the one that the runs bear out)",
    )


def _add_against(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--against",
        action="append",
        default=[],
        type=Path,
        metavar="STUDY",
        help="another study that may hold the target of a registered forecast, repeatable",
    )


def _complete(options: argparse.Namespace) -> int:
    if options.shell == "query":
        print("\n".join(candidates(options.line, _parsers()[1])))
    else:
        print(SCRIPTS[options.shell], end="")
    return 0


def _add_table_options(parser: argparse.ArgumentParser) -> None:
    """The choices of the reader of tables; docs/your-own-runs.md shows each."""
    add = parser.add_argument
    add("--tokens", metavar="D", help="the column of tokens, or the file of a second table with a column a run")
    add("--loss-column", metavar="COLUMN", help="the column of the loss (default: by its usual names)")
    add(
        "--run",
        dest="run_column",
        metavar="COLUMN",
        help="the column that names a row's run (default: by its usual names)",
    )
    add("--rename", action="append", default=[], metavar="OLD=NEW", help="rename a column of the table, repeatable")
    add("--runs", type=Path, metavar="FILE", help="a table with one row a run, joined by the run's name")
    add("--tokens-per-step", metavar="T", help="a number or a column: tokens = step x T")
    add(
        "--loss-unit",
        metavar="UNIT",
        help="nats, bits_per_token, bits_per_byte or perplexity (default: nats; a column named otherwise is refused)",
    )
    add(
        "--bytes-per-token",
        type=float,
        metavar="R",
        help="the loss is in bits per byte, R bytes a token (or per character): nats per token = bits x ln 2 x R",
    )
    add("--by", action="append", default=[], metavar="COLUMN", help="fit each value apart, one report; repeatable")
    add("--best-of-cell", action="store_true", help="keep the lowest loss of each size and token count")
    add("--pool", action="store_true", help="fit one law through runs of different settings all the same")


def _unreachable(options: Any) -> int:
    raise AssertionError(f"train is handed to Hydra before argparse sees it: {options}")


def _between_commas(kind: type[T]) -> Callable[[str], list[T]]:
    """A parser of numbers such as `1,2,4`; argparse turns its ValueError into a message."""

    def numbers(text: str) -> list[T]:
        return [kind(part) for part in text.split(",")]

    return numbers
