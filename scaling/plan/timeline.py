"""The timeline of a plan: which run trains where and when, the longest first, as text and as numbers."""

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scaling.machine.slots import slots
from scaling.plan.degrees import WORKERS_AT_ONCE
from scaling.plan.plan import Plan, PlannedRun
from scaling.quantities import duration

MOST_ROWS = 40  # runs that the text shows
SLOT = 5  # columns of a run's slots
BAR = 37  # columns of the bars, so that a line has 80


@dataclass(frozen=True)
class Stay:
    """A run on a slot, seconds from the start; a run of several devices stays on as many slots."""

    run_id: str
    slot: int
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Timeline:
    """The runs of a plan on slots that each take part in one at a time."""

    slots: int
    stays: tuple[Stay, ...]  # in the order of their start
    lower_bound_s: float  # no schedule ends sooner: all work shared out evenly, and the longest chain of runs

    @property
    def makespan_s(self) -> float:
        """Seconds to the end of the last run."""
        return max((stay.end_s for stay in self.stays), default=0.0)


def slots_of(launcher: Mapping[str, Any], devices: int, *, use_gpus: bool) -> int:
    """The slots that a launcher gives to runs of so many devices in all: on this machine, or of its workers elsewhere.

    The slots of a worker are those of all its nodes. A Ray without a number of slots is taken for this machine's.
    """
    name = str(launcher.get("name"))
    if name == "in_process":
        return 1
    at_once = launcher.get(WORKERS_AT_ONCE.get(name, ""))
    if at_once or name == "slurm":  # workers that each train one run on each of their GPUs
        workers = int(at_once or devices)
        return max(1, min(devices, workers * max(1, int(launcher.get("gpus") or 1)) * int(launcher.get("nodes", 1))))
    return len(slots(launcher.get("slots"), launcher.get("threads_per_slot"), use_gpus))


def timeline(plan: Plan, slot_count: int) -> Timeline:
    """The timeline of a plan's missing runs as launchers take them; branches start where their trunk's run has ended.

    Of the runs of one trunk, the longest to pay its steps goes first.
    """
    free = [(0.0, slot) for slot in range(slot_count)]
    stays: list[Stay] = []
    leaders = _leaders(plan.missing)
    ends: dict[str, float] = {}
    waiting = list(plan.missing)
    while waiting:
        start_s, slot = heapq.heappop(free)
        run = next((run for run in waiting if _ready_s(run, leaders, ends) <= start_s), None)
        if run is None:  # the slot waits for the next end of a trunk's run
            later = min(end for end in ends.values() if end > start_s)
            heapq.heappush(free, (later, slot))
            continue
        waiting.remove(run)
        taken = [slot]
        while len(taken) < min(run.devices_per_run, slot_count):  # it starts when the last of its slots is free
            start_s, slot = heapq.heappop(free)
            taken.append(slot)
        ends[run.run_id] = start_s + run.estimated_s
        for slot in taken:
            stays.append(Stay(run.run_id, slot, start_s, ends[run.run_id]))
            heapq.heappush(free, (ends[run.run_id], slot))
    stays.sort(key=lambda stay: (stay.start_s, stay.slot))
    return Timeline(slot_count, tuple(stays), _lower_bound_s(plan.missing, leaders, slot_count))


def in_lines(found: Timeline) -> list[str]:
    """The timeline as lines of at most 80 columns: a sum, then a bar for each run."""
    if not found.stays:
        return []
    makespan_s, bound_s = found.makespan_s, found.lower_bound_s
    above = f" (+{makespan_s / bound_s - 1:.0%})" if makespan_s > 1.005 * bound_s else ""
    places = "1 slot" if found.slots == 1 else f"{found.slots} slots"
    lines = [f"timeline on {places}: {duration(makespan_s)}; no order takes less than {duration(bound_s)}{above}"]
    lines.append(f"{'run':<12} {'slot':>{SLOT}} {'from':>9} {'to':>9}  0{duration(makespan_s):>{BAR - 1}}")
    places_of: dict[tuple[str, float], list[Stay]] = {}
    for stay in found.stays:
        places_of.setdefault((stay.run_id, stay.start_s), []).append(stay)
    runs = [(stays[0], _places(stays)) for stays in places_of.values()]
    for stay, place in runs[:MOST_ROWS]:
        first = min(BAR - 1, int(stay.start_s / makespan_s * BAR))
        last = max(first + 1, round(stay.end_s / makespan_s * BAR))
        bar = (" " * first + "█" * (last - first)).ljust(BAR, "·")
        times = f"{duration(stay.start_s):>9} {duration(stay.end_s):>9}"
        lines.append(f"{stay.run_id:<12} {place:>{SLOT}} {times}  {bar}".rstrip())
    if len(runs) > MOST_ROWS:
        lines.append(f"and {len(runs) - MOST_ROWS} runs that start later; --json holds all")
    return lines


def _places(stays: Sequence[Stay]) -> str:
    """The slots of one run in a few columns: its number, a first and a last, or how many they are."""
    first, last = min(stay.slot for stay in stays), max(stay.slot for stay in stays)
    if first == last:
        return str(first)
    span = f"{first}-{last}"
    return span if last - first + 1 == len(stays) and len(span) <= SLOT else f"x{len(stays)}"


def as_json(found: Timeline) -> Mapping[str, Any]:
    """The timeline as a plain document."""
    return {
        "slots": found.slots,
        "makespan_s": found.makespan_s,
        "lower_bound_s": found.lower_bound_s,
        "runs": [asdict(stay) for stay in found.stays],
    }


def _leaders(runs: Sequence[PlannedRun]) -> dict[str, str]:
    """The run of each trunk that takes its steps, by the trunk's id: the one that pays most."""
    found: dict[str, PlannedRun] = {}
    for run in sorted(runs, key=lambda run: run.paid_flops):
        if run.trunk is not None:
            found[run.trunk] = run
    return {trunk: run.run_id for trunk, run in found.items()}


def _ready_s(run: PlannedRun, leaders: Mapping[str, str], ends: Mapping[str, float]) -> float:
    """The second from which a run can start; infinite while the run that takes its trunk has no place yet."""
    leader = leaders.get(run.trunk or "", run.run_id)
    return 0.0 if leader == run.run_id else ends.get(leader, math.inf)


def _lower_bound_s(runs: Sequence[PlannedRun], leaders: Mapping[str, str], slot_count: int) -> float:
    seconds = {run.run_id: run.estimated_s for run in runs}
    chains = [
        run.estimated_s + (seconds[leader] if (leader := leaders.get(run.trunk or "", run.run_id)) != run.run_id else 0)
        for run in runs
    ]
    return max([sum(run.slot_s for run in runs) / slot_count, *chains], default=0.0)
