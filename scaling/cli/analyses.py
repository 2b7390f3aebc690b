"""Subcommands that analyse runs: fit, predict, next and report; each imports its own modules."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scaling.analysis.schema.document import Results
    from scaling.analysis.schema.forecast import Given, Prediction
    from scaling.analysis.schema.registered import GradesSection

COUNTS: "dict[str, Given]" = {"flops": "flops", "params": "params", "tokens": "tokens"}  # that a target may state
DESIGN_LAWS = ("chinchilla", "gamma", "power_mean")  # of `next`; a run decides where their forecasts differ


def _analyse(options: Any) -> dict[str, "Results"]:
    """Results of every part by name, "" for a single part; the parts, and why they are apart, are printed."""
    from scaling.analysis.fitting.fit import Loss
    from scaling.analysis.results.parts import analyse_parts
    from scaling.analysis.runs.comparable import parts_of
    from scaling.analysis.runs.observations import load
    from scaling.cli.laws import named_values, of_laws, parameter_bounds
    from scaling.plan.plan_file import doubts

    laws = tuple(options.law or ())
    observations = load(options.data, curves=True, **(_choices(options) | of_laws(laws, options)))
    names = [name for group in parts_of(observations, options.by) for name in group]
    if getattr(options, "json", False) and len(names) > 1:
        raise ValueError(f"--json prints one analysis, here are {len(names)} ({', '.join(names)}): choose with --where")
    analysed, lines = analyse_parts(
        observations,
        by=options.by,
        laws=laws or None,
        fix=named_values("--fix", options.fix, "E=1.69"),
        bounds=parameter_bounds(options.bounds),
        loss=Loss(options.loss, options.delta, options.on),
        bootstrap=options.bootstrap,
        seed=options.seed,
        holdout=None if options.holdout == "none" else options.holdout,
        errors=options.errors,
        minimum=options.minimum,
    )
    study = _study_of(options.data)
    for name, results in analysed.items():
        results["warnings"] += doubts(study) if study else []
        results["registered"] = grades(study, options.against, name) if study else None
    for line in lines:
        print(line)
    return analysed


def _choices(options: Any) -> dict[str, Any]:
    """The reader's choices by the fields of `Choices`, which the options are named after."""
    from dataclasses import fields

    from scaling.analysis.runs.choices import Choices

    given = {one.name: getattr(options, one.name) for one in fields(Choices) if hasattr(options, one.name)}
    wrong = [text for text in options.rename if not all(text.partition("="))]
    if wrong:
        raise ValueError(f"--rename {wrong[0]!r} is not OLD=NEW, a column's name and its new one")
    return given | {"rename": dict(text.split("=", 1) for text in options.rename)}


def fit(options: Any) -> int:
    """Fit laws."""
    from scaling.analysis.results.parts import write_parts

    if _fit_minima(options):
        return 0
    study = _study_of(options.data)
    folder = options.out or study
    analysed = _analyse(options)
    written = write_parts(analysed, folder) if folder is not None else {}
    if options.json:
        print(json.dumps(analysed[""]))
        return 0
    for name, results in analysed.items():
        _summarise(results, name)
        print_grades(results["registered"])
        if name in written:
            print(f"results: {written[name]}")
    _print_comparisons(analysed)
    _print_spending(study)
    return 0


def _fit_minima(options: Any) -> bool:
    """Whether the data are a table of minima with errors, whose line is then printed."""
    from scaling.analysis.isoflop.minima_table import describe_line, fit_line, read_minima
    from scaling.analysis.judgement.holdout import LEVEL

    if len(options.data) != 1:
        return False
    table = read_minima(Path(options.data[0]), rename=_choices(options)["rename"], where=options.where)
    if table is None:
        return False
    line = fit_line(table, LEVEL)
    print(json.dumps(line) if options.json else describe_line(line))
    return True


def predict(options: Any) -> int:
    """Predict losses and allocations from results."""
    from scaling.analysis.judgement.forecast import describe, members_in_words, predict
    from scaling.analysis.judgement.own_columns import describe_columns, predict_columns
    from scaling.analysis.judgement.serving import describe_served, predict_served
    from scaling.analysis.results.document import read
    from scaling.analysis.results.parts import FILE, results_files
    from scaling.cli.laws import named_values
    from scaling.cli.whole_curves import predict_run

    if options.of_run is not None:
        return predict_run(options)
    if options.results is None:
        raise ValueError("give a results.json or the study that holds it, or a run in progress with --run RUN")
    backwards = options.loss is not None or options.serve is not None
    if backwards and options.register:
        raise ValueError("--register takes a target that can be trained: --flops, or --params with --tokens or --flops")
    if options.against and not options.register:
        raise ValueError("--against names studies where the target of --register may have been trained: add --register")
    if backwards and (options.params is not None or options.tokens is not None):
        raise ValueError("--loss and --serve find params and tokens: leave out --params and --tokens")
    at = named_values("--at", options.at, "P=1e9")
    counts = (options.flops, options.params, options.tokens, options.loss, options.serve)
    if at and any(one is not None for one in counts):
        raise ValueError("--at gives every variable of a law, N and D among them: leave the other options out")
    if at and options.register:
        raise ValueError("--register takes --flops, or --params with --tokens or --flops: leave --at out")
    files = results_files(options.results / FILE if options.results.is_dir() else options.results)
    if options.json and len(files) > 1:
        raise ValueError(f"--json prints one answer: choose from {', '.join(map(str, files.values()))}")
    for name, path in files.items():
        results = read(path)
        if at:
            found = predict_columns(results, at)
            answer, words = json.dumps(found), "\n".join(map(describe_columns, found))
        elif backwards:
            served = predict_served(results, served=options.serve or 0.0, loss=options.loss, flops=options.flops)
            answer, words = json.dumps(served), describe_served(served)
        else:
            predicted = predict(results, flops=options.flops, params=options.params, tokens=options.tokens)
            answer = json.dumps(predicted)
            words = "\n  ".join([describe(predicted), *members_in_words(predicted)])
        print(answer if options.json else f"{name}: {words}" if name else words)
        if options.register:
            _register(results, predicted, path, options)
    return 0


def _register(results: "Results", prediction: "Prediction", results_file: Path, options: Any) -> None:
    """Register a prediction in the study that the results are of, or beside the results of no study."""
    import sys

    from scaling import __version__
    from scaling.analysis.design.registration import register
    from scaling.machine.checkout import git_commit

    source = Path(results["source"][0])
    of_study = source.is_dir() and results_file.absolute().is_relative_to(source.absolute())
    path, new = register(
        results,
        prediction,
        results_file,
        source if of_study and len(results["source"]) == 1 else results_file.parent,
        code={"version": __version__, "commit": git_commit()},
        against=options.against,
    )
    said = f"registered: {path}" if new else f"registered already, nothing was written: {path}"
    print(said, file=sys.stderr if options.json else sys.stdout)


def next_runs(options: Any) -> int:
    """Propose the runs to buy."""
    from scaling.analysis.design.proposal import lines, propose
    from scaling.analysis.runs.observations import load
    from scaling.cli import next_price
    from scaling.config.presets import presets
    from scaling.config.proposed_sweep import write_sweep

    observations = load(options.data, params=options.params)
    flops = observations.column("flops")
    target = _target(options.target or [f"flops={10 * flops.max():g}"])
    on = next_price.asked_device(options)
    seconds = None if on is None else next_price.seconds_of(observations, options)
    price_of = None if seconds is None else next_price.price_of(seconds, options)
    laws = options.law or DESIGN_LAWS
    found = propose(observations, target, options.budget, width=options.width, laws=laws, price_of=price_of)
    if on is not None and seconds is not None:
        found["machine"] = next_price.machine_price(found, options, on, seconds)
    if options.json:
        print(json.dumps(found))
        return 0
    for line in lines(found):
        print(line)
    if "machine" in found:
        print(next_price.in_words(found["machine"]))
    study = Path(options.data).name
    base = options.sweep or (study if study in presets("sweep") else None)
    runs = found["runs"]
    if not runs or not all(one["shape"] for one in runs):
        return 0
    if base is None:
        print("no sweep is written: name the one that trained these runs with --sweep NAME")
        return 0
    path = write_sweep(f"{study}-next", base, study, runs, f"Which runs sharpen the forecast of {study}?")
    print(f"sweep: {path}\nprice: scaling plan +sweep={path.stem}\ntrain: scaling train +sweep={path.stem} -m")
    return 0


def _target(parts: Sequence[str]) -> "dict[Given, float]":
    """The target of NAME=VALUE parts; ValueError for another name, or no number."""
    from scaling.cli.laws import named_values
    from scaling.registry import choose

    found = named_values("--target", parts, "flops=1e15")
    return {choose("target", COUNTS, name): value for name, value in found.items()}


def report(options: Any) -> int:
    """Draw and write a report."""
    from scaling.analysis.figures.pages import page
    from scaling.analysis.report.families import write_families
    from scaling.analysis.report.page import write_report
    from scaling.analysis.results.document import read
    from scaling.analysis.results.parts import write_parts
    from scaling.analysis.runs.files import is_results
    from scaling.analysis.studies.finetuning import holds_finetuned
    from scaling.cli.mirrored_analysis import SETTING, AnalysisTrackers
    from scaling.machine.threads import most_cores

    before = [part for part in options.data if part.startswith(SETTING)]  # argparse keeps others apart, behind options
    options.data = [part for part in options.data if part not in before]
    settings = [*before, *options.overrides]
    study = _study_of(options.data)
    trackers = AnalysisTrackers(options.tracker, settings, (study or Path("runs/any")).parent)
    on = page(options.width, options.font)
    given = Path(options.data[0])
    if len(options.data) == 1 and holds_finetuned(given):
        show_transfer(given)
        return 0
    if len(options.data) == 1 and given.suffix == ".json" and (not given.is_file() or is_results(given)):
        results = read(given)
        path = write_report(results, options.out or given.parent / "report", on, most_cores())
        _summarise(results, "")
        print(f"report: {path}")
        trackers.mirror("", results, given, path)
        return 0
    whole = options.out or (study or Path()) / "report"
    analysed = _analyse(options)
    written = write_parts(analysed, whole if options.out or study is None else study)
    pages = {}
    for name, results in analysed.items():
        pages[name] = write_report(results, whole / name, on, most_cores())
        _summarise(results, name)
        print_grades(results["registered"])
        print(f"report: {pages[name]}")
        trackers.mirror(name, results, written[name], pages[name])
    _print_comparisons(analysed)
    if len(analysed) > 1:
        print(f"side by side: {write_families(analysed, pages, whole)}")
    _print_spending(study)
    return 0


def show_transfer(study: Path) -> None:
    """Write finetune.json and the figures of fine-tuned runs into their study, and print their table."""
    from scaling.analysis.report.finetuning import summary, write_results

    results, written = write_results(study)
    print(summary(results))
    for path in written:
        print(f"written: {path}")


def grades(folder: Path, against: Sequence[Path], part: str | None = None) -> "GradesSection | None":
    """The grades of the forecasts registered in a folder; the analysis is imported only where there are some."""
    if not (folder / "predictions").is_dir():
        return None
    from scaling.analysis.design.grading import grades_section

    return grades_section(folder, against, part)


def print_grades(section: "GradesSection | None") -> None:
    if section is None:
        return
    from scaling.analysis.design.grading import grade_lines

    for line in grade_lines(section):
        print(line)


def _summarise(results: "Results", name: str) -> None:
    from scaling.analysis.results.document import summary

    if name:
        print(f"== {name} ==")
    print(summary(results))


def _print_comparisons(analysed: dict[str, "Results"]) -> None:
    from scaling.analysis.results.parts import compared

    for _, comparison in compared(analysed):
        for pair in comparison["pairs"]:
            print(pair["verdict"])


def _print_spending(study: Path | None) -> None:
    from scaling.plan.plan_file import spending

    if study is not None and (spent := spending(study)):
        print(spent)


def _study_of(data: Sequence[str]) -> Path | None:
    """The folder of the study that is all the data, or None."""
    from scaling.plan.plan_file import FILE

    return Path(data[0]) if len(data) == 1 and (Path(data[0]) / FILE).is_file() else None
