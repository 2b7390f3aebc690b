"""The expected time of a run on its devices: arithmetic at a device's share, and the exchange between devices."""

from scaling.machine.devices import DEVICES
from scaling.machine.slots import gpu_ids
from scaling.machine.speed import GRADIENT_BYTES, Speed, exchange_s, speed
from scaling.plan.run import Run
from scaling.shapes.matmuls import parameter_counts
from scaling.spec.memory import FREE_SHARE, MOST_TOKENS, largest_micro_batch
from scaling.spec.parallel import shards_of

GATHERS = 2  # of a sharded model's weights in a micro-batch: before its forward and before its backward pass


def wants_gpu(run: Run) -> bool:
    """Whether the run would train on a GPU here."""
    return run.runtime.device == "cuda" or (run.runtime.device == "auto" and bool(gpu_ids()))


def expected_speed(run: Run, device: str) -> tuple[Speed, bool]:
    """The speed of a run on "cpu", "cuda" or a known device, and whether it was measured."""
    return speed(run.runtime.cache_dir, device, run.spec.recipe.precision, run.spec.model.d_model)


def run_seconds(run: Run, device: str, at_once: int) -> float:
    """Seconds of a run's steps with micro-batches of `at_once` sequences on each device.

    Sharded GPUs exchange while they compute (assumed: all of it); others exchange gradients after the last is there.
    """
    spec, runtime = run.spec, run.runtime
    expected, _ = expected_speed(run, device)
    sent = 2 * GRADIENT_BYTES  # a ring reduces the gradients, then gathers their sum
    sharded = shards_of(runtime.parallel, runtime.devices_per_run) > 1
    if sharded:
        width = 2 if spec.recipe.precision == "bf16" else GRADIENT_BYTES
        sent = (GATHERS * width + GRADIENT_BYTES) * -(-share_of(run) // at_once)
    exchange = exchange_s(
        sent * parameter_counts(spec.model)["total"], runtime.devices_per_run, device, runtime.nodes_per_run
    )
    arithmetic = expected.run(spec, run.allocation.realised_flops / runtime.devices_per_run)
    if sharded and device != "cpu":
        return max(arithmetic, spec.recipe.steps * exchange)
    return arithmetic + spec.recipe.steps * exchange


def share_of(run: Run) -> int:
    """The most sequences of a batch that one device takes."""
    return -(-run.spec.recipe.batch_sequences // run.runtime.devices_per_run)


def at_once_of(run: Run, device: str) -> int:
    """Sequences of a micro-batch on each device: as asked, or as many as fit into the memory of a known device."""
    share, runtime = share_of(run), run.runtime
    if runtime.micro_batch_sequences or device not in DEVICES:
        return runtime.micro_batch_sequences or share
    try:
        fitting = largest_micro_batch(
            run.spec,
            FREE_SHARE * DEVICES[device].memory_bytes,
            runtime.recompute_activations,
            runtime.cuda_graphs and runtime.devices_per_run == 1,
            most_tokens=MOST_TOKENS["cuda"],
            shards=shards_of(runtime.parallel, runtime.devices_per_run),
        )
    except ValueError:  # not even one, of which the plan's cost warns
        return 1
    return min(share, fitting)
