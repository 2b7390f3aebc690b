"""The `scaling` command: every subcommand, its options and its last word."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PROG = "scaling"
DEFAULT_LAWS = ("chinchilla",)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns the exit status: 0 done, 1 something failed, 2 a mistake in what was asked."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["train"] and not {"-h", "--help"} & set(arguments):
        return _train(arguments[1:])  # Hydra reads the rest of the line itself
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except ValueError as error:
        print(f"{PROG} {options.command}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 0
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROG, description="Scaling-law experiments: plan a grid, train it, fit the law, draw it."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND [OPTIONS]")

    def command(name: str, summary: str, run: Callable[[Any], int], *examples: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog="examples:\n" + "".join(f"  {PROG} {name} {example}\n" for example in examples),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(run=run)
        return sub

    command(
        "plan",
        "price every run of a sweep; nothing starts",
        _plan,
        "+sweep=quickstart",
        "model.d_model=32,64,128 budget.flops=1e11,1e12",
    ).add_argument("overrides", nargs="*", help="Hydra overrides, e.g. +sweep=quickstart or model.d_model=64,128")
    tune = command(
        "tune",
        "search learning rate and batch at a few sizes of a sweep, and write them as its recipe",
        _tune,
        "+sweep=quickstart",
        "+sweep=gpu-1e18 --flops 1e18 --budgets 5e15,2e16",
    )
    tune.add_argument("overrides", nargs="*", help="the sweep's Hydra overrides, as for plan")
    tune.add_argument("--flops", type=float, metavar="C", help="cap on the search (default: a quarter of the sweep's)")
    tune.add_argument("--budgets", type=_numbers, default=[], metavar="C,C", help="FLOPs of a run (default: to suit)")
    command(
        "train",
        "train one run, or every missing run of a sweep",
        _unreachable,
        "+sweep=quickstart -m",
        "model.n_layers=2 model.d_model=64 model.n_heads=4 budget.flops=1e11",
    ).add_argument("overrides", nargs="*", help="Hydra overrides and flags; --hydra-help lists the flags")
    status = command(
        "status",
        "show how the runs of a study are doing",
        _status,
        "runs/quickstart",
        "runs/quickstart runs/smoke",
    )
    status.add_argument("studies", nargs="+", type=Path, metavar="STUDY", help="a study's folder, runs/NAME")
    bench = command(
        "bench",
        "time training steps on this machine, so that plans know how long runs take",
        _bench,
        "",
        "--precision bf16 --seconds 10",
    )
    bench.add_argument("--precision", default="fp32", help="fp32 or bf16 (default: %(default)s)")
    bench.add_argument("--seconds", type=float, default=3.0, help="of training a measurement (default: %(default)s)")
    bench.add_argument("--cache", type=Path, default=Path("runs/cache"), help="where plans look (default: %(default)s)")
    fit = command(
        "fit",
        "fit scaling laws to a study or to anybody's table of runs",
        _fit,
        "runs/quickstart",
        "runs.csv --law chinchilla --law power:C --params total --out fits/",
    )
    _add_fit_options(fit)
    fit.add_argument("--json", action="store_true", help="print the whole results document as JSON")
    fit.add_argument("--out", type=Path, help="folder for results.json (default: the study's own, or none for a table)")
    predict = command(
        "predict",
        "predict loss and allocation from results, each with an interval",
        _predict,
        "runs/quickstart/results.json --flops 1e13",
        "results.json --loss 2.1 --serve 1e12",
    )
    predict.add_argument("results", type=Path, help="a results.json that `scaling fit` wrote")
    predict.add_argument("--flops", type=float, help="training compute, FLOPs")
    predict.add_argument("--params", type=float, help="parameters, in the convention of the fit")
    predict.add_argument("--tokens", type=float, help="training tokens")
    predict.add_argument("--loss", type=float, help="a loss to reach as cheaply as can be, nats per token")
    predict.add_argument(
        "--serve",
        type=float,
        help="tokens to be served: the cheapest model of --loss, or as good as "
        "the optimum at --flops, with serving paid for",
    )
    predict.add_argument("--json", action="store_true", help="print JSON")
    report = command(
        "report",
        "fit if need be, then draw every figure and write report.html",
        _report,
        "runs/quickstart",
        "runs.csv --holdout budget --out report/",
    )
    _add_fit_options(report)
    report.add_argument("--out", type=Path, help="folder for report.html (default: report/ in the study, or ./report)")
    imported = command(
        "import",
        "make a published Hugging Face checkpoint a run of a study, evaluated on your data",
        _import,
        "./model study=published train_tokens=3e8 data=text 'data.source.paths=[corpus/*.txt]'",
        "openai-community/gpt2 study=published train_tokens=9e9 data=tokens data.source.train=[a.bin]",
    )
    imported.add_argument(
        "source", metavar="DIR_OR_HUB_ID", help="a folder with config.json and safetensors, or a name"
    )
    imported.add_argument(
        "settings",
        nargs="*",
        help="study=NAME, train_tokens=D (what it was trained on, as published), unique_tokens=U if it repeated them, "
        "and Hydra overrides of the data and the evaluation",
    )
    finetune = command(
        "finetune",
        "fine-tune a run, or a study's, on a task, each beside the same shape from scratch",
        _finetune,
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
        _export,
        "runs/quickstart/0123456789ab --format hf --out model/",
        "runs/quickstart/0123456789ab --out model/ --cache runs/cache",
    )
    export.add_argument("run_dir", type=Path, metavar="RUN", help="a run's folder, runs/NAME/RUN_ID")
    export.add_argument("--format", default="hf", choices=("hf",), help="hf: transformers' (default)")
    export.add_argument("--out", type=Path, required=True, help="the folder to write, which must not exist")
    export.add_argument("--cache", type=Path, help="where prepared data lies (default: cache/ beside the study)")
    _add_profile_options(
        command(
            "profile",
            "measure what finished runs cost to serve: latency, throughput, memory, bytes",
            _profile,
            "runs/quickstart",
            "runs/quickstart/0123456789ab --batches 1,4,16 --device cpu --threads 1",
        )
    )
    check = command(
        "check-transfer",
        "verify that a recipe's learning rate can transfer: a coordinate check at several widths and depths",
        _check_transfer,
        "recipe=completep",
        "recipe=mup recipe.base_d_model=128 data=synthetic --widths 1,2,4 --out check.png",
    )
    check.add_argument("overrides", nargs="*", help="Hydra overrides; recipe=mup or completep, or one of your own")
    check.add_argument("--widths", type=_factors, default=(1, 2, 4), help="times the base's (default: 1,2,4)")
    check.add_argument("--depths", type=_factors, default=(1, 2, 4), help="times the base's (default: 1,2,4)")
    check.add_argument("--steps", type=int, default=6, help="of training (default: %(default)s)")
    check.add_argument("--seeds", type=int, default=2, help="models of each size (default: %(default)s)")
    check.add_argument("--out", type=Path, default=Path("check-transfer.png"), help="the figure (default: %(default)s)")
    return parser


def _add_profile_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("path", type=Path, metavar="RUN_OR_STUDY", help="runs/NAME/RUN_ID, or runs/NAME for all its finished runs")
    add("--batches", default="1,4,16", metavar="B,B", help="batch sizes to time (default: %(default)s)")
    add("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    add("--threads", type=int, metavar="T", help="CPU threads (default: torch's choice)")
    add("--cache", type=Path, help="where prepared data lies (default: cache/ beside the study)")
    add("--missing", action="store_true", help="of a study, measure only the runs without a profile")


def _factors(text: str) -> tuple[int, ...]:
    """`1,2,4` as numbers; argparse turns a ValueError into a message."""
    return tuple(int(part) for part in text.split(","))


def _add_fit_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data",
        nargs="+",
        metavar="DATA",
        help="runs/STUDY, a CSV or Parquet file with params, tokens, loss (and more), wandb:ENTITY/PROJECT, or several",
    )
    add = parser.add_argument
    add(
        "--law",
        action="append",
        metavar="NAME",
        help="a law to fit, repeatable, e.g. kaplan or power:C (default: chinchilla)",
    )
    add("--loss", default="huber", help="huber, mse, mae or asymmetric (default: %(default)s)")
    add("--delta", type=float, default=1e-3, help="where huber turns linear (default: %(default)s)")
    add("--on", default="log", help="residuals of the log loss, or linear (default: %(default)s)")
    add(
        "--params",
        metavar="N",
        help="total, non_embedding, non_embedding_head or a column (default: non_embedding)",
    )
    add("--flops", metavar="C", help="exact, 6nd or a column (default: exact)")
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
    add(
        "--holdout",
        default="budget",
        choices=("budget", "none"),
        help="budget: also fit on the smaller budgets and predict the larger (default); none",
    )


def _train(arguments: list[str]) -> int:
    from scaling.launch.task import run_app

    return run_app(arguments)


def _unreachable(options: Any) -> int:
    raise AssertionError(f"train is handed to Hydra before argparse sees it: {options}")


def _plan(options: Any) -> int:
    from rich.console import Console

    from scaling.config import compose, load_like, split_axes
    from scaling.launch.sweep import expand
    from scaling.plan import make_plan
    from scaling.render import print_plan

    fixed, axes = split_axes(options.overrides)
    cfg = compose(fixed)
    plan = make_plan(expand(cfg, fixed, axes, load_like), cfg.budget.total_flops)
    print_plan(plan, Console(), cfg.question)
    return 0


def _tune(options: Any) -> int:
    from rich.console import Console

    from analysis.plots import paper, tuning
    from analysis.plots.chart import Chart
    from analysis.tuning import judge
    from scaling.config import recipe_values, split_axes
    from scaling.record import write_json
    from scaling.tune.recipe_file import command, write_recipe
    from scaling.tune.search import Search
    from scaling.tune.table import print_search

    fixed, axes = split_axes(options.overrides)
    search = Search(fixed, axes, judge, Console(stderr=True))
    document = search.run(options.flops, options.budgets)
    out = search.directory / "tune.json"
    write_json(out, document)
    print_search(document, Console())
    print(f"search: {out}")
    if isinstance(chart := tuning.chart(document), Chart):
        print(f"figure: {paper.save(chart, out.with_suffix(''))[0]}")
    path = write_recipe(document, recipe_values(search.cfg))
    print(f"recipe: {path}\ntrain:  {command(path.stem, options.overrides)}")
    return 0


def _numbers(text: str) -> list[float]:
    """Numbers between commas, for argparse."""
    return [float(part) for part in text.split(",")]


def _status(options: Any) -> int:
    from rich.console import Console

    from scaling.attempt import run_state, tally
    from scaling.plan import read_plan
    from scaling.record import run_dirs
    from scaling.render import print_status

    for study in options.studies:
        found = {path.name: path for path in run_dirs(study)}
        steps = {line["run_id"]: line["steps"] for line in read_plan(study)}
        states = {run_id: (run_state(study / run_id), steps.get(run_id)) for run_id in {**steps, **found}}
        print_status(study, states, Console())
        print(tally(state for state, _ in states.values()) or "no runs yet")
    return 0


def _bench(options: Any) -> int:
    from rich.console import Console

    from scaling.bench import CASES, device_here, print_timings, time_cases, time_matmul
    from scaling.spec import check_precision
    from scaling.speed import fit_speed, remember, speed

    device, precision = device_here(), check_precision("--precision", options.precision)
    if not options.seconds > 0:
        raise ValueError(f"--seconds {options.seconds:g}: must be above 0")
    guess, _ = speed(options.cache, device, precision)
    ceiling = time_matmul(device, precision)
    said = Console(stderr=True)
    timings = time_cases(
        device,
        precision,
        CASES[device],
        options.seconds,
        guess,
        lambda t: said.print(f"{t.case.name}: {t.runs} at once, {t.tokens_per_s:,.0f} tokens/s", highlight=False),
    )
    print_timings(timings, ceiling, precision, Console())
    side_by_side = max(timing.runs for timing in timings)
    found = fit_speed([timing.sample for timing in timings if timing.runs == side_by_side])
    print(
        f"a step of one run: {found.step_s * 1e3:.2f} ms + {found.layer_s * 1e3:.2f} ms a layer "
        f"+ its FLOPs at {found.flops_per_s:.3g} FLOP/s; plans with this cache reckon so: "
        f"{remember(options.cache, device, precision, found)}"
    )
    return 0


def _load(options: Any) -> dict[str, Any]:
    """The observations by what their loss measures; one part, named "", unless a study compares objectives."""
    from analysis.comparable import comparable_parts
    from analysis.observations import load

    observations = load(
        options.data,
        params=options.params,
        flops=options.flops,
        where=options.where,
        cluster=options.cluster,
        curves=True,
    )
    return comparable_parts(observations)


def _analyse(observations: Any, options: Any) -> dict[str, Any]:
    from analysis.fit import Loss
    from analysis.results import analyse
    from scaling.plan import untuned

    results = analyse(
        observations,
        laws=options.law or DEFAULT_LAWS,
        loss=Loss(options.loss, options.delta, options.on),
        bootstrap=options.bootstrap,
        seed=options.seed,
        holdout=None if options.holdout == "none" else options.holdout,
    )
    study = _study_of(options.data)
    results["warnings"] += untuned(study) if study else []
    return results


def _fit(options: Any) -> int:
    import json

    from analysis.results import write

    study = _study_of(options.data)
    folder = options.out or study
    parts = _load(options)
    if options.json and len(parts) > 1:
        raise ValueError(f"--json prints one analysis, here are {len(parts)} ({', '.join(parts)}): choose with --where")
    for name, observations in parts.items():
        results = _analyse(observations, options)
        if folder is not None:
            (folder / name).mkdir(parents=True, exist_ok=True)
            write(results, folder / name / "results.json")
        if options.json:
            print(json.dumps(results))
            return 0
        _summarise(results, name)
        if folder is not None:
            print(f"results: {folder / name / 'results.json'}")
    _say_spending(study)
    return 0


def _predict(options: Any) -> int:
    import json

    from analysis.forecast import describe, predict
    from analysis.results import read
    from analysis.serving import describe_served, predict_served

    if options.loss is not None or options.serve is not None:
        if options.params is not None or options.tokens is not None:
            raise ValueError("--loss and --serve find params and tokens: leave out --params and --tokens")
        answer = predict_served(
            read(options.results), served=options.serve or 0.0, loss=options.loss, flops=options.flops
        )
        print(json.dumps(answer) if options.json else describe_served(answer))
        return 0
    prediction = predict(read(options.results), flops=options.flops, params=options.params, tokens=options.tokens)
    print(json.dumps(prediction) if options.json else describe(prediction))
    return 0


def _report(options: Any) -> int:
    from analysis.finetuning import holds_finetuned
    from analysis.report import write_report
    from analysis.report_families import write_families
    from analysis.results import read, write

    study = _study_of(options.data)
    given = Path(options.data[0])
    if len(options.data) == 1 and holds_finetuned(given):
        _show_transfer(given)
        return 0
    if len(options.data) == 1 and given.suffix == ".json":
        results = read(given)
        path = write_report(results, options.out or given.parent / "report")
        _summarise(results, "")
        print(f"report: {path}")
        return 0
    whole = options.out or (study or Path()) / "report"
    analysed, pages = {}, {}
    for name, observations in _load(options).items():
        results = _analyse(observations, options)
        out = whole / name
        folder = out if options.out or study is None else study / name
        folder.mkdir(parents=True, exist_ok=True)
        write(results, folder / "results.json")
        analysed[name], pages[name] = results, write_report(results, out)
        _summarise(results, name)
        print(f"report: {pages[name]}")
    if len(analysed) > 1:
        print(f"side by side: {write_families(analysed, pages, whole)}")
    _say_spending(study)
    return 0


def _import(options: Any) -> int:
    from scaling.hf.importing import import_checkpoint

    print(import_checkpoint(options.source, options.settings))
    return 0


def _finetune(options: Any) -> int:
    from scaling.finetune.command import run_finetune

    study, finished = run_finetune(options.source, options.settings)
    _show_transfer(study)
    return 0 if finished else 1


def _show_transfer(study: Path) -> None:
    """What fine-tuned runs tell: finetune.json and figures in their study, a table here."""
    from analysis.finetuning import summary, write_results

    results, written = write_results(study)
    print(summary(results))
    for path in written:
        print(f"written: {path}")


def _export(options: Any) -> int:
    from scaling.hf.export import export

    run_dir = options.run_dir.resolve()
    print(export(run_dir, options.out, options.cache or run_dir.parents[1] / "cache"))
    return 0


def _profile(options: Any) -> int:
    from scaling.profiling.study import parse_batches, profile

    batches = parse_batches(options.batches)
    refused = profile(options.path, batches, options.device, options.threads, options.cache, missing=options.missing)
    for why in refused:
        print(f"left out: {why}")
    return 0


def _check_transfer(options: Any) -> int:
    from rich.console import Console
    from rich.progress import track

    from analysis.plots import paper
    from analysis.plots.transfer import coordinate_check
    from analysis.transfer import Sample, slopes, table
    from scaling.render import print_rows
    from scaling.transfer import measurements

    count, measured = measurements(options.overrides, options.widths, options.depths, options.steps, options.seeds)
    samples = [
        Sample(found.cell.parametrization, found.cell.axis, part, name, found.cell.factor, value)
        for found in track(measured, "training", total=count, console=Console(stderr=True), transient=True)
        for part in ("size", "change")
        for name, value in getattr(found, part).items()
    ]
    found = slopes(samples)
    print_rows(table(found), Console())
    paper.save_png(coordinate_check(samples, options.steps), options.out)
    kind = found[-1].parametrization
    off = [slope for slope in found if slope.parametrization == kind and slope.verdict != "ok"]
    print(f"figure: {options.out}")
    verdict = f"{len(off)} of {sum(s.parametrization == kind for s in found)} are not" if off else "all are"
    print(f"{kind}: exponents of size, within 0.25 of what is expected {verdict}")
    return 1 if off else 0


def _summarise(results: dict[str, Any], name: str) -> None:
    from analysis.results import summary

    if name:
        print(f"== {name}: losses of different objectives or texts are never compared ==")
    print(summary(results))


def _say_spending(study: Path | None) -> None:
    from scaling.plan import spending

    if study is not None and (spent := spending(study)):
        print(spent)


def _study_of(data: Sequence[str]) -> Path | None:
    """The study's folder, when one study is all the data."""
    return Path(data[0]) if len(data) == 1 and (Path(data[0]) / "plan.jsonl").is_file() else None


if __name__ == "__main__":
    sys.exit(main())
