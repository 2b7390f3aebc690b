"""The degree of parallelism where the plan decides it: the fewest devices that hold a run and end it in time."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scaling.machine.devices import DEVICES
from scaling.machine.slots import cpu_cores, gpu_bytes, gpu_ids, host_bytes, slots
from scaling.plan.run import Run
from scaling.plan.seconds import at_once_of, run_seconds, wants_gpu
from scaling.quantities import duration, with_unit
from scaling.spec.memory import FREE_SHARE, step_bytes
from scaling.spec.parallel import AUTO, DDP, FSDP, check_parallel, shards_of

NODE = 8  # devices of a node elsewhere; assumed, as most servers of large GPUs have them
MOST = 4096  # devices that a proposal looks at
WORKERS_AT_ONCE = {"slurm": "array_parallel", "ray": "slots"}  # launchers of workers elsewhere, and their setting
DEGREES = tuple(2**power for power in range(MOST.bit_length()))


@dataclass(frozen=True)
class Machine:
    """The devices that a plan decides for."""

    device: str  # "cpu", "cuda", or a name in machine/devices.py
    count: int  # devices in all
    per_node: int
    memory_bytes: float  # of each GPU, or of all that is a node's host

    def memory(self, on_node: int) -> float:
        """Memory of each of so many devices of a node: processes on a CPU share their host's."""
        return self.memory_bytes / on_node if self.device == "cpu" else self.memory_bytes


def elsewhere(device: str, count: int) -> Machine:
    """`count` devices of a known kind, on nodes of eight."""
    return Machine(device, count, NODE, DEVICES[device].memory_bytes)


def machine_of(launcher: Mapping[str, Any], runs: Sequence[Run]) -> Machine:
    """The devices that a launcher has for runs: of this machine, or of one worker elsewhere.

    ValueError where the launcher's GPUs are elsewhere and none is here to judge by.
    """
    gpu = bool(runs) and wants_gpu(runs[0])
    memory = (gpu_bytes() if gpu else host_bytes()) or math.inf
    kind = "cuda" if gpu else "cpu"
    if launcher.get("name") in WORKERS_AT_ONCE:
        asked = launcher.get("gpus") or 0
        if asked and not gpu:
            raise ValueError(
                f"runtime.devices_per_run=auto: hydra.launcher.gpus={asked} are elsewhere, and no GPU is here to judge "
                f"by; decide with `scaling plan … --on h100 --count {asked} --write` and start workers of that plan "
                f"(`scaling launch`), or give runtime.devices_per_run=K"
            )
        per_node = int((asked if gpu else launcher.get("cpus")) or 1)
        return Machine(kind, per_node * int(launcher.get("nodes") or 1), per_node, memory)
    if launcher.get("name") == "local":
        here = slots(launcher.get("slots"), launcher.get("threads_per_slot"), gpu)
        gpus = {slot.environment["CUDA_VISIBLE_DEVICES"] for slot in here} if gpu else set()
        count = 1 if gpu and len(gpus) < len(here) else len(here)  # a share of a GPU serves no run of several
    else:
        count = len(gpu_ids()) if gpu else cpu_cores()
    return Machine(kind, count, count, memory)


def with_devices_of(launcher: Mapping[str, Any], runs: Sequence[Run]) -> list[Run]:
    """`with_devices` of a launcher's machine, which is looked at only where a run leaves its devices to the plan."""
    by_plan = any(run.runtime.devices_by_plan for run in runs)
    return with_devices(runs, machine_of(launcher, runs)) if by_plan else list(runs)


def with_devices(runs: Sequence[Run], machine: Machine) -> list[Run]:
    """The same runs, those that leave it to the plan on the fewest devices of the machine that serve them.

    ValueError for a run that the machine's devices do not hold, or not end within budget.run_hours, with the count that
    does.
    """
    return [_decided(run, machine) if run.runtime.devices_by_plan else run for run in runs]


def _decided(run: Run, machine: Machine) -> Run:
    limit_s = math.inf if run.budget.run_hours is None else 3600 * run.budget.run_hours
    holding = [one for devices in _degrees(run) if (one := _on(run, devices, machine)) is not None]
    first = next((one for one in holding if _seconds(one, machine) <= limit_s), None)
    if first is not None and first.runtime.devices_per_run <= machine.count:
        return first
    name = " ".join(run.overrides) or f"run {run.spec.run_id}"
    devices = "1 device does" if machine.count == 1 else f"{machine.count} devices do"
    if holding and holding[0].runtime.devices_per_run <= machine.count:
        lack = f"{devices} not end it within budget.run_hours={run.budget.run_hours:g}"
    else:
        lack = f"{devices} not hold a step of single sequences in {with_unit(machine.memory_bytes, 'B')} each"
    if first is not None:
        remedy = f"{first.runtime.devices_per_run} do (--count {first.runtime.devices_per_run}, or a larger launcher)"
    elif holding:
        fastest = duration(min(_seconds(one, machine) for one in holding))
        remedy = f"more devices do not either, the fastest take {fastest}: raise it, or recipe.batch_tokens"
    else:
        remedy = "more devices do not either: try runtime.recompute_activations=true, or a smaller model or context"
    raise ValueError(f"{name}: {lack}; {remedy}")


def _seconds(run: Run, machine: Machine) -> float:
    return run_seconds(run, machine.device, at_once_of(run, machine.device))


def _degrees(run: Run) -> list[int]:
    """Numbers of devices to look at: at least one a node, and each with a sequence of the batch."""
    return [k for k in DEGREES if run.runtime.nodes_per_run <= k <= run.spec.recipe.batch_sequences]


def _on(run: Run, devices: int, machine: Machine) -> Run | None:
    """The run on so many devices, sharded where it must be; None where they do not hold it."""
    nodes = run.runtime.nodes_per_run
    while devices > nodes * machine.per_node:
        nodes *= 2
    available = FREE_SHARE * machine.memory(devices // nodes)
    asked = run.runtime.parallel
    for kind in (DDP, FSDP) if asked == AUTO else (asked,):
        try:
            check_parallel(kind, devices, run.runtime.cuda_graphs)
        except ValueError:
            continue
        shards = shards_of(kind, devices)
        if step_bytes(run.spec, 1, run.runtime.recompute_activations, shards=shards) <= available:
            runtime = replace(
                run.runtime, devices_per_run=devices, nodes_per_run=nodes, parallel=kind, devices_by_plan=False
            )
            return replace(run, runtime=runtime)
    return None
