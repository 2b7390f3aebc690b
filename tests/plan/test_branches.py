"""One trunk, many points: a branch is the run trained alone, bit for bit, and what was spent is counted once."""

import json
import multiprocessing
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from scaling.config.config import compose
from scaling.config.grid import cell_runs, cells, grid_of, load_like
from scaling.config.sections import Rows
from scaling.launch import sweep as sweeping
from scaling.launch.sweep import sweep
from scaling.plan.branches import check_family, reference_flops, trunk_id, trunk_steps
from scaling.plan.plan import OverBudgetError, Plan, PlannedRun, make_plan
from scaling.records.attempt import FAILED, PREEMPTED
from scaling.records.record import DIVERGED, DONE, RunRecord, publish_record, read_records
from scaling.shapes.flops import train_flops_per_sequence
from scaling.spec.run_spec import RunSpec
from scaling.train import gradient_noise, step
from scaling.train import metric_rows as curves
from scaling.train.run import train_run
from tests.damage import flip
from tests.examples import RECORD, TINY, asked, runtime_in
from tests.train.test_loop import DATA, StopAt, curve, run, spec_for

STEPS = (60, 40, 20)  # of a family's runs, a fifth of each its cooldown
SHARED_STEPS = 60 + 40 // 5 + 20 // 5


def family(**changes: Any) -> list[RunSpec]:
    """Runs of one trunk, longest first."""
    specs = []
    for steps in STEPS:
        spec = spec_for(steps=steps, **changes)
        schedule = replace(spec.recipe.schedule, cooldown_steps=steps // 5)
        specs.append(replace(spec, recipe=replace(spec.recipe, schedule=schedule)))
    return specs


def write_plan(path: Path, specs: list[RunSpec]) -> None:
    """What the training loop reads of a plan."""
    lines = [
        {"run_id": spec.run_id, "trunk": trunk_id(spec), "trunk_steps": trunk_steps(spec), "steps": spec.recipe.steps}
        for spec in specs
    ]
    (path / "s").mkdir(parents=True, exist_ok=True)
    (path / "s" / "plan.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture(scope="module", autouse=True)
def noise_is_measured() -> Iterator[None]:
    """Every few steps, so that these short runs hold measurements, at steps that are rows' and at others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradient_noise, "EVERY", 7)
        yield


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[RunRecord]]:
    """The family, each run trained by itself."""
    path = tmp_path_factory.mktemp("alone")
    return path, [run(spec, path) for spec in family()]


def assert_equal(alone: tuple[Path, list[RunRecord]], path: Path, specs: list[RunSpec]) -> None:
    """Train what is missing in `path`: every record and row is that of the run trained alone, but for the price."""
    records = [run(spec, path) for spec in specs]
    for spec, one, other in zip(specs, alone[1], records, strict=True):
        assert curve(path, spec) == curve(alone[0], spec)
        for name in ("run_id", "weights_sha256", "val_loss_nats", "train_loss_nats", "train_flops", "eval_flops"):
            assert getattr(other, name) == getattr(one, name), name
        assert (other.predicted_tokens, other.steps) == (one.predicted_tokens, one.steps)
    assert sum(record.paid_flops for record in records) == SHARED_STEPS * 8 * train_flops_per_sequence(TINY)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """One entry for every optimizer step that this process takes."""
    steps: list[float] = []
    original = step.set_learning_rate

    def count(optimizer: torch.optim.Optimizer, rate: float) -> None:
        steps.append(rate)
        original(optimizer, rate)

    monkeypatch.setattr(step, "set_learning_rate", count)
    return steps


def test_branches_equal_the_runs_trained_alone_and_cost_what_was_spent(
    tmp_path: Path, alone: tuple[Path, list[RunRecord]], taken: list[float]
) -> None:
    specs = family()
    assert len({spec.run_id for spec in specs}) == 3
    assert all(record.paid_flops == record.train_flops for record in alone[1])
    write_plan(tmp_path, specs)
    assert_equal(alone, tmp_path, specs)
    assert len(taken) == SHARED_STEPS
    shared = {record.steps: record for record in read_records(tmp_path / "s")}
    assert [shared[steps].trunk for steps in STEPS] == [
        {"id": trunk_id(specs[0]), "steps": 48, "paid_by": None},
        {"id": trunk_id(specs[0]), "steps": 32, "paid_by": specs[0].run_id},
        {"id": trunk_id(specs[0]), "steps": 16, "paid_by": specs[0].run_id},
    ]


def test_branches_with_dropout_equal_the_runs_trained_alone(tmp_path: Path) -> None:
    specs = family(model=replace(TINY, dropout=0.2))[1:]
    one = run(specs[1], tmp_path / "alone")
    write_plan(tmp_path, specs)
    _, other = [run(spec, tmp_path) for spec in specs]
    assert (other.weights_sha256, other.paid_flops) == (one.weights_sha256, one.train_flops // 5)


def test_a_run_without_its_trunk_takes_all_its_steps(tmp_path: Path) -> None:
    long, middle, _ = family()
    write_plan(tmp_path, [long, middle])
    record = run(middle, tmp_path)
    assert record.paid_flops == record.train_flops
    run(long, tmp_path)
    assert not list((tmp_path / "s" / middle.run_id / "checkpoint").glob("0000-*"))  # it was finished already


def test_a_branch_whose_start_is_damaged_takes_all_its_steps(
    tmp_path: Path, alone: tuple[Path, list[RunRecord]], capfd: pytest.CaptureFixture[str]
) -> None:
    long, middle, _ = family()
    write_plan(tmp_path, [long, middle])
    run(long, tmp_path)
    (start,) = (tmp_path / "s" / middle.run_id / "checkpoint").glob("0000-*")
    flip(start / "model.safetensors")
    record = run(middle, tmp_path)
    assert (record.weights_sha256, record.paid_flops) == (alone[1][1].weights_sha256, record.train_flops)
    assert curve(tmp_path, middle) == curve(alone[0], middle)
    assert f"{start} is damaged" in capfd.readouterr().err


@pytest.mark.parametrize("stop_at", [10, 33])
def test_a_trunk_stopped_and_resumed_begins_the_same_branches(
    tmp_path: Path, alone: tuple[Path, list[RunRecord]], stop_at: int
) -> None:
    specs = family()
    write_plan(tmp_path, specs)
    with pytest.raises(KeyboardInterrupt):
        train_run(asked(specs[0], DATA, runtime_in(tmp_path), 1e6), StopAt(stop_at))
    (tmp_path / "s" / "plan.jsonl").unlink()  # what it promised it keeps, whatever became of the plan
    assert_equal(alone, tmp_path, specs)


def test_a_branch_stopped_and_resumed_equals_the_run_trained_alone(
    tmp_path: Path, alone: tuple[Path, list[RunRecord]]
) -> None:
    long, middle, _ = specs = family()
    write_plan(tmp_path, specs)
    told: list[int] = []

    class Stopping(StopAt):
        def claimed(self, attempt_dir: Path, run_id: str, steps: int, start_step: int) -> None:
            told.append(start_step)

    run(long, tmp_path)
    with pytest.raises(KeyboardInterrupt, match=r"stopped at step 3\d of 40"):
        train_run(asked(middle, DATA, runtime_in(tmp_path), 1e6), Stopping(35))
    assert told == [32]  # its progress starts where it left the trunk
    assert_equal(alone, tmp_path, specs)
    assert [path.name for path in (tmp_path / "s" / middle.run_id / "checkpoint").iterdir()] == ["0002-00000040"]


def _train_all_slowly(specs: list[RunSpec], path: Path) -> None:
    original = step.set_learning_rate

    def slow(*arguments: Any) -> None:
        time.sleep(0.003)
        original(*arguments)

    step.set_learning_rate = slow
    torch.set_num_threads(1)
    for spec in specs:
        run(spec, path, checkpoint_every_s=0.0)


def test_killed_at_any_moment_a_family_ends_with_the_same_results(
    tmp_path: Path, alone: tuple[Path, list[RunRecord]]
) -> None:
    specs = family()
    write_plan(tmp_path, specs)
    kills = 0
    for delay in (0.15, 0.3):
        process = multiprocessing.get_context("fork").Process(target=_train_all_slowly, args=(specs, tmp_path))
        process.start()
        time.sleep(delay)
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
    assert kills
    assert_equal(alone, tmp_path, specs)


def test_a_branch_that_would_have_diverged_alone_is_left_to_do_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Step 28 is one of the middle run's rows, before it leaves at 32, and none of the others'.
    monkeypatch.setattr(curves, "_divergence", lambda loss, vocabulary, step: "blown up" if step == 28 else "")
    specs = family()
    write_plan(tmp_path, specs)
    long, middle, short = [run(spec, tmp_path) for spec in specs]
    assert (long.status, middle.status, short.status) == (DONE, DIVERGED, DONE)
    assert (middle.why, middle.steps, middle.paid_flops) == ("blown up", 28, middle.train_flops)
    assert short.paid_flops == short.train_flops // 5


SYNTHETIC = ["data=synthetic", "data.source.tokens=10000", "recipe.batch_tokens={value: 1e-3, tokens: 1}"]
SHAPES = "hydra.sweeper.shapes=[{n_layers: 1, d_model: 16, n_heads: 1}, {n_layers: 1, d_model: 24, n_heads: 1}]"
BRANCHES = [*SYNTHETIC, SHAPES, "hydra.sweeper.branches=true", "recipe.schedule.warmup={tokens: 1e4, fraction: null}"]
FOUR = [1e10 * 2.15**i for i in range(4)]
SIX = [1e10 * 2.0**i for i in range(6)]


def grid_plan(tmp_path: Path, budgets: list[float], *overrides: str) -> Plan:
    fixed = [*BRANCHES, f"hydra.sweeper.budgets={budgets}", f"runs_dir={tmp_path}", *overrides]
    cfg = compose(fixed)

    def composed(row: Sequence[str]) -> DictConfig:
        return load_like(cfg, [*fixed, *row])

    rows = Rows(cfg, composed)
    return make_plan(cell_runs(rows, cells(grid_of(cfg), {}, rows)), cfg.budget.total_flops)


@pytest.mark.parametrize(("budgets", "saving"), [(FOUR, 1.54), (SIX, 1.65)], ids=["four", "six"])
def test_a_plan_pays_a_trunk_once(tmp_path: Path, budgets: list[float], saving: float) -> None:
    plan = grid_plan(tmp_path, budgets)
    by_hand = sum(budgets) / (budgets[-1] + 0.2 * sum(budgets[:-1]))  # cooldowns of 20% (Hägele et al. 2024)
    assert by_hand == pytest.approx(saving, abs=0.005)
    assert plan.alone_flops / plan.total_flops == pytest.approx(by_hand, rel=2e-3)
    assert plan.alone_flops == sum(run.train_flops for run in plan.runs)
    assert len({run.trunk for run in plan.runs}) == 2
    for line in plan.runs:
        if line.paid_flops != line.train_flops:
            assert line.paid_flops * line.steps == (line.steps - line.trunk_steps) * line.train_flops


def test_the_cap_is_on_what_is_paid(tmp_path: Path) -> None:
    alone = sum(FOUR) * 2
    with pytest.raises(OverBudgetError, match=r"less \S+ on shared trunks = "):
        grid_plan(tmp_path, FOUR, f"budget.total_flops={alone / 1.6:g}")
    assert grid_plan(tmp_path, FOUR, f"budget.total_flops={alone / 1.5:g}").runs


def test_a_family_has_the_recipe_of_its_mean_budget_and_the_plan_says_what_each_would_have_alone(
    tmp_path: Path,
) -> None:
    assert reference_flops(FOUR) == pytest.approx(1e10 * 2.15**1.5)
    law = "recipe.learning_rate={value: 1e-6, tokens: 0.6}"
    plan = grid_plan(tmp_path, FOUR, law)
    for width in (16, 24):
        runs = sorted((run for run in plan.runs if run.d_model == width), key=lambda run: run.steps)
        assert len({(run.learning_rate, run.batch_tokens, run.trunk) for run in runs}) == 1
        times = [run.learning_rate / run.law_learning_rate for run in runs]
        assert times == pytest.approx([2.15 ** (0.6 * e) for e in (1.5, 0.5, -0.5, -1.5)], rel=1e-3)
    warned = {warning.kind: hits for _, warning, hits in plan.worst_warnings()}
    assert warned["a batch of a trunk"] == 4  # 2.15^1.5 = 3.2 from the law at both ends of either size
    assert "a learning rate of a trunk" not in warned  # 3.2^0.6 = 1.99
    steep = grid_plan(tmp_path, FOUR, "recipe.learning_rate={value: 1e-6, tokens: 0.7}")
    (worst,) = [warning for _, warning, _ in steep.worst_warnings() if warning.kind == "a learning rate of a trunk"]
    assert "has a learning rate 2.2x from what the recipe gives at its own length" in worst.text


def test_a_size_at_one_budget_is_a_run_like_any_other(tmp_path: Path) -> None:
    sizes = "hydra.sweeper.sizes={count: 1, span: 2, optimum_params: 3000, at_flops: 1e10, exponent: 0.5}"
    with_branches = grid_plan(tmp_path, [1e10, 1e11], sizes)
    without = grid_plan(tmp_path, [1e10, 1e11], sizes, "hydra.sweeper.branches=false")
    assert [run.run_id for run in with_branches.runs] == [run.run_id for run in without.runs]
    assert {run.trunk for run in with_branches.runs} == {None}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["recipe.schedule.kind=cosine", "recipe.schedule.cooldown_shape=cosine"],
            "kind=cosine: its rate falls all along towards an end .* use recipe.schedule.kind=wsd",
        ),
        (
            ["recipe.schedule.warmup={tokens: null, fraction: 0.05, params: null}"],
            r"warmup_steps are \d+, \d+, \d+, \d+: a warm-up that is a fraction of the run .*warmup in tokens",
        ),
        (["hydra.sweeper.budgets=[1e10]"], "give at least two hydra.sweeper.budgets"),
    ],
)
def test_what_has_no_common_trunk_is_refused_with_the_reason(
    tmp_path: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        grid_plan(tmp_path, FOUR, *overrides)


def test_families_that_differ_elsewhere_name_the_field() -> None:
    long, short, _ = family()
    with pytest.raises(ValueError, match=r"one trunk, but their seed are 0, 1: make seed the same whatever the budget"):
        check_family([long, replace(short, seed=1)])
    assert trunk_id(long) == trunk_id(short) != trunk_id(replace(short, seed=1))
    linear = replace(short.recipe, schedule=replace(short.recipe.schedule, cooldown_shape="linear"))
    assert trunk_id(replace(short, recipe=linear)) == trunk_id(short)  # how it ends is no part of how it begins


def finish(plan: Plan, run_id: str, status: str) -> None:
    """Leave of a run what a launcher would have."""
    run_dir = plan.study_dir / run_id
    (run_dir / "attempts" / "0001").mkdir(parents=True)
    if status in (DONE, DIVERGED):
        publish_record(run_dir, replace(RECORD, run_id=run_id, status=status))
    else:
        end = {"status": status, "why": "", "step": 0, "ended_at": ""}
        (run_dir / "attempts" / "0001" / "end.json").write_text(json.dumps(end))


def publish(plan: Plan, run_id: str, paid_flops: int) -> None:
    run_dir = plan.study_dir / run_id
    run_dir.mkdir(parents=True)
    publish_record(run_dir, replace(RECORD, run_id=run_id, train_flops=paid_flops, paid_flops=paid_flops))


def costs(line: PlannedRun, budget: float) -> bool:
    return line.requested_flops == pytest.approx(budget, rel=1e-5)  # a budget is spelt to six digits


def begin(plan: Plan, trunk: str | None) -> None:
    """Leave the checkpoints that a trunk leaves."""
    for line in plan.runs:
        if line.trunk == trunk:
            name = f"0000-{line.trunk_steps:08d}"
            (plan.study_dir / line.run_id / "checkpoint" / name).mkdir(parents=True, exist_ok=True)


@pytest.mark.parametrize("becomes", [DONE, DIVERGED, FAILED, PREEMPTED])
def test_trunks_are_launched_first_and_branches_off_their_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, becomes: str
) -> None:
    monkeypatch.setattr(sweeping, "prepare", lambda *_, **__: None)
    fixed = [*BRANCHES, f"hydra.sweeper.budgets={FOUR}", f"runs_dir={tmp_path}"]
    plan = grid_plan(tmp_path, FOUR)
    by_cell = {run.overrides: run for run in plan.runs}
    waves: list[list[str]] = []

    def launch(jobs: list[list[str]], initial_job_idx: int) -> list[None]:
        assert initial_job_idx == sum(map(len, waves))
        lines = [by_cell[tuple(job[len(fixed) : -1])] for job in jobs]
        assert [job[-1] for job in jobs] == [f"planned='{line.run_id}'" for line in lines]
        waves.append([f"{line.d_model} {line.requested_flops:.3g}" for line in lines])
        for line in lines:
            ends = becomes if line.d_model == 24 and costs(line, FOUR[-1]) else DONE
            finish(plan, line.run_id, ends)
            if ends == DONE:
                begin(plan, line.trunk)
        return [None for _ in jobs]

    cfg = compose(fixed)
    OmegaConf.set_struct(cfg, False)
    if becomes in (DONE, DIVERGED):
        sweep(cfg, fixed, load_like, launch)
    else:
        with pytest.raises(SystemExit):
            sweep(cfg, fixed, load_like, launch)
    assert sorted(waves[0]) == ["16 9.94e+10", "24 9.94e+10"]
    sizes = [sorted({cell.split()[0] for cell in wave}) for wave in waves]
    counts = [len(wave) for wave in waves]
    assert (counts, sizes[1:]) == {
        DONE: ([2, 6], [["16", "24"]]),
        DIVERGED: ([2, 4, 2], [["16", "24"], ["24"]]),  # the next longest takes the trunk's place
        FAILED: ([2, 3], [["16"]]),  # its branches wait for it to be mended
        PREEMPTED: ([2], []),  # somebody asked for an end
    }[becomes]


def test_a_finished_study_is_priced_at_what_it_paid(tmp_path: Path) -> None:
    plan = grid_plan(tmp_path, FOUR)
    longest = [run for run in plan.runs if costs(run, FOUR[-1])]
    for line in longest:  # trained before its branches were thought of: nothing was left for them
        publish(plan, line.run_id, line.train_flops)
    rest = [run for run in grid_plan(tmp_path, FOUR).runs if costs(run, FOUR[-2])]
    assert len(longest) == len(rest) == 2
    assert all(run.paid_flops == run.train_flops for run in rest)  # the next longest takes the trunk
    for line in plan.runs:
        if line not in longest:
            publish(plan, line.run_id, 7)
    assert grid_plan(tmp_path, FOUR).total_flops == sum(run.train_flops for run in longest) + 6 * 7
