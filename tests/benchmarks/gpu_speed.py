"""Check and time everything on this machine's GPU: python tests/benchmarks/gpu_speed.py --minutes 8 --out DIR.

Stages come in the order in which most is learnt. Each runs in a process and a time box of its own, and appends its
rows to DIR/gpu-speed.jsonl as it makes them, so that a cut run keeps what it measured. `--peer CHECKOUT` times
nanoGPT's model and loop beside ours, turn by turn. `--device cpu` runs the same code at small sizes.
"""

import argparse
import json
import multiprocessing
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

FILE = "gpu-speed.jsonl"
GRACE_S = 3.0  # for a stage to notice the end of its box


def write(out: Path, row: dict[str, Any]) -> None:
    """Append a row to the file, safe on disk, and print it."""
    line = json.dumps(row, default=str)
    with (out / FILE).open("a") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())
    print(line[:400], flush=True)


def work(name: str, options: argparse.Namespace, until: float) -> None:
    """Run a stage in this process, in a group of processes of its own, and write its rows and its end."""
    os.setsid()
    from tests.benchmarks.gpu_stages import STAGES, Bench

    started = time.monotonic()
    try:
        for row in STAGES[name].run(Bench(options.device, options.out, options.peer, until)):
            write(options.out, {"stage": name, **row})
        end: dict[str, Any] = {"status": "done"}
    except BaseException as error:
        traceback.print_exc()
        end = {"status": "failed", "why": f"{type(error).__name__}: {error}"[:2000]}
    write(options.out, {"stage": name, **end, "seconds": round(time.monotonic() - started, 1)})


def boxed(name: str, options: argparse.Namespace, seconds: float) -> None:
    """Run a stage for at most so many seconds; its processes are killed at the end of the box."""
    until = time.monotonic() + seconds
    process = multiprocessing.get_context("fork").Process(target=work, args=(name, options, until))
    process.start()
    process.join(seconds + GRACE_S)
    if process.exitcode == 0:
        return
    status = "died" if process.exitcode is not None else "cut"
    if process.is_alive():
        assert process.pid is not None
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
    write(options.out, {"stage": name, "status": status, "exit": process.exitcode, "box_s": round(seconds, 1)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="for all stages together (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help=f"the folder of {FILE}")
    parser.add_argument("--peer", type=Path, metavar="CHECKOUT", help="a checkout of nanoGPT")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="default: %(default)s")
    parser.add_argument("--stages", help="names, with commas between (default: all, in order)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(Path(__file__).parents[2]))
    import torch

    from tests.benchmarks.gpu_stages import STAGES  # the stages' processes inherit all that is loaded here

    if options.device == "cpu":
        import torch._inductor.compile_fx

        torch.compiler.set_stance("force_eager")  # compiling takes long
    names = options.stages.split(",") if options.stages else list(STAGES)
    if unknown := [name for name in names if name not in STAGES]:
        parser.error(f"--stages {','.join(unknown)}: choose from {', '.join(STAGES)}")
    until = time.monotonic() + 60 * options.minutes
    for place, name in enumerate(names):
        # A stage leaves the time that it does not need to the stages after it; small sizes end by themselves.
        share = STAGES[name].share / sum(STAGES[rest].share for rest in names[place:])
        left = max(0.0, until - time.monotonic())
        boxed(name, options, left if options.device == "cpu" else left * share)


if __name__ == "__main__":
    main()
