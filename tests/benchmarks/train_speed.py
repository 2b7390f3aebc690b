"""Time whole training steps beside nanoGPT's: python tests/benchmarks/train_speed.py [NANOGPT_CHECKOUT] [SECONDS].

Both train the same shapes (GPT-2's, without biases, tied) on random tokens in float32, and ours in bfloat16 as well,
on this machine in this run, turn by turn. nanoGPT runs as its train.py does on a CPU: one process, plain AdamW, and its
own way of drawing batches.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from scaling.launch.local import Local
from scaling.machine.slots import cpu_cores
from scaling.machine.speed import ASSUMED
from scaling.profiling.bench import CASES, Case, Timing, time_case, time_matmul

ROUNDS = 3
HEADER = "{:28} {:>9} {:>9} | {:>9} {:>9} {:>9} {:>10} {:>10}"


def peer_loop(checkout: Path, case: Case, threads: int, seconds: float) -> float:
    """Tokens/s of nanoGPT's training loop; called in a process of its own."""
    import torch

    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tests.benchmarks.nanogpt import training_step

    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        step = training_step(checkout, case, "cpu", Path(folder))
        rates, mark, done = [], time.perf_counter(), 0
        until = mark + seconds
        while time.perf_counter() < until or len(rates) < 4:
            loss = step()
            done += 1
            if done % 10 == 0:
                loss.item()
                now = time.perf_counter()
                rates.append(10 * case.batch_tokens / (now - mark))
                mark = now
    return statistics.median(rates[len(rates) // 3 :])


def peer(checkout: str, case: Case, threads: int, seconds: float) -> float:
    asked = json.dumps([checkout, CASES["cpu"].index(case), threads, seconds])
    done = subprocess.run(
        [sys.executable, __file__, "--peer", asked],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
    )
    return float(done.stdout.split()[-1])


def ours(case: Case, runs: int, threads: int, seconds: float, precision: str = "fp32") -> Timing:
    launcher = Local(use_gpus=False, slots=runs, threads_per_slot=threads)
    return time_case(case, precision, launcher, seconds, ASSUMED["cpu"])


def main() -> None:
    checkout = sys.argv[1] if len(sys.argv) > 1 else None
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 3.0
    cores = cpu_cores()
    ceiling = time_matmul("cpu", "fp32", Local(use_gpus=False, slots=1, threads_per_slot=cores))
    print(f"{cores} cores, float32 matmul {ceiling / 1e9:.0f} GFLOP/s; tokens/s, medians of {ROUNDS} rounds in turn")
    print(HEADER.format("shape", "nanoGPT", "1 thread", "ours", "1 thread", "all slots", "of ceiling", "in bf16"))
    for case in CASES["cpu"]:
        names = ("peer", "peer single", "alone", "single", "slots", "share", "bf16")
        got: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(ROUNDS):
            if checkout:
                got["peer"].append(peer(checkout, case, cores, seconds))
                got["peer single"].append(peer(checkout, case, 1, seconds))
            got["alone"].append(ours(case, 1, cores, seconds).tokens_per_s)
            got["single"].append(ours(case, 1, 1, seconds).tokens_per_s)
            side_by_side = ours(case, cores, 1, seconds)
            got["slots"].append(side_by_side.tokens_per_s)
            got["share"].append(side_by_side.flops_per_s / ceiling)
            got["bf16"].append(ours(case, cores, 1, seconds, "bf16").tokens_per_s)
        at = {name: statistics.median(values) for name, values in got.items() if values}
        shown = [f"{at[name]:,.0f}" if name in at else "" for name in names[:5]]
        ratios = ""
        if checkout:
            ratios = (
                f"   alone {at['alone'] / at['peer']:.2f}x, one thread {at['single'] / at['peer single']:.2f}x, "
                f"all slots {at['slots'] / at['peer']:.2f}x, in bf16 {at['bf16'] / at['peer']:.2f}x"
            )
        print(HEADER.format(case.name, *shown, f"{at['share']:.0%}", f"{at['bf16']:,.0f}") + ratios, flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peer"]:
        where, index, on_threads, for_seconds = json.loads(sys.argv[2])
        print(peer_loop(Path(where), CASES["cpu"][index], on_threads, for_seconds))
    else:
        main()
