"""The parser of the `scaling` command: its subcommands, their options and examples."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from scaling import __version__
from scaling.cli import commands
from scaling.cli.analysis_options import add_against, add_analyses
from scaling.cli.completion import SCRIPTS, candidates
from scaling.cli.upkeep import add_upkeep
from scaling.config.presets import choices
from scaling.machine.devices import DEVICES

PROG = "scaling"
SWEEPS = ("plan", "tune", "train", "check-transfer")  # commands of a sweep's overrides, whose help lists the presets
PRESETS = "choose with NAME=, or write a file of your own into ./conf/:\n"
T = TypeVar("T", int, float)
Command = Callable[..., argparse.ArgumentParser]  # of a name, a summary, a function and examples


def parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
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

    _add_sweeps(command)
    _add_launch(command)
    _add_status(command)
    add_upkeep(command)
    _add_bench(command)
    add_analyses(command)
    _add_models(command)
    _add_check_transfer(command)
    _add_completion(command)
    return parser, commands_by_name


def _add_sweeps(command: Command) -> None:
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
    plan.add_argument("--count", type=int, default=1, metavar="K", help="devices of --on (default: 1)")
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
        "--until-eof", action="store_true", help="stop once standard input ends, as when the starting process dies"
    )
    worker.add_argument(
        "--requeue", choices=("slurm",), help="where the exit code would be 75, let the batch system start it again"
    )


def _add_launch(command: Command) -> None:
    launch = command(
        "launch",
        "print workers of a planned study for a scheduler elsewhere; nothing starts",
        commands.launch,
        "runs/quickstart --render sbatch hydra.launcher.time=2:00:00",
        "runs/quickstart --render k8s --image ghcr.io/me/scaling:1 --storage runs hydra.launcher.memory=32G",
        "runs/quickstart --render skypilot --storage s3://me --gpu H100",
    )
    launch.add_argument("study", type=Path, metavar="STUDY", help="a planned study's folder, runs/NAME")
    launch.add_argument(
        "settings", nargs="*", metavar="SETTING", help="hydra.launcher.NAME=VALUE, as of Slurm's workers"
    )
    launch.add_argument("--render", required=True, metavar="WHAT", help="k8s, skypilot or sbatch")
    launch.add_argument("--image", metavar="IMAGE", help="container image with this package (k8s, skypilot)")
    launch.add_argument(
        "--storage", metavar="NAME", help="volume claim (k8s) or bucket (skypilot) of the study's files"
    )
    launch.add_argument("--gpu", metavar="KIND", help="kind of GPU in SkyPilot's names, as H100")
    launch.add_argument(
        "--python", metavar="PATH", help="the workers' Python (default: this one, or an image's `python`)"
    )


def _add_status(command: Command) -> None:
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
    add_against(status)


def _add_bench(command: Command) -> None:
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


def _add_models(command: Command) -> None:
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
    profile = command(
        "profile",
        "measure what finished runs cost to serve: latency, throughput, memory, bytes",
        commands.profile,
        "runs/quickstart",
        "runs/quickstart/0123456789ab --batches 1,4,16 --device cpu --threads 1",
    )
    add = profile.add_argument
    add("path", type=Path, metavar="RUN_OR_STUDY", help="runs/NAME/RUN_ID, or runs/NAME for all its finished runs")
    add("--batches", default="1,4,16", metavar="B,B", help="batch sizes to time (default: %(default)s)")
    add("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    add("--threads", type=int, metavar="T", help="CPU threads (default: torch's choice)")
    add("--cache", type=Path, help="where prepared data lies (default: cache/ beside the study)")
    add("--missing", action="store_true", help="of a study, measure only the runs without a profile")


def _add_check_transfer(command: Command) -> None:
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


def _add_completion(command: Command) -> None:
    completion = command(
        "completion",
        "print the shell's script that completes this command's words with the tab key",
        _complete,
        "bash >> ~/.bashrc",
        'query "scaling train model=g"',
    )
    completion.add_argument(
        "shell", choices=(*SCRIPTS, "query"), help="your shell; query prints the words that may end LINE"
    )
    completion.add_argument("line", nargs="?", default="", metavar="LINE", help="a line to be completed")


def _complete(options: argparse.Namespace) -> int:
    if options.shell == "query":
        print("\n".join(candidates(options.line, parsers()[1])))
    else:
        print(SCRIPTS[options.shell], end="")
    return 0


def _unreachable(options: Any) -> int:
    raise AssertionError(f"train is handed to Hydra before argparse sees it: {options}")


def _between_commas(kind: type[T]) -> Callable[[str], list[T]]:
    """A parser of numbers such as `1,2,4`; argparse turns its ValueError into a message."""

    def numbers(text: str) -> list[T]:
        return [kind(part) for part in text.split(",")]

    return numbers
