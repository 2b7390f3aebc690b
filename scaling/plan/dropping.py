"""Runs that a plan beyond its caps drops: those first that the optimum of their budget needs least.

The order: sizes far from the expected optimum, as a ratio, as long as LEAST_SIZES nearer ones of the same budget and
settings are left; then repeated seeds, the furthest sizes first; then whole budgets, those between the smallest and the
largest first, since the law of the minima leans on its ends, and the dearest of them first.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

LEAST_SIZES = 5  # sizes of a budget that its minimum needs: the curves near a minimum go through five
GROWTH = 0.5  # exponent of the expected optimum in compute (Hoffmann et al. 2022), where a budget has no losses
LEAST_LOSSES = 3  # finished sizes of a budget whose lowest loss marks its optimum
SHAPE = ("n_layers", "d_model", "n_heads", "n_kv_heads", "d_ff")
OF_CELL = ("seed=", "budget.flops=", *(f"model.{name}=" for name in SHAPE))  # overrides of one cell


class Cell(Protocol):
    """A cell of the grid, such as a planned run."""

    @property
    def run_id(self) -> str: ...
    @property
    def overrides(self) -> Sequence[str]: ...
    @property
    def family(self) -> str: ...
    @property
    def objective(self) -> str: ...
    @property
    def n_params(self) -> Mapping[str, int]: ...
    @property
    def requested_flops(self) -> float: ...
    @property
    def paid_flops(self) -> int: ...
    @property
    def seed(self) -> int: ...


T = TypeVar("T")
C = TypeVar("C", bound=Cell)


@dataclass(frozen=True)
class _Group:
    """The cells of one budget and one choice of settings, and how far from the expected optimum each lies."""

    flops: float
    cells: Sequence[Cell]
    distance: Mapping[int, float]  # by size: |log| of its ratio to the expected optimum

    def far_sizes(self) -> set[int]:
        """Sizes beyond the LEAST_SIZES nearest to the expected optimum."""
        return set(sorted(self.distance, key=lambda size: (self.distance[size], size))[LEAST_SIZES:])


def drop_order(cells: Sequence[C], losses: Mapping[str, float]) -> list[list[C]]:
    """Sets of cells in the order in which a plan drops them, each as a whole; `losses` are of finished runs, by id."""
    groups = _groups(cells, losses)
    of = {cell.run_id: group for group in groups for cell in group.cells}

    def distance(cell: Cell) -> float:
        return of[cell.run_id].distance[size_of(cell)]

    def by_need(found: Sequence[C]) -> list[C]:
        return sorted(found, key=lambda cell: (-distance(cell), -cell.paid_flops, -cell.seed, cell.run_id))

    far = by_need([cell for cell in cells if size_of(cell) in of[cell.run_id].far_sizes()])
    out = {cell.run_id for cell in far}
    near = [cell for cell in cells if cell.run_id not in out]
    first_seed: dict[tuple[int, int], int] = {}
    for cell in near:
        key = (id(of[cell.run_id]), size_of(cell))
        first_seed[key] = min(cell.seed, first_seed.get(key, cell.seed))
    again = by_need([cell for cell in near if cell.seed != first_seed[id(of[cell.run_id]), size_of(cell)]])
    out |= {cell.run_id for cell in again}
    rest = [cell for cell in near if cell.run_id not in out]
    budgets = sorted({cell.requested_flops for cell in rest})
    ends = {budgets[0], budgets[-1]} if budgets else set()
    whole = [by_need([cell for cell in rest if cell.requested_flops == flops]) for flops in budgets]
    whole.sort(key=lambda found: (found[0].requested_flops in ends, -sum(cell.paid_flops for cell in found)))
    return [*([cell] for cell in (*far, *again)), *whole]


def dropped(order: Sequence[Sequence[T]], fits: Callable[[Sequence[T]], bool]) -> list[T]:
    """The sets to drop, as one list in their order: as many as it takes, less those that there is room for then.

    `fits` states whether the rest stays within the caps where these are dropped.
    """
    out: list[Sequence[T]] = []
    for one in order:
        if fits([cell for found in out for cell in found]):
            break
        out.append(one)
    for one in reversed(list(out)):
        rest = [found for found in out if found is not one]
        if fits([cell for found in rest for cell in found]):
            out = rest
    return [cell for found in out for cell in found]


def size_of(cell: Cell) -> int:
    """The size of a cell as minima go by it: its non-embedding parameters."""
    return cell.n_params["non_embedding"]


def _groups(cells: Sequence[Cell], losses: Mapping[str, float]) -> list[_Group]:
    found: dict[tuple[object, ...], list[Cell]] = {}
    for cell in cells:
        own = tuple(part for part in cell.overrides if not part.startswith(OF_CELL))
        found.setdefault((cell.family, cell.objective, own, cell.requested_flops), []).append(cell)
    best: dict[tuple[object, ...], dict[float, float]] = {}  # sizes of lowest loss by budget, for each settings
    for (*settings, flops), members in found.items():
        known = {size_of(cell): losses[cell.run_id] for cell in members if cell.run_id in losses}
        if len(known) >= LEAST_LOSSES:
            assert isinstance(flops, float | int)
            best.setdefault(tuple(settings), {})[flops] = min(known, key=lambda size: known[size])
    groups = []
    for (*settings, flops), members in found.items():
        assert isinstance(flops, float | int)
        sizes = sorted({size_of(cell) for cell in members})
        optimum = _expected(flops, sizes, best.get(tuple(settings), {}))
        groups.append(_Group(flops, members, {size: abs(math.log(size / optimum)) for size in sizes}))
    return groups


def _expected(flops: float, sizes: Sequence[int], best: Mapping[float, float]) -> float:
    """The expected optimum of a budget: by its losses, else by the nearest budget's, else the middle of its sizes."""
    if not best:
        return math.sqrt(sizes[0] * sizes[-1])
    nearest = min(best, key=lambda other: abs(math.log(other / flops)))
    return best[nearest] * float((flops / nearest) ** GROWTH)
