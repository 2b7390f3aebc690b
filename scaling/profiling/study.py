"""Profiles of a run or of all runs of a study, and their table."""

import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

from scaling.machine import hardware
from scaling.machine.speed import layers, speed
from scaling.plan.columns import wide
from scaling.profiling.measure import estimated_s, forward_flops, profile_run
from scaling.quantities import short, until, with_unit
from scaling.records.record import DONE, read_profile, read_record, readable_record, run_dirs
from scaling.spec.run_spec import from_dict
from scaling.terminal import terminal


def parse_batches(text: str) -> list[int]:
    """Batch sizes from a text such as 1,4,16; ValueError for anything but whole numbers from 1 on."""
    try:
        batches = [int(part) for part in text.split(",")]
    except ValueError:
        batches = [0]
    if min(batches) < 1:
        raise ValueError(f"--batches {text!r}: give whole numbers from 1 on with commas between, such as 1,4,16")
    return batches


def profile(
    path: Path, batches: Sequence[int], device: str, threads: int | None, cache_dir: Path | None, *, missing: bool
) -> list[str]:
    """Profile a run, or every run of a study (with `missing`, runs without a profile); return why runs were left out.

    Raises ValueError for a path that is neither, and where no run can be profiled.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"--threads {threads}: at least 1")
    choices = ("auto", "cpu", "cuda")
    if device not in choices:
        raise ValueError(f"--device {device!r}: choose from {', '.join(choices)}")
    single = (path / "spec.json").is_file()
    runs = [path] if single else run_dirs(path)
    if not runs:
        raise ValueError(f"{path} holds no runs, nor is it one; give runs/STUDY or runs/STUDY/RUN_ID")
    if missing:
        runs = [run for run in runs if read_profile(run) is None]
    seconds = _use_threads(runs, batches, device, threads, cache_dir)
    profiles: list[dict[str, Any]] = []
    profiled: list[Path] = []
    refused: list[str] = []
    meter = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} runs"),
        console=terminal(stderr=True),
        disable=not sys.stderr.isatty(),
    )
    taken = 0.0
    with meter:
        task = meter.add_task("", total=len(runs))
        for run in runs:
            try:
                announced = f"{len(runs)} runs to profile: {until(seconds)}" if not profiles else ""
                show = partial(_show, meter, task, run.name, [announced])
                begun = time.perf_counter()
                profiles.append(profile_run(run, batches, device, _cache(run, cache_dir), show))
                taken += time.perf_counter() - begun
                profiled.append(run)
                left = len(runs) - len(profiled) - len(refused)
                more = f"; {left} left: {until(left * taken / len(profiled))}" if left else ""
                meter.console.print(f"{run.name} profiled{more}", soft_wrap=True)
            except ValueError as error:
                if single:
                    raise
                refused.append(str(error))
            meter.advance(task)
    if refused and not profiles:
        raise ValueError(f"no run of {path} can be profiled (first: {refused[0]})")
    if profiles:
        print_profiles(profiles, [read_record(run) for run in profiled], terminal())
    return refused


def _cache(run: Path, cache_dir: Path | None) -> Path:
    return cache_dir or run.resolve().parents[1] / "cache"


def _use_threads(
    runs: Sequence[Path], batches: Sequence[int], device: str, threads: int | None, cache_dir: Path | None
) -> float:
    """Use the threads asked for, or those of the largest model for all runs; return the profiles' estimated seconds."""
    records = {run: record for run in runs if (record := readable_record(run)) is not None and record.status == DONE}
    specs = {run: from_dict(record.spec) for run, record in records.items()}
    seconds = 0.0
    for run, spec in specs.items():
        chosen = hardware.pick_device(device, spec.recipe.precision)
        seconds += estimated_s(
            spec, {1, *batches}, speed(_cache(run, cache_dir), chosen.type, spec.recipe.precision)[0]
        )
    if specs:
        largest = max(specs.values(), key=forward_flops)
        hardware.use_threads(threads, chosen, forward_flops(largest), layers(largest))
    return seconds


def _show(meter: Progress, task: TaskID, run: str, announced: list[str], words: str) -> None:
    """Show the current measurement, behind the announcement, which is made once."""
    if announced and (text := announced.pop()):
        meter.console.print(text, soft_wrap=True)
    meter.update(task, description=f"{run} {words}")


def print_profiles(profiles: Sequence[dict[str, Any]], records: Sequence[Any], console: Console) -> None:
    """Print a table of profiles, and the meaning of its columns in words."""
    losses = {record.run_id: record.val_loss_nats for record in records if record is not None}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    most = profiles[0]["batches"][-1]["batch"]
    for name in (
        "run",
        "loss",
        "prefill",
        "a token",
        "tokens/s",
        f"at {most}",
        "memory",
        "fp32",
        "bf16",
        "int8",
        "int8 loss",
    ):
        table.add_column(name, justify="left" if name == "run" else "right", no_wrap=True)
    for measured in sorted(profiles, key=lambda measured: losses[measured["run_id"]]):
        token, storage, rows = measured["generation"], measured["storage"], measured["batches"]
        which = "generated_tokens_per_s" if token else "prefill_tokens_per_s"
        full, small = storage["fp32"]["loss_nats"], storage["int8"]["loss_nats"]
        table.add_row(
            measured["run_id"],
            f"{losses[measured['run_id']]:.4f}",
            _seconds(measured["prefill"]),
            _seconds(token) if token else "-",
            short(rows[0][which]),
            short(rows[-1][which]),
            with_unit(rows[0]["peak_memory_bytes"], "B"),
            *(with_unit(storage[name]["bytes"], "B") for name in ("fp32", "bf16", "int8")),
            "-" if full is None else f"{small - full:+.1e}",
        )
    wide(console).print(table)
    first = profiles[0]
    machine = first["hardware"]
    for words in (
        f"on {machine['name']} ({machine['device']}, {machine['threads']} threads), weights in {first['precision']}",
        f"prefill: {first['prefill']['words']}",
        f"a token: {first['generation']['words'] if first['generation'] else first['no_generation']}",
        f"memory at batch 1: {first['memory_words']}",
        f"losses by format: {first['no_loss'] or 'validation set, computed in float32'}",
    ):
        console.print(words, style="dim", soft_wrap=True)


def _seconds(timing: dict[str, Any]) -> str:
    """The median ± half the distance between the quartiles, in milliseconds."""
    low, high = timing["quartiles_s"]
    return f"{1e3 * timing['median_s']:.3g} ± {1e3 * (high - low) / 2:.1g} ms"
