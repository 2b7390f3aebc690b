"""Stages of `gpu_speed.py`: each yields rows of facts and timings, as soon as it has them."""

import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from scaling.data.chunks import TrainingChunks
from scaling.machine import hardware
from scaling.machine.checkout import git_commit
from scaling.model import build
from scaling.objectives.fused_loss import is_fused
from scaling.objectives.objectives import training_batch
from scaling.profiling.bench import Case
from scaling.profiling.timing import time_call
from scaling.records.attempt import Attempt
from scaling.shapes.flops import train_flops_per_step
from scaling.spec.memory import step_bytes
from scaling.spec.run_spec import RunSpec
from scaling.train import checkpoint
from scaling.train.checkpoint_writer import Writer
from scaling.train.cuda_graph import CudaGraph
from scaling.train.flat_parameters import clip_
from scaling.train.stacked_step import Stack, StepRequest
from scaling.train.step import Stepper
from tests.benchmarks import gpu_parts
from tests.benchmarks.nanogpt import training_step
from tests.examples import SPEC
from tests.gpu.ways import SMALL, WAYS, Way, losses

Row = dict[str, Any]
WARM_STEPS = 6  # of which a recording takes four
BLOCK = 10  # steps between two waits
BF16, FP32 = 1e-2, 1e-4  # relative differences of losses that rounding may make
TOP = 25  # kernels of a profile


@dataclass(frozen=True)
class Bench:
    """The device, folder and time box of a stage."""

    device_type: str  # "cuda", or "cpu" for small sizes
    out: Path
    peer: Path | None
    until: float  # of time.monotonic

    @property
    def device(self) -> torch.device:
        return torch.device(self.device_type)

    @property
    def full(self) -> bool:
        return self.device_type == "cuda"

    def share(self, parts: int) -> float:
        """Seconds for each of the parts that are left; none at small sizes, which are timed once."""
        return max(0.0, self.until - time.monotonic()) / parts if self.full else 0.0


@dataclass(frozen=True)
class Stage:
    """A stage, and its share of the time."""

    share: float
    run: Callable[[Bench], Iterator[Row]]


def spec_of(bench: Bench, case: Case, *, compiled: bool = False, precision: str = "bf16") -> RunSpec:
    """A GPT-2-shaped run of a case; the CPU takes the smallest sizes."""
    if not bench.full:
        case = Case(2, 16, 2, 16, 4, 96)
    shape = replace(
        SPEC.model,
        n_layers=case.n_layers,
        d_model=case.d_model,
        n_heads=case.n_heads,
        n_kv_heads=case.n_heads,
        d_ff=4 * case.d_model,
        context=case.context,
        vocab_size=case.vocab_size,
        bias=False,
    )
    recipe = replace(SPEC.recipe, batch_sequences=case.batch_sequences, precision=precision, compile=compiled)
    return replace(SPEC, model=shape, recipe=recipe)


class Training:
    """A run's steps as its training takes them: data in, and neither validation nor a checkpoint out."""

    def __init__(self, bench: Bench, spec: RunSpec, *, graphed: bool = False, models: int = 1) -> None:
        self.spec, self.device, self.models = spec, bench.device, models
        new_graph = CudaGraph if graphed and bench.full else None
        self.steppers = [
            Stepper(
                build(spec.model, seed).to(bench.device),
                spec.recipe,
                spec.recipe.batch_sequences,
                bench.device,
                new_graph,
            )
            for seed in range(models)
        ]
        self._stack = Stack(self.steppers) if models > 1 else None
        tokens = np.random.default_rng(0).integers(spec.model.vocab_size, size=1_000_000).astype(np.uint16)
        self._chunks = TrainingChunks(tokens, spec.lengths.text, spec.recipe.batch_sequences, 0)
        self._step = 0

    def take(self, measure_noise: bool = False) -> None:
        """Take the next step of every model, without waiting for the device."""
        batch = training_batch(self.spec, self._chunks.batch(self._step), self._step, None)
        self._step += 1
        if self._stack is None:
            self.steppers[0].take(batch, 1.0, measure_noise=measure_noise)
        else:
            self._stack.take([StepRequest(s, batch, 1.0, measure_noise, due=False) for s in self.steppers])

    def block(self) -> tuple[float, float]:
        """Seconds of a step in a block of steps, and those that the host took of it."""
        started = time.perf_counter()
        for _ in range(BLOCK):
            self.take()
        issued = time.perf_counter()
        hardware.synchronize(self.device)
        return (time.perf_counter() - started) / BLOCK, (issued - started) / BLOCK

    def warm_up(self) -> float:
        """Take the first steps; return the seconds of the first."""
        started = time.perf_counter()
        self.take()
        hardware.synchronize(self.device)
        first_s = time.perf_counter() - started
        for _ in range(WARM_STEPS - 1):
            self.take()
        hardware.synchronize(self.device)
        return first_s

    def row(self, seconds: float) -> Row:
        """Speed, share of the peak and memory of steps taken for so many seconds."""
        first_s = self.warm_up()
        _reset_peak(self.device)
        blocks, until = [], time.monotonic() + seconds
        while time.monotonic() < until or not blocks:
            blocks.append(self.block())
        step_s, host_s = (statistics.median(column) for column in zip(*blocks, strict=True))
        return self.speed(step_s) | {
            "first_s": first_s,
            "host_us": 1e6 * host_s,
            "blocks": len(blocks),
            "peak_bytes": _peak(self.device),
            "estimated_bytes": self.models
            * step_bytes(self.spec, self.spec.recipe.batch_sequences, False, fused=is_fused(self.device.type)),
        }

    def speed(self, step_s: float) -> Row:
        """Speed of all models together."""
        recipe = self.spec.recipe
        flops = self.models * train_flops_per_step(self.spec.model, recipe.batch_sequences, recipe.optimizer.kind)
        peak = hardware.peak_flops(self.device, recipe.precision) if self.device.type == "cuda" else None
        return {
            "step_ms": 1e3 * step_s,
            "tokens_per_s": self.models * self.spec.batch_tokens / step_s,
            "flops_per_s": flops / step_s,
            "mfu": None if peak is None else flops / step_s / peak,
        }


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _peak(device: torch.device) -> int | None:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def facts(bench: Bench) -> Iterator[Row]:
    """The machine, its software, and the ceilings of its matmuls and its memory."""
    device = hardware.pick_device(bench.device_type, "bf16")
    row = {
        **hardware.describe(device),
        **hardware.versions(),
        "commit": git_commit(),
        "os": platform.platform(),
    }
    if bench.full:
        row["properties"] = str(torch.cuda.get_device_properties(device))
    yield row
    for precision in ("bf16", "fp32") if bench.full else ("fp32",):
        yield {"ceiling": precision, "flops_per_s": hardware.matmul_flops(device, precision)}
    numbers = torch.empty(2**28 if bench.full else 2**16, device=device)
    copied = time_call(numbers.clone, device)
    yield {"ceiling": "copy", "bytes_per_s": 2 * numbers.nbytes / copied["median_s"]}


def correctness(bench: Bench) -> Iterator[Row]:
    """The worst difference of every way's losses from the plain way's on the CPU."""
    steps = 16 if bench.full else 4
    plain = losses(SMALL, Way(), torch.device("cpu"), steps)
    ways = {"plain": Way(), "bf16": Way(precision="bf16")} | (WAYS if bench.full else {"stack": WAYS["stack"]})
    for name, way in ways.items():
        try:
            found = losses(SMALL, way, bench.device, steps)
        except Exception as error:
            yield {"way": name, "right": False, "why": f"{type(error).__name__}: {error}"[:1000]}
            continue
        worst = max(abs(one - other) / other for one, other in zip(found, plain, strict=True))
        yield {"way": name, "worst": worst, "right": worst < (BF16 if way.precision == "bf16" else FP32)}


SIZES = {
    "d768": Case(12, 768, 12, 1024, 32, 50304),
    "d1024": Case(24, 1024, 16, 2048, 16, 50304),
    "d1536": Case(24, 1536, 12, 2048, 12, 50304),
    "d2048": Case(24, 2048, 16, 2048, 8, 50304),
}


def base_steps(bench: Bench) -> Iterator[Row]:
    """Steps at d768, compiled first: with a profile, then eagerly and with the vocabulary that is not padded."""
    case = SIZES["d768"]
    variants = [(True, 50304), (False, 50304), (True, 50257)]
    for place, (compiled, vocabulary) in enumerate(variants):
        spec = spec_of(bench, replace(case, vocab_size=vocabulary), compiled=compiled)
        training = Training(bench, spec)
        yield {"size": "d768", "compiled": compiled, "vocabulary": vocabulary} | training.row(
            bench.share(2 * (len(variants) - place))
        )
        if place == 0:
            yield {"size": "d768", "compiled": compiled, "profile": gpu_parts.profile(training.take, bench.device, TOP)}
        del training


def warm_start(bench: Bench) -> Iterator[Row]:
    """The first step of a process that finds the compiler's cache."""
    training = Training(bench, spec_of(bench, SIZES["d768"], compiled=True))
    yield {"size": "d768", "first_s": training.warm_up()}


def peer(bench: Bench) -> Iterator[Row]:
    """nanoGPT's loop and ours at d768, turn by turn."""
    if bench.peer is None:
        yield {"skipped": "no --peer CHECKOUT"}
        return
    spec = spec_of(bench, SIZES["d768"], compiled=True)
    case = SIZES["d768"] if bench.full else Case(2, 16, 2, 16, 4, 96)
    with tempfile.TemporaryDirectory() as folder:
        theirs, training = training_step(bench.peer, case, bench.device_type, Path(folder)), Training(bench, spec)
        training.warm_up()
        for _ in range(WARM_STEPS):
            theirs()
        hardware.synchronize(bench.device)
        rounds: list[tuple[float, float]] = []
        while not rounds or bench.share(1) > 3 * sum(map(sum, rounds)) / len(rounds) * BLOCK:
            ours_s, _ = training.block()
            started = time.perf_counter()
            for _ in range(BLOCK):
                theirs()
            hardware.synchronize(bench.device)
            rounds.append((ours_s, (time.perf_counter() - started) / BLOCK))
    ours_s, theirs_s = (statistics.median(column) for column in zip(*rounds, strict=True))
    row = {"ours": training.speed(ours_s), "theirs_tokens_per_s": case.batch_tokens / theirs_s}
    yield row | {"ratio": theirs_s / ours_s, "rounds": len(rounds)}


def small_models(bench: Bench) -> Iterator[Row]:
    """Small models, alone and stacked, with and without recordings and the compiler."""
    cases = [Case(4, 128, 4, 256, 16, 256), Case(4, 256, 4, 256, 32, 4096)]
    ways = [
        (1, False, False),
        (1, True, False),
        (8, True, False),
        (8, False, False),
        (4, True, False),
        (4, False, False),
    ]
    ways += [(1, True, True), (8, True, True)]
    todo = [(case, *way) for case in cases for way in ways][: None if bench.full else 2]
    for place, (case, models, graphed, compiled) in enumerate(todo):
        training = Training(bench, spec_of(bench, case, compiled=compiled), graphed=graphed, models=models)
        row = {"size": case.name, "models": models, "graph": graphed, "compiled": compiled}
        row |= training.row(bench.share(3 * (len(todo) - place)))
        measuring = time_call(lambda training=training: training.take(measure_noise=True), bench.device)
        yield row | {"run_step_ms": row["step_ms"] / models, "measuring_step_ms": 1e3 * measuring["median_s"]}
        del training, measuring


def large_models(names: Sequence[str]) -> Callable[[Bench], Iterator[Row]]:
    """Compiled steps of large models, with their memory, and the times of the optimizer and of clipping."""

    def run(bench: Bench) -> Iterator[Row]:
        for place, name in enumerate(names):
            training = Training(bench, spec_of(bench, SIZES[name], compiled=True))
            yield {"size": name} | training.row(bench.share(2 * (len(names) - place)))
            (stepper,) = training.steppers
            gradients_1N = [gradient.unsqueeze(0) for gradient in stepper.flat.gradients_N]
            clipping = time_call(lambda stepper=stepper, of=gradients_1N: clip_(of, 1.0), bench.device)
            update = time_call(stepper.optimizer.step, bench.device)
            yield {"size": name, "clip_ms": 1e3 * clipping["median_s"], "optimizer_ms": 1e3 * update["median_s"]}
            del training, stepper, gradients_1N, clipping, update

    return run


def attention(bench: Bench) -> Iterator[Row]:
    """Causal attention forward and backward, by back end and width of a head."""
    sizes = [(32, 12, 1024, 64), (8, 16, 2048, 128)] if bench.full else [(1, 2, 16, 8)]
    backends = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}
    backends |= {"efficient": SDPBackend.EFFICIENT_ATTENTION, "math": SDPBackend.MATH}
    for batch, heads, tokens, width in sizes:
        shape = (batch, heads, tokens, width)
        qkv = [torch.randn(shape, device=bench.device, dtype=torch.bfloat16, requires_grad=True) for _ in range(3)]
        flops = 3.5 * 4 * batch * heads * tokens**2 * width / 2  # half is masked; 2.5 times as much backward

        def both(qkv: list[torch.Tensor] = qkv) -> None:
            F.scaled_dot_product_attention(*qkv, is_causal=True).sum().backward()

        for name, backend in backends.items():
            row: Row = {"backend": name, "width": width, "tokens": tokens}
            try:
                with sdpa_kernel(backend):
                    seconds = time_call(both, bench.device)["median_s"]
            except RuntimeError as error:
                yield row | {"why": str(error).partition("\n")[0]}
                continue
            yield row | {"ms": 1e3 * seconds, "flops_per_s": flops / seconds}


def copies(bench: Bench) -> Iterator[Row]:
    """Batches brought to the device, and checkpoints of a large model: how long training waits for each."""
    yield from gpu_parts.copies(bench.device, bench.full)
    training = Training(bench, spec_of(bench, SIZES["d768"]))
    training.take()
    (stepper,) = training.steppers
    tables = checkpoint.tables_of(stepper.model, stepper.optimizer)
    size = sum(tensor.nbytes for table in tables.values() for tensor in table.values())
    for way in ("waiting", "beside", "beside, memory pinned before"):
        hardware.synchronize(bench.device)
        with tempfile.TemporaryDirectory(dir=bench.out) as folder, Writer(bench.device, 0.0) as writer:
            attempt = Attempt(Path(folder), 1)
            attempt.path.mkdir(parents=True)
            started = time.perf_counter()
            writer.save(attempt, tables, {"step": 1}, wait=way == "waiting")
            host_s = time.perf_counter() - started
            hardware.synchronize(bench.device)
            stall_s = time.perf_counter() - started
            steps, _ = training.block()  # beside the write
            writer.wait()
            written_s = time.perf_counter() - started
        row = {"checkpoint": way, "bytes": size, "host_s": host_s, "stall_s": stall_s, "written_s": written_s}
        yield row | {"step_beside_ms": 1e3 * steps}


STAGES = {
    "facts": Stage(15, facts),
    "correctness": Stage(45, correctness),
    "d768": Stage(85, base_steps),
    "peer": Stage(45, peer),
    "small": Stage(70, small_models),
    "loss": Stage(35, lambda bench: gpu_parts.loss_alone(bench.device, bench.full)),
    "d2048": Stage(50, large_models(["d2048"])),
    "warm start": Stage(12, warm_start),
    "sweep": Stage(45, lambda bench: gpu_parts.sweeps(bench.device_type, bench.full)),
    "attention": Stage(12, attention),
    "copies": Stage(16, copies),
    "d1024, d1536": Stage(45, large_models(["d1024", "d1536"])),
    "bench": Stage(30, lambda bench: gpu_parts.benched(bench.device_type, bench.share, bench.full)),
}
