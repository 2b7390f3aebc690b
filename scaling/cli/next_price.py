"""Prices of proposed runs on a named machine: seconds of each, then GPU-hours, wall time and dollars of all."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scaling.machine.devices import Device, device
from scaling.machine.speed import speed
from scaling.plan.cost import wall_seconds
from scaling.quantities import duration

if TYPE_CHECKING:
    from scaling.analysis.design.candidates import Cell
    from scaling.analysis.runs.observations import Observations
    from scaling.analysis.schema.proposal import MachinePrice, Proposal

COLUMNS = ("recipe.steps", "recipe.precision")


def asked_device(options: Any) -> Device | None:
    """The device of --on; ValueError where an option prices a device and none is named."""
    if options.on is not None:
        if options.count < 1:
            raise ValueError(f"--count {options.count}: must be at least 1")
        if options.usd_per_hour is not None and not options.usd_per_hour >= 0:
            raise ValueError(f"--usd-per-hour {options.usd_per_hour:g}: must be 0 or above")
        if options.price == "usd" and not options.usd_per_hour:
            raise ValueError("--price usd counts dollars: give the price of a device, as --usd-per-hour 2.5")
        found: Device = device(options.on)
        return found
    if options.count != 1 or options.usd_per_hour is not None or options.price != "flops":
        raise ValueError("--count, --usd-per-hour and --price price a machine: name it with --on, as --on h100")
    return None


def seconds_of(observations: "Observations", options: Any) -> "Callable[[Cell], float]":
    """Seconds of one run of a cell on the device of --on, with the batch of the trained run nearest in tokens.

    ValueError for runs that state neither shapes nor steps.
    """
    table = observations.table
    if not {*COLUMNS, "model.n_layers"} <= set(table.columns):
        raise ValueError(
            f"--on prices the runs of a study, whose records state shapes and steps; {options.data} does not"
        )
    tokens = observations.column("tokens")
    batch_tokens = tokens / table["recipe.steps"].to_numpy(dtype=float)
    precision = str(table["recipe.precision"].iloc[0])
    cache_dir = Path(options.data).parent / "cache"

    def seconds(cell: "Cell") -> float:
        near = int(np.argmin(np.abs(np.log(tokens / cell.tokens))))
        steps = max(cell.tokens / batch_tokens[near], 1.0)
        layers, width, _ = cell.shape
        found, _ = speed(cache_dir, options.on.lower(), precision, width)
        return float(steps * found.step(layers, cell.flops / steps))

    return seconds


def price_of(seconds: "Callable[[Cell], float]", options: Any) -> "Callable[[Cell], float] | None":
    """The price of a run in the unit of --price; None for FLOPs."""
    if options.price == "flops":
        return None
    per_second = (1.0 if options.price == "hours" else options.usd_per_hour) / 3600
    return lambda cell: per_second * seconds(cell)


def machine_price(found: "Proposal", options: Any, on: Device, seconds: "Callable[[Cell], float]") -> "MachinePrice":
    """The price of a proposal on the device of --on."""
    from scaling.analysis.design.candidates import Cell

    each = [
        seconds(Cell(one["params"], one["tokens"], one["flops"], one["trained"], 0, tuple(one["shape"])))
        for one in found["runs"]
        for _ in one["seeds"]
    ]
    wall_s = wall_seconds([(run_s, 1) for run_s in sorted(each, reverse=True)], options.count)
    usd = None if options.usd_per_hour is None else options.count * wall_s / 3600 * options.usd_per_hour
    return {
        "device": on.title,
        "count": options.count,
        "gpu_hours": sum(each) / 3600,
        "wall_s": wall_s,
        "usd": usd,
        "ranked_by": options.price,
    }


def in_words(price: "MachinePrice") -> str:
    """The price in a line."""
    dollars = "" if price["usd"] is None else f", ${price['usd']:,.2f}"
    by = {"flops": "FLOPs", "hours": "GPU-hours", "usd": "dollars"}[price["ranked_by"]]
    return (
        f"on {price['count']} x {price['device']}: {price['gpu_hours']:.3g} GPU-hours, {duration(price['wall_s'])} of "
        f"wall time{dollars}; runs are ranked by their {by}"
    )
