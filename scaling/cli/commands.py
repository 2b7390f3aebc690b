"""Subcommands of `scaling`; each imports its own modules, so that the others start fast."""

import gc
import json
from pathlib import Path
from typing import Any, cast

from scaling.cli.analyses import grades, print_grades, show_transfer
from scaling.cli.starting import with_starts

RUNS = Path("runs")  # folder of the studies that `status` looks for, as conf/config.yaml has it


def train(arguments: list[str]) -> int:
    """Hand the rest of the command line to Hydra."""
    from scaling.launch.task import run_app

    return run_app(with_starts(arguments))


def plan(options: Any) -> int:
    """Price a sweep."""
    from scaling.config.config import compose
    from scaling.config.grid import load_like, split_axes
    from scaling.launch.sweep import expand
    from scaling.machine.devices import device
    from scaling.plan.cost import cost_on, in_words
    from scaling.plan.degrees import elsewhere, with_devices, with_devices_of
    from scaling.plan.plan import make_plan
    from scaling.plan.seconds import wants_gpu
    from scaling.plan.tables import as_json, print_plan
    from scaling.plan.timeline import slots_of, timeline
    from scaling.plan.work import write_work
    from scaling.terminal import terminal

    fixed, axes = split_axes(with_starts(options.overrides))
    cfg = compose(fixed)
    on = None if options.on is None else device(options.on)
    runs = expand(cfg, fixed, axes, load_like)
    if on is None:
        runs = with_devices_of(cfg.hydra.launcher, runs)
    else:
        runs = with_devices(runs, elsewhere(options.on.lower(), options.count))
    plan = make_plan(runs, cfg.budget.total_flops, options.on and options.on.lower())
    cost, lines = None, []
    slots = slots_of(cfg.hydra.launcher, sum(run.devices_per_run for run in plan.missing), use_gpus=wants_gpu(runs[0]))
    if on is not None:
        specs = {run.spec.run_id: run.spec for run in runs}
        usd_per_hour = cfg.budget.usd_per_hour if options.usd_per_hour is None else options.usd_per_hour
        cost = cost_on(plan, specs, on, options.count, usd_per_hour)
        lines, slots = in_words(cost, on, usd_per_hour), options.count
    elif options.count != 1 or options.usd_per_hour is not None:
        raise ValueError("--count and --usd-per-hour price another machine: name it with --on, as --on h100")
    if options.write:
        write_work(plan.study_dir, runs, cfg.retries)
        plan.write()
    when = timeline(plan, slots)
    if options.json:
        print(json.dumps(as_json(plan, cfg.question, cost, when)))
    else:
        print_plan(plan, terminal(), cfg.question, lines, when)
    return 0


def tune(options: Any) -> int:
    """Search a sweep's learning rate and batch."""
    from scaling.analysis.figures import paper, tuning
    from scaling.analysis.figures.chart import Chart
    from scaling.analysis.schema.tuning import TuneResults
    from scaling.analysis.studies.tuning import judge
    from scaling.config.config import recipe_values
    from scaling.config.grid import split_axes
    from scaling.records.files import write_json
    from scaling.terminal import terminal
    from scaling.tune.recipe_file import command, write_recipe
    from scaling.tune.search import Judge, Search
    from scaling.tune.table import print_search

    fixed, axes = split_axes(with_starts(options.overrides))
    search = Search(fixed, axes, cast(Judge, judge), terminal(stderr=True))  # to it, cells and laws are plain mappings
    document = cast(TuneResults, search.run(options.flops, options.budgets))
    out = search.directory / "tune.json"
    write_json(out, document)
    print_search(document, terminal())
    print(f"search: {out}")
    if isinstance(chart := tuning.chart(document), Chart):
        print(f"figure: {paper.save(chart, out.with_suffix(''))[0]}")
    path = write_recipe(document, recipe_values(search.cfg))
    print(f"recipe: {path}\ntrain:  {command(path.stem, options.overrides)}")
    return 0


def worker(options: Any) -> int:
    """Train planned runs of a study; the exit codes are those of `launch/exit_codes.py`."""
    from scaling.launch.exit_codes import MISTAKE
    from scaling.launch.slurm import requeue
    from scaling.launch.worker import stop_at_eof, work

    for name, value in (("--max-runs", options.max_runs), ("--slots", options.slots)):
        if value is not None and value < 1:
            raise ValueError(f"{name} {value}: must be at least 1")
    if options.until_eof:
        stop_at_eof()
    study_dir = options.study.resolve()  # before the worker goes to the folder of the plan
    try:
        code = work(options.study, options.until, options.max_runs, options.slots, options.allow_other_code)
    except ValueError:
        if options.requeue:
            requeue(study_dir, MISTAKE)
        raise
    return requeue(study_dir, code) if options.requeue else code


def launch(options: Any) -> int:
    """Print workers of a study for a scheduler elsewhere."""
    import sys

    from scaling.config.config import compose
    from scaling.config.launcher import launcher_settings
    from scaling.launch.rendering import RENDERERS, Workers
    from scaling.launch.slurm_script import SlurmSettings
    from scaling.machine.nodes import check_nodes
    from scaling.plan.work import read_work
    from scaling.records.record import DIVERGED, DONE, readable_record
    from scaling.registry import choose

    if others := [one for one in options.settings if not one.startswith("hydra.launcher.")]:
        raise ValueError(f"{others[0]}: launch takes no setting but those of workers, hydra.launcher.NAME=VALUE")
    values = launcher_settings(compose(["hydra/launcher=slurm", *options.settings]))
    settings = SlurmSettings(**{name: value for name, value in values.items() if name not in ("_target_", "name")})
    work = read_work(options.study.resolve())
    check_nodes(work.fewest_nodes, settings.nodes, f"with hydra.launcher.nodes={settings.nodes}")
    ids = [line["run_id"] for line in work.lines]
    records = [readable_record(work.study_dir / run_id) for run_id in ids]
    left = sum(record is None or record.status not in (DONE, DIVERGED) for record in records)
    if not left:
        raise ValueError(f"{options.study}: every planned run is finished, so there is nothing to start")
    workers = Workers(
        study_dir=str(work.study_dir),
        study=work.study_dir.name,
        plan_id=work.plan_id,
        directory=str(work.directory),
        count=min(left, settings.array_parallel or left),
        python=options.python or (sys.executable if options.render == "sbatch" else "python"),
        image=options.image,
        storage=options.storage,
        gpu=options.gpu,
    )
    print(choose("--render", RENDERERS, options.render)(settings, workers), end="")
    return 0


def status(options: Any) -> int:
    """Show the runs of studies and their states."""
    from scaling.launch.slurm import queue_in_words
    from scaling.plan.status import as_json, only_study, print_status, study_status
    from scaling.terminal import terminal

    gc.disable()  # it would walk the records of thousands of runs again and again
    try:
        studies = [study_status(study) for study in options.studies or [only_study(RUNS)]]
    finally:
        gc.enable()
    if options.json:
        graded = [{"registered": grades(study.study_dir, options.against)} for study in studies]
        print(json.dumps({"studies": [as_json(study) | more for study, more in zip(studies, graded, strict=True)]}))
        return 0
    for study in studies:
        print_status(study, terminal())
        if line := queue_in_words(study.study_dir):
            print(line)
        print_grades(grades(study.study_dir, options.against))
    return 0


def bench(options: Any) -> int:
    """Time training steps on this machine."""
    from scaling.config.config import compose
    from scaling.config.launcher import launcher_settings
    from scaling.machine.speed import fit_speed, remember, speed
    from scaling.profiling.bench import (
        CASES,
        START_S,
        bench_launchers,
        device_here,
        device_name,
        print_timings,
        time_cases,
        time_matmul,
        ways_to_time,
    )
    from scaling.quantities import until
    from scaling.spec.run_spec import check_precision
    from scaling.terminal import terminal

    device, precision = device_here(), check_precision("--precision", options.precision)
    if not options.seconds > 0:
        raise ValueError(f"--seconds {options.seconds:g}: must be above 0")
    guess, _ = speed(options.cache, device, precision)
    alone, sweep = bench_launchers(launcher_settings(compose(options.overrides)), device)
    console = terminal(stderr=True)
    ways = len(ways_to_time(device, CASES[device], alone, sweep))
    console.print(f"{ways} timings: {until(ways * (options.seconds + START_S))}", soft_wrap=True)
    ceiling = time_matmul(device, precision, alone)
    timings = time_cases(
        device,
        precision,
        CASES[device],
        options.seconds,
        guess,
        alone,
        sweep,
        lambda t: console.print(f"{t.case.name}: {t.runs} at once, {t.tokens_per_s:,.0f} tokens/s"),
    )
    print_timings(timings, ceiling, precision, terminal())
    by_itself = [timing for timing in timings if timing.stacked == 1]
    side_by_side = max(timing.runs for timing in by_itself)
    fitted = fit_speed([timing.sample for timing in by_itself if timing.runs == side_by_side])
    if (known := device_name()) is not None:  # plans for such a device elsewhere (`plan --on`) reckon so too
        remember(options.cache, known, precision, fitted)
    print(
        f"a step of one run: {fitted.step_s * 1e3:.2f} ms + {fitted.layer_s * 1e3:.2f} ms a layer "
        f"+ its FLOPs at {fitted.flops_per_s:.3g} FLOP/s; plans with this cache reckon so: "
        f"{remember(options.cache, device, precision, fitted)}"
    )
    return 0


def import_run(options: Any) -> int:
    """Make a published checkpoint a run."""
    from scaling.hf.importing import import_checkpoint

    print(import_checkpoint(options.source, options.settings))
    return 0


def finetune(options: Any) -> int:
    """Fine-tune runs."""
    from scaling.finetune.command import run_finetune

    study, finished = run_finetune(options.source, options.settings)
    show_transfer(study)
    return 0 if finished else 1


def export(options: Any) -> int:
    """Write a run for Hugging Face."""
    from scaling.hf.export import export

    run_dir = options.run_dir.resolve()
    print(export(run_dir, options.out, options.cache or run_dir.parents[1] / "cache", options.model_type))
    return 0


def profile(options: Any) -> int:
    """Measure the cost of serving runs."""
    from scaling.profiling.study import parse_batches, profile

    batches = parse_batches(options.batches)
    refused = profile(options.path, batches, options.device, options.threads, options.cache, missing=options.missing)
    for why in refused:
        print(f"left out: {why}")
    return 0


def check_transfer(options: Any) -> int:
    """Check a parametrization; return 1 where an exponent is off."""
    from rich.progress import track

    from scaling.analysis.figures import paper
    from scaling.analysis.figures.coordinate_check import coordinate_check
    from scaling.analysis.studies.coordinate_check import Sample, slopes, table
    from scaling.plan.columns import print_rows
    from scaling.terminal import terminal
    from scaling.tune.coordinate_check import measurements

    count, measured = measurements(options.overrides, options.widths, options.depths, options.steps, options.seeds)
    samples = [
        Sample(model.cell.parametrization, model.cell.axis, part, name, model.cell.factor, value)
        for model in track(measured, "training", total=count, console=terminal(stderr=True), transient=True)
        for part in ("size", "change")
        for name, value in getattr(model, part).items()
    ]
    fitted = slopes(samples)
    print_rows(table(fitted), terminal())
    paper.save_png(coordinate_check(samples, options.steps), options.out)
    kind = fitted[-1].parametrization
    off = [slope for slope in fitted if slope.parametrization == kind and slope.verdict != "ok"]
    print(f"figure: {options.out}")
    verdict = f"{len(off)} of {sum(s.parametrization == kind for s in fitted)} are not" if off else "all are"
    print(f"{kind}: exponents of size, within 0.25 of what is expected {verdict}")
    return 1 if off else 0
