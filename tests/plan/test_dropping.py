"""Runs beyond a plan's caps: those that the optima need least go first, by name."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from scaling.cli import main
from scaling.plan.dropping import LEAST_SIZES, drop_order, dropped


@dataclass(frozen=True)
class Cell:
    size: int
    requested_flops: float = 1e12
    seed: int = 0
    overrides: tuple[str, ...] = ()
    family: str = "decoder"
    objective: str = "causal"
    paid_flops: int = 1
    n_params: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.n_params["non_embedding"] = self.size

    @property
    def run_id(self) -> str:
        return f"{self.size}-{self.requested_flops:g}-{self.seed}-{'-'.join(self.overrides)}"


SIZES = (100, 200, 400, 800, 1600, 3200, 6400)


def sizes(order: list[list[Cell]]) -> list[list[int]]:
    return [[cell.size for cell in found] for found in order]


def test_the_furthest_sizes_go_first_and_five_stay_together() -> None:
    order = drop_order([Cell(size, paid_flops=size) for size in SIZES], {})
    assert sizes(order)[:2] == [[6400], [100]]  # equally far: the dearer one first
    assert sorted(sizes(order)[2]) == list(SIZES[1:-1])
    assert len(order[2]) == LEAST_SIZES


def test_losses_move_the_expected_optimum_of_their_budget_and_of_the_next() -> None:
    small = [Cell(size, 1e12) for size in SIZES]
    large = [Cell(size, 4e12) for size in SIZES]
    losses = {cell.run_id: 3.0 + abs(cell.size - 400) / 400 for cell in small}
    order = drop_order([*small, *large], losses)
    # optimum 400 at 1e12, so 800 at 4e12
    first, *next_ones = [(cell.size, cell.requested_flops) for found in order[:4] for cell in found]
    assert first == (6400, 1e12)  # sixteen times the optimum
    assert set(next_ones) == {(3200, 1e12), (100, 4e12), (6400, 4e12)}  # a factor of eight


def test_repeated_seeds_go_before_whole_budgets_and_inner_budgets_before_the_ends() -> None:
    cells = [Cell(size, flops, seed) for size in SIZES[1:-1] for flops in (1e12, 2e12, 3e12, 4e12) for seed in (0, 1)]
    order = drop_order(cells, {})
    assert {cell.seed for found in order[:20] for cell in found} == {1}
    assert [found[0].requested_flops for found in order[20:22]] == [2e12, 3e12]
    assert {found[0].requested_flops for found in order[22:]} == {1e12, 4e12}


def test_settings_are_grids_of_their_own() -> None:
    cells = [Cell(size, overrides=(f"recipe.x={x}",)) for size in SIZES[:5] for x in (1, 2)]
    (whole,) = drop_order(cells, {})
    assert len(whole) == 10


def test_what_there_is_room_for_then_stays() -> None:
    cost = {"a": 1, "b": 1, "c": 10, "d": 5}
    order = [["a"], ["b"], ["c"], ["d"]]

    def fits(out: Any) -> bool:
        return sum(cost.values()) - sum(cost[name] for name in out) <= 8

    assert dropped(order, fits) == ["c"]
    assert dropped(order, lambda _: True) == []
    assert dropped(order, lambda _: False) == ["a", "b", "c", "d"]


GRID = [
    *("data=synthetic", "data.source.tokens=200000", "study=s", "hydra.sweeper.budgets=[4e9,1.6e10]"),
    *("runtime.device=cpu", "recipe.batch_tokens=256", "budget.least_steps=1", "budget.tolerance=1"),
    "hydra.sweeper.shapes=["
    + ", ".join(f"{{n_layers: 2, d_model: {width}, n_heads: 2}}" for width in (16, 24, 32, 40, 48, 64, 80))
    + "]",
]


def planned(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert main(["plan", *GRID, *options, "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_a_plan_beyond_its_cap_is_refused_or_drops_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = planned(capsys)
    hours = whole["estimated_s"] / 3600 * 0.9
    assert main(["plan", *GRID, f"budget.gpu_hours={hours}"]) == 2
    refusal = capsys.readouterr().err
    assert "h of devices, more than budget.gpu_hours=" in refusal
    assert "budget.over=drop leaves out " in refusal
    found = planned(capsys, f"budget.gpu_hours={hours}", "budget.over=drop")
    names = {run["run_id"] for run in found["dropped"]}
    assert 1 <= len(names) <= 4
    assert {run["run_id"] for run in found["runs"]} | names == {run["run_id"] for run in whole["runs"]}
    assert found["estimated_s"] <= hours * 3600
    for flops in (4e9, 1.6e10):
        assert sum(run["requested_flops"] == flops for run in found["runs"]) >= LEAST_SIZES
    assert main(["plan", *GRID, f"budget.gpu_hours={hours}", "budget.over=drop"]) == 0
    printed = capsys.readouterr().out
    assert re.search(rf"dropped {len(names)} runs? that the optima need least: all would cost ", printed)
    assert all(name in printed for name in names)


def test_dollars_are_hours_times_their_price(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    hours = planned(capsys)["estimated_s"] / 3600
    assert planned(capsys, f"budget.usd={3.01 * hours}", "budget.usd_per_hour=3")["dropped"] == []
    assert main(["plan", *GRID, f"budget.usd={2.9 * hours}", "budget.usd_per_hour=3"]) == 2
    assert "more than budget.usd=" in capsys.readouterr().err
    assert main(["plan", *GRID, "budget.usd=1e-9", "budget.usd_per_hour=3", "budget.over=drop"]) == 2
    assert "no run fits" in capsys.readouterr().err
