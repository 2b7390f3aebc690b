"""Options of the commands that analyse runs: fit, predict, curves, next and report."""

import argparse
from collections.abc import Callable
from pathlib import Path

from scaling.cli import analyses, whole_curves


def add_analyses(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the commands to the parser; `command` is called with a name, a summary, a function and examples."""
    fit = command(
        "fit",
        "fit scaling laws to a study or to anybody's table of runs",
        analyses.fit,
        "runs/quickstart",
        "runs.csv --law chinchilla --law power:C --params total --out fits/",
    )
    _add_fit_options(fit)
    fit.add_argument("--json", action="store_true", help="print the whole results document as JSON")
    fit.add_argument("--out", type=Path, help="folder for results.json (default: the study's own, or none for a table)")
    predict = command(
        "predict",
        "predict loss and allocation from results, each with an interval",
        analyses.predict,
        "runs/quickstart/results.json --flops 1e13 --register",
        "results.json --loss 2.1 --serve 1e12",
        "--run runs/quickstart/0123456789ab",
    )
    predict.add_argument(
        "results",
        type=Path,
        nargs="?",
        help="a results.json that `scaling fit` wrote, or the study that holds it; with --run, the run's study",
    )
    predict.add_argument(
        "--run",
        dest="of_run",
        metavar="RUN",
        help="a run, in progress or not, by its folder or its id: its present loss, and the loss at its end by laws of "
        "whole curves",
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
    add_against(predict)
    curves = command(
        "curves",
        "fit laws of whole curves, which know the learning rate, and predict schedules that were held out",
        whole_curves.curves,
        "runs/schedules",
        "runs/branches --json",
    )
    curves.add_argument("study", type=Path, metavar="STUDY", help="a study's folder, runs/NAME")
    curves.add_argument("--out", type=Path, help="folder for curves.json and the figure (default: the study's own)")
    curves.add_argument("--json", action="store_true", help="print one JSON document; nothing is written")
    next_runs = command(
        "next",
        "propose the runs that sharpen a forecast most for their FLOPs, and write them as a sweep",
        analyses.next_runs,
        "runs/quickstart --budget 3e12 --target flops=1e13",
        "runs.csv --budget 1e20 --target params=7e9 tokens=2e12 --width 0.02",
    )
    _add_next_options(next_runs)
    report = command(
        "report",
        "fit if need be, then draw every figure and write report.html",
        analyses.report,
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


def _add_next_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("data", metavar="STUDY", help="runs/STUDY, or a table of runs, for which no sweep is written")
    add("--budget", type=float, required=True, metavar="X", help="to spend on the runs: FLOPs, or the unit of --price")
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
    laws = ", ".join(analyses.DESIGN_LAWS)
    add("--law", action="append", metavar="NAME", help=f"a law of the mixture, repeatable (default: {laws})")
    add("--params", metavar="N", help="total, non_embedding, non_embedding_head or a column (default: non_embedding)")
    add("--on", metavar="DEVICE", help="price the runs on this machine, e.g. h100: GPU-hours, wall time and dollars")
    add("--count", type=int, default=1, metavar="N", help="devices of --on, a run on each (default: %(default)s)")
    add("--usd-per-hour", type=float, metavar="USD", help="price of one device of --on for an hour")
    add(
        "--price",
        choices=("flops", "hours", "usd"),
        default="flops",
        help="unit of --budget, by which runs are ranked: hours are GPU-hours on --on (default: %(default)s)",
    )
    add("--sweep", metavar="NAME", help="the sweep that trained the study (default: the one of the study's name)")
    add("--json", action="store_true", help="print one JSON document; no sweep is written")


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
    add_against(parser)
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


def add_against(parser: argparse.ArgumentParser) -> None:
    """Add the studies in which a registered forecast looks for its target."""
    parser.add_argument(
        "--against",
        action="append",
        default=[],
        type=Path,
        metavar="STUDY",
        help="another study that may hold the target of a registered forecast, repeatable",
    )
