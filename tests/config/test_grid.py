"""Grids of a sweep: their axes and cells, the plan of them, and what it warns of."""

import re

import pytest
from hydra.errors import CompactHydraException
from rich.console import Console

from scaling.config.config import compose
from scaling.launch.task import train_task
from scaling.plan.plan import OverBudgetError
from scaling.plan.tables import print_plan
from tests.config.test_config import SYNTHETIC, plan_of


def test_axes_cross_with_the_grid_and_nothing_is_dropped() -> None:
    plan = plan_of(
        *SYNTHETIC,
        "hydra.sweeper.budgets=[1e8,2e8]",
        "hydra.sweeper.shapes=[{n_layers: 1, d_model: 8, n_heads: 1}, {n_layers: 2, d_model: 16, n_heads: 2}]",
        "+hydra.sweeper.axes={recipe.beta1: [0.8, 0.9]}",
        "seed=0,1,2",
    )
    assert len(plan.runs) == 2 * 2 * 2 * 3
    seen = {(run.requested_flops, run.d_model, *run.overrides[-2:]) for run in plan.runs}
    assert len(seen) == 24


def test_zipped_settings_advance_together_and_cross_with_the_axes() -> None:
    zipped = "+hydra.sweeper.zip={recipe.beta1: [0.8, 0.9], recipe.beta2: [0.95, 0.99]}"
    asked = [*SYNTHETIC, "budget.flops=1e9", zipped, "seed=0,1,2"]
    assert sorted(run.overrides for run in plan_of(*asked).runs) == [
        (f"seed={seed}", f"recipe.beta1={beta1}", f"recipe.beta2={beta2}")
        for seed in "012"
        for beta1, beta2 in (("0.8", "0.95"), ("0.9", "0.99"))
    ]
    held = plan_of(*asked, "recipe.beta1=0.7")
    assert {run.overrides[1:] for run in held.runs} == {("recipe.beta2=0.95",), ("recipe.beta2=0.99",)}


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ("zip={seed: [0, 1], recipe.beta1: [0.9]}", "seed has 2 values, recipe.beta1 has 1 values: give as many"),
        (
            "zip={seed: [0]} +hydra.sweeper.axes={seed: [0]}",
            "seed stands in hydra.sweeper.axes and in",
        ),
        (
            "zip={budget.flops: [1e9]} hydra.sweeper.budgets=[1e9]",
            "budget.flops is set by hydra.sweeper.budgets",
        ),
    ],
)
def test_a_zip_that_does_not_add_up_is_refused(grid: str, message: str) -> None:
    parts = re.split(" (?=[+]|hydra)", f"+hydra.sweeper.{grid}")
    with pytest.raises(ValueError, match=message):
        plan_of(*SYNTHETIC, *parts)


def test_what_the_command_line_fixes_is_no_axis_of_the_sweep() -> None:
    asked = [*SYNTHETIC, "budget.flops=1e9", "+hydra.sweeper.axes={seed: [0, 1], recipe.beta1: [0.8, 0.9]}"]
    assert [len(plan_of(*asked, *more).runs) for more in ([], ["seed=0"], ["seed=0", "recipe.beta1=0.7"])] == [4, 2, 1]


def test_cells_that_differ_in_their_axes_alone_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    plan = plan_of(*SYNTHETIC, "budget.flops=1e9", "seed=3,4", "recipe.optimizer=adamw,muon", "model.d_model=32,64")
    print_plan(plan, Console(width=200), None)
    head, *rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip() and "─" not in line][
        :9
    ]
    assert head[:5] == ["run", "status", "seed", "optimizer", "shape"]
    assert sorted(row[2:4] for row in rows) == sorted([[s, o] for s in "34" for o in ("adamw", "muon")] * 2)


def test_a_run_that_comes_out_as_another_than_was_planned_is_refused() -> None:
    with pytest.raises(CompactHydraException, match="planned as run 123456789012, but this is run [0-9a-f]{12}:"):
        train_task(compose([*SYNTHETIC, "budget.flops=1e9", "planned='123456789012'"]))


@pytest.mark.parametrize("name", ["budget.flops=1e10", "budget.flops=1e10,1e11", "model.d_model=8"])
def test_what_every_cell_sets_is_not_quietly_dropped(name: str) -> None:
    where = "budgets" if name.startswith("budget") else "shapes"
    with pytest.raises(ValueError, match=rf"{name.partition('=')[0]} is what the sweep's hydra.sweeper.{where} sets"):
        plan_of("+sweep=smoke", name)


def test_plain_multirun_axes_and_group_axes_work_without_a_grid() -> None:
    plan = plan_of(*SYNTHETIC, "model.d_model=32,64", "recipe=default,step_law", "budget.flops=1e9,1e10")
    assert len(plan.runs) == 8
    assert {run.d_model for run in plan.runs} == {32, 64}


@pytest.mark.parametrize("name", ["runtime.log_points", "hydra.launcher.slots"])
def test_cells_that_are_the_same_run_are_merged_aloud(name: str) -> None:
    plan = plan_of(*SYNTHETIC, f"{name}=10,20")
    assert len(plan.runs) == 1
    assert plan.merged == (f"{name}=20 is the same run as {name}=10",)


def test_sizes_surround_the_predicted_optimum() -> None:
    plan = plan_of(
        *SYNTHETIC,
        "hydra.sweeper.budgets=[1e9]",
        "hydra.sweeper.shapes=["
        + ",".join(f"{{n_layers: 1, d_model: {w}, n_heads: 1}}" for w in range(8, 136, 4))
        + "]",
        "hydra.sweeper.sizes={count: 5, span: 4, optimum_params: 20000, at_flops: 1e9, exponent: 0.5}",
    )
    sizes = sorted(run.n_params["non_embedding"] for run in plan.runs)
    assert len(sizes) == 5
    for size, wanted in zip(sizes, [5e3, 1e4, 2e4, 4e4, 8e4], strict=True):
        assert size == pytest.approx(wanted, rel=0.2)


def test_runs_are_handed_out_longest_first() -> None:
    plan = plan_of(*SYNTHETIC, "model.d_model=32,64,128", "budget.flops=1e9,1e11")
    seconds = [run.estimated_s for run in plan.runs]
    assert seconds == sorted(seconds, reverse=True)


def test_a_plan_over_its_cap_is_refused_with_the_arithmetic() -> None:
    with pytest.raises(
        OverBudgetError,
        match=r"costs 3 x 1e\+09 \+ 3 x 1e\+10 = 3\.\d+e\+10 FLOPs, more than budget.total_flops=1e\+10",
    ):
        plan_of(*SYNTHETIC, "seed=0,1,2", "budget.flops=1e9,1e10", "budget.total_flops=1e10")


def test_repeated_data_and_coarse_rounding_are_warned_of() -> None:
    repeats = plan_of(*SYNTHETIC, "budget.flops=1e10").runs[0]
    assert "repeats data" in {warning.kind for warning in repeats.warnings}
    assert repeats.epochs > 1
    coarse = plan_of(*SYNTHETIC, "budget.flops=1e8", "recipe.batch_tokens.value=1", "recipe.batch_tokens.tokens=0.45")
    assert "off budget" in {warning.kind for warning in coarse.runs[0].warnings}


@pytest.mark.parametrize(
    ("override", "kind"),
    [
        ("recipe.batch_tokens.value=2.5e-3", "few steps"),
        ("recipe.schedule.warmup={params:null,tokens:null,fraction:0.2}", "long warm-up"),
        ("budget.flops=1e11", "few tokens"),
        ("data.vocab_size=200", "large vocabulary"),
    ],
)
def test_what_would_confound_size_with_something_else_is_flagged(override: str, kind: str) -> None:
    fine = [*SYNTHETIC, "data.source.tokens=1000000000", "model.d_model=16", "model.n_heads=1", "budget.flops=1e12"]
    assert plan_of(*fine).runs[0].warnings == ()
    width = {"few tokens": ["model.d_model=128"], "large vocabulary": ["model.d_model=1", "model.n_layers=1"]}.get(
        kind, []
    )
    assert {warning.kind for warning in plan_of(*fine, *width, override).runs[0].warnings} >= {kind}


def test_a_batch_that_follows_something_else_than_the_tokens_is_flagged() -> None:
    """About 2.1e9 tokens ask for 0.58 D^0.571 = 121k tokens a batch."""
    big = [*SYNTHETIC, "data.source.tokens=3000000000", "model.d_model=64", "model.n_heads=4", "budget.flops=1.6e15"]
    flagged = {}
    for batch in (16_384, 131_072, 1_048_576):
        (run,) = plan_of(*big, f"recipe.batch_tokens={{value:{batch},tokens:0}}").runs
        assert 2e9 < run.train_tokens < 3e9
        flagged[batch] = [warning.text for warning in run.warnings if warning.kind == "batch of other tokens"]
    assert flagged[131_072] == []
    assert "has a batch of 16.4k tokens" in flagged[16_384][0]
    assert "x from the" in flagged[1_048_576][0]
