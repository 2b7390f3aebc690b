"""The benchmark of this machine's training steps: one run on all cores, a run on every slot of a sweep, and stacks.

The training loop itself is timed, on random tokens and by its own metric rows, without validation and start-up.
"""

import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from scaling.config.config import compose, to_run
from scaling.launch.jobs import Channel, Job, Target
from scaling.launch.launchers import Launcher, make_launcher
from scaling.machine.devices import known_device
from scaling.machine.slots import Slot, gpu_ids
from scaling.machine.speed import Speed, layers
from scaling.plan.columns import wide
from scaling.plan.run import Run
from scaling.plan.stacks import CPU_BATCH_TOKENS
from scaling.quantities import short, with_unit
from scaling.records.attempt import PREEMPTED
from scaling.records.record import DONE, read_metrics, read_record
from scaling.shapes.flops import train_flops_per_sequence

WARM_SHARE = 0.3  # share of a run's metric rows left out: memory is taken and caches fill in the first rows
ROWS = 10
START_S = 2.0  # seconds for the processes of a timing to start and end, measured on two cores
VOCABULARY = 64
STACKS = (2, 4)  # runs of a stack, for cases that may gain from stacking
STACKED_WIDTH = 256  # on a GPU, models up to this width leave most of it idle


@dataclass(frozen=True)
class Case:
    """A case of the benchmark: a GPT-2-shaped model and its batch."""

    n_layers: int
    d_model: int
    n_heads: int
    context: int
    batch_sequences: int
    vocab_size: int = VOCABULARY

    @property
    def name(self) -> str:
        return f"{self.n_layers}x{self.d_model}/{self.n_heads}, {self.batch_sequences} x {self.context} tokens"

    @property
    def batch_tokens(self) -> int:
        return self.context * self.batch_sequences


CASES = {
    "cpu": (
        Case(2, 32, 2, 64, 2),
        Case(2, 16, 2, 64, 16),
        Case(2, 32, 2, 64, 16),
        Case(8, 32, 2, 64, 16),
        Case(2, 64, 4, 128, 16),
        Case(4, 128, 4, 128, 16),
        Case(6, 256, 8, 256, 16),
    ),
    "cuda": (
        Case(4, 256, 4, 1024, 64, 50304),
        Case(12, 768, 12, 1024, 32, 50304),
        Case(24, 1024, 16, 2048, 16, 50304),
        Case(24, 2048, 16, 2048, 8, 50304),
    ),
}


@dataclass(frozen=True)
class Timing:
    """The measured speed of a case."""

    case: Case
    runs: int  # runs at once
    stacked: int  # runs per slot
    threads: int  # CPU threads of a run
    tokens_per_s: float  # all runs together
    flops_per_s: float  # exact training FLOPs, all runs together
    layers: int

    @property
    def step_s(self) -> float:
        """Slot seconds for one step of one run."""
        return self.runs / self.stacked * self.case.batch_tokens / self.tokens_per_s

    @property
    def sample(self) -> tuple[int, float, float]:
        """A sample for `fit_speed`: layers, exact FLOPs of a step, seconds of a step."""
        slots = self.runs / self.stacked
        return self.layers, self.flops_per_s * self.step_s / slots, self.step_s


def time_case(case: Case, precision: str, launcher: Launcher, seconds: float, guess: Speed, stacked: int = 1) -> Timing:
    """Train runs of the case on every slot at once, for about `seconds` seconds; RuntimeError where one fails."""
    with tempfile.TemporaryDirectory() as folder:
        stacks = [
            [
                _run(case, precision, Path(folder), slot, number * stacked + seed, seconds / stacked, guess)
                for seed in range(stacked)
            ]
            for number, slot in enumerate(launcher.slots)
        ]
        _run_all(launcher, [Job(case.name, stack) for stack in stacks], _train, Path(folder))
        # The rate of a stacked run counts only its share of the slot's time, so that the mean is the slot's rate.
        rates = [statistics.mean(map(_tokens_per_s, stack)) for stack in stacks]
        record = read_record(stacks[0][0].directory)
    assert record is not None
    spec = stacks[0][0].spec
    flops_per_token = train_flops_per_sequence(spec.model) / spec.model.sequence_tokens
    return Timing(
        case=case,
        runs=stacked * len(launcher.slots),
        stacked=stacked,
        threads=record.hardware["threads"],
        tokens_per_s=sum(rates),
        flops_per_s=sum(rates) * flops_per_token,
        layers=layers(spec),
    )


def time_matmul(device: str, precision: str, launcher: Launcher) -> float:
    """FLOP/s of a large matmul on one slot, all cores or one GPU, which no training step exceeds."""
    job = Job("matmul", (device, precision, launcher.slots[0].threads))
    with tempfile.TemporaryDirectory() as folder:
        _run_all(launcher, [job], _matmul, Path(folder))
    flops_per_s: float = job.result
    return flops_per_s


def _run_all(launcher: Launcher, jobs: Sequence[Job], target: Target, folder: Path) -> None:
    """Run jobs without a table; RuntimeError where one fails, KeyboardInterrupt where one was asked to stop."""
    launcher.run(jobs, target, folder, (), lambda: None)
    for job in jobs:
        if job.status == PREEMPTED:
            raise KeyboardInterrupt
        if job.status != DONE:
            raise RuntimeError(f"{job.label}: {job.status}, {job.why}")


def bench_launchers(settings: Mapping[str, Any], device: str) -> tuple[Launcher, Launcher]:
    """Launchers of these settings: with the whole machine for one run, and with the slots of a sweep."""
    single = {"slots": 1} if "slots" in settings else {}
    return make_launcher({**settings, **single}, device == "cuda"), make_launcher(settings, device == "cuda")


def time_cases(
    device: str,
    precision: str,
    cases: Sequence[Case],
    seconds: float,
    guess: Speed,
    alone: Launcher,
    sweep: Launcher,
    show: Callable[[Timing], None],
) -> list[Timing]:
    """Time every case: one run on the whole machine, a run on every slot of a sweep, and stacks of small models."""
    timings = []
    for case, launcher, stacked in ways_to_time(device, cases, alone, sweep):
        timings.append(time_case(case, precision, launcher, seconds, guess, stacked))
        show(timings[-1])
    return timings


def ways_to_time(
    device: str, cases: Sequence[Case], alone: Launcher, sweep: Launcher
) -> list[tuple[Case, Launcher, int]]:
    """Every timing to make: a case, its launcher, and the runs of a stack."""
    timed = []
    for case in cases:
        small = case.d_model <= STACKED_WIDTH if device == "cuda" else case.batch_tokens <= CPU_BATCH_TOKENS
        ways = [(alone, 1), *([(sweep, 1)] if len(sweep.slots) > 1 else [])]
        ways += [(sweep, many) for many in STACKS if small]
        timed += [(case, launcher, stacked) for launcher, stacked in ways]
    return timed


def print_timings(timings: Sequence[Timing], ceiling_flops_per_s: float, precision: str, console: Console) -> None:
    """Print the speed of training steps, one line per timing."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("layers x width / heads, batch")
    names = ("runs at once", "a slot", "threads", "tokens/s", "step", "FLOP/s", "of the ceiling", "against alone")
    for name in names:
        table.add_column(name, justify="right")
    alone = {timing.case: timing.tokens_per_s for timing in timings if timing.runs == 1}
    for timing in timings:
        table.add_row(
            timing.case.name,
            str(timing.runs),
            str(timing.stacked),
            str(timing.threads),
            short(timing.tokens_per_s),
            f"{timing.step_s * 1e3:.3g} ms",
            with_unit(timing.flops_per_s, ""),
            f"{timing.flops_per_s / ceiling_flops_per_s:.0%}",
            "" if timing.runs == 1 else f"{timing.tokens_per_s / alone[timing.case]:.2f}x",
        )
    wide(console).print(table)
    console.print(
        f"ceiling: {with_unit(ceiling_flops_per_s, 'FLOP/s')}, a large {precision} matmul on the whole machine, or one "
        "GPU",
        style="dim",
        soft_wrap=True,
    )


def _run(case: Case, precision: str, folder: Path, slot: Slot, seed: int, seconds: float, guess: Speed) -> Run:
    def with_steps(steps: int) -> Run:
        return to_run(
            compose(
                [
                    "model=gpt2",
                    f"model.n_layers={case.n_layers}",
                    f"model.d_model={case.d_model}",
                    f"model.n_heads={case.n_heads}",
                    f"model.context={case.context}",
                    "model.bias=false",
                    "data=synthetic",
                    f"data.vocab_size={VOCABULARY}",
                    f"model.vocab_size={case.vocab_size}",
                    "data.source.order=1",
                    "data.source.tokens=1000000",
                    f"recipe.batch_tokens={{value: {case.batch_tokens}, params: 0, tokens: 0, flops: 0}}",
                    f"recipe.precision={precision}",
                    f"recipe.compile={str(bool(slot.environment['CUDA_VISIBLE_DEVICES'])).lower()}",
                    "budget.flops=null",
                    f"budget.tokens={steps * case.batch_tokens}",
                    f"val_tokens={case.batch_tokens}",
                    f"runs_dir={folder}",
                    f"runtime.threads={'null' if slot.asked_threads is None else slot.threads}",
                    f"runtime.log_points={ROWS}",
                    "runtime.eval_fractions=[]",
                    "runtime.progress=false",
                    f"seed={seed}",
                ]
            )
        )

    step_flops = train_flops_per_sequence(with_steps(1).spec.model) * case.batch_sequences
    expected = guess.step(case.n_layers, step_flops)
    return with_steps(max(2 * ROWS, round(seconds / expected)))


def _train(runs: Sequence[Run], channel: Channel) -> None:
    from scaling.records.life import Reporter
    from scaling.train.lockstep import train_stack

    for outcome in train_stack(runs, [Reporter() for _ in runs]):
        if isinstance(outcome, BaseException):
            raise outcome


def _matmul(payload: tuple[str, str, int], channel: Channel) -> float:
    import torch

    from scaling.machine.hardware import matmul_flops

    device, precision, threads = payload
    torch.set_num_threads(threads)
    return matmul_flops(torch.device(device), precision)


def _tokens_per_s(run: Run) -> float:
    rows = read_metrics(run.directory)
    speeds: list[float] = [row["tokens_per_s"] for row in rows[round(WARM_SHARE * len(rows)) :]]
    return statistics.median(speeds)


def device_name() -> str | None:
    """The name in `machine/devices.py` of this machine's GPU; None without a GPU, or for an unknown one."""
    if not gpu_ids() or shutil.which("nvidia-smi") is None:
        return None
    asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    names = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.splitlines()
    return known_device(names[0]) if names else None


def device_here() -> str:
    """The default device of runs: "cuda" with a GPU, "cpu" without."""
    return "cuda" if gpu_ids() else "cpu"
