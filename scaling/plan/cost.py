"""The cost of a plan on machines that are not here: GPU-hours, wall time, dollars and energy."""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scaling.machine.devices import Device
from scaling.plan.degrees import DEGREES
from scaling.plan.plan import Plan, PlannedRun
from scaling.quantities import duration, with_unit
from scaling.spec.memory import step_bytes
from scaling.spec.parallel import AUTO, FSDP, shards_of
from scaling.spec.run_spec import RunSpec


@dataclass(frozen=True)
class Cost:
    """A plan's cost on `count` devices, each with one run or a share of one at a time, the longest first."""

    device: str
    count: int
    gpu_hours: float  # of training, summed over the runs
    wall_s: float
    usd: float | None  # all devices for the wall time; None without a price
    kwh: float  # of the devices while they train, at their boards' limit, without hosts and cooling
    efficiency: tuple[float, float]  # lowest and highest share of the peak over the runs
    measured: bool  # whether `scaling bench` measured the speed on such a device
    too_large: tuple[str, ...]  # runs that their devices' memory does not hold even by single sequences
    holding: int | None  # devices that hold the first of these, sharded; None without any, or where no number does


def cost_on(plan: Plan, specs: Mapping[str, RunSpec], device: Device, count: int, usd_per_hour: float | None) -> Cost:
    """The cost of a plan's missing runs, whose specs are given by run id; the plan is priced on this device.

    ValueError for a count or a price that is none, and for a run of more devices.
    """
    if count < 1:
        raise ValueError(f"--count {count}: must be at least 1")
    if usd_per_hour is not None and not usd_per_hour >= 0:
        raise ValueError(f"--usd-per-hour {usd_per_hour:g}: must be 0 or above")
    runs = plan.missing
    if (most := max((run.devices_per_run for run in runs), default=1)) > count:
        raise ValueError(f"--count {count}: a run of the plan takes runtime.devices_per_run={most}")
    wall_s = wall_seconds([(run.estimated_s, run.devices_per_run) for run in runs], count)
    gpu_hours = sum(run.slot_s for run in runs) / 3600
    peaks = {run.run_id: device.peak_flops(specs[run.run_id].recipe.precision) for run in runs}
    shares = [run.paid_flops / run.slot_s / peaks[run.run_id] for run in runs] or [0.0]
    too_large = [run.run_id for run in runs if _bytes(specs[run.run_id], _shards(run)) > device.memory_bytes]
    return Cost(
        device=device.title,
        count=count,
        gpu_hours=gpu_hours,
        wall_s=wall_s,
        usd=None if usd_per_hour is None else count * wall_s / 3600 * usd_per_hour,
        kwh=gpu_hours * device.watts / 1000,
        efficiency=(min(shares), max(shares)),
        measured=plan.timed_here,
        too_large=tuple(too_large),
        holding=_holding(specs[too_large[0]], device.memory_bytes) if too_large else None,
    )


def _bytes(spec: RunSpec, shards: int) -> int:
    """The least memory that a step takes on each device."""
    return step_bytes(spec, 1, recomputed=True, shards=shards)


def _shards(run: PlannedRun) -> int:
    """The devices that share one copy of a run's weights where memory needs as many."""
    kind = FSDP if run.parallel == AUTO and run.devices_per_run > 1 else run.parallel
    return shards_of(kind, run.devices_per_run)


def _holding(spec: RunSpec, memory_bytes: float) -> int | None:
    """The fewest devices, a power of two, that hold a sharded run; None where no number of them does."""
    return next((k for k in DEGREES[1:] if _bytes(spec, k) <= memory_bytes), None)


def wall_seconds(runs: Sequence[tuple[float, int]], count: int) -> float:
    """The wall time of runs of so many seconds and devices each, the longest first, on `count` devices.

    A run starts when the last of its devices is free.
    """
    busy = [0.0] * count
    for run_s, devices in runs:
        taken = [heapq.heappop(busy) for _ in range(devices)]
        for _ in taken:
            heapq.heappush(busy, taken[-1] + run_s)
    return max(busy)


def in_words(cost: Cost, device: Device, usd_per_hour: float | None) -> list[str]:
    """The cost in lines: the sums, and the grounds that they stand on."""
    dollars = "" if cost.usd is None else f", ${cost.usd:,.2f} at ${usd_per_hour:g} an hour for each"
    low, high = cost.efficiency
    grounds = "measured by `scaling bench` on such a device" if cost.measured else "assumed, none was measured"
    lines = [
        f"on {cost.count} x {cost.device}: {_count(cost.gpu_hours)} GPU-hours, {duration(cost.wall_s)} of wall "
        f"time{dollars}, {_count(cost.kwh)} kWh at {device.watts:g} W",
        f"speed: {low:.0%} to {high:.0%} of the peak by the size of a run ({grounds}); peak, memory and power: "
        f"{device.source}; host, cooling and idle devices use energy beside this",
    ]
    if cost.too_large:
        remedy = f"; {cost.holding} devices hold it (runtime.devices_per_run=auto)" if cost.holding else ""
        lines.append(
            f"{len(cost.too_large)} runs, {cost.too_large[0]} among them, do not fit into "
            f"{with_unit(device.memory_bytes, 'B')} even by single sequences with recomputed activations{remedy}"
        )
    return lines


def _count(amount: float) -> str:
    """An amount with three digits at least, and all those before the point."""
    return f"{amount:,.0f}" if amount >= 1000 else f"{amount:.3g}"
