"""From a sweep to its tuned recipe, as a user asks for it."""

import io
import json
import math
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from scaling.analysis.studies.tuning import judge
from scaling.cli import main
from scaling.config.config import compose, recipe_values, to_run
from scaling.config.grid import load_like, split_axes
from scaling.launch.sweep import expand
from scaling.plan.plan import Plan, PlannedRun, make_plan
from scaling.plan.plan_file import doubts
from scaling.records.record import publish_record, read_records
from scaling.spec.budget import Scale
from scaling.spec.recipe import Tuned
from scaling.tune.cells import choose_cells
from scaling.tune.recipe_file import command, write_recipe
from scaling.tune.search import Search
from tests.analysis.studies.test_tuning import RECIPE, study
from tests.examples import RECORD

SHAPES = "[{n_layers: 1, d_model: 8, n_heads: 1}, {n_layers: 1, d_model: 12, n_heads: 1}]"
TINY = [
    "data=synthetic",
    "data.source.tokens=200000",
    "val_tokens=2048",
    "model.context=16",
    f"hydra.sweeper.shapes={SHAPES}",
    "hydra.sweeper.budgets=[2e8,4e8]",
    "recipe.batch_tokens.value=1.5e-2",
    "study=tiny",
]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def simulated(monkeypatch: pytest.MonkeyPatch, loss_of: Callable[[PlannedRun], float | None]) -> list[int]:
    """Let runs leave records with these losses (None: diverged) instead of training; how many each launch had."""
    launched = []

    def launch(plan: Plan, *_: object) -> None:
        launched.append(len(plan.missing))
        for run in plan.missing:
            loss = loss_of(run)
            folder = plan.study_dir / run.run_id
            folder.mkdir(parents=True)
            status = "done" if loss is not None else "diverged"
            publish_record(folder, replace(RECORD, run_id=run.run_id, status=status, val_loss_nats=loss))

    monkeypatch.setattr("scaling.tune.search.launch_plan", launch)
    monkeypatch.setattr("scaling.tune.search.prepare_data", lambda runs: None)
    return launched


def search(flops: float = 1e13) -> dict[str, Any]:
    """Of three sizes at 1e11 FLOPs."""
    fixed, axes = split_axes(["+sweep=quickstart", "hydra.sweeper.budgets=[1e11]"])
    return Search(fixed, axes, judge, Console(file=io.StringIO())).run(flops, [1e11])


def bowl(run: PlannedRun, factor: float) -> float:
    """A loss with its minimum at this many times the searched recipe's learning rate and at its batch."""
    tokens, law = run.train_tokens, recipe_values(compose(["recipe=quickstart-calm"]))["learning_rate"]
    best = factor * law["value"] * run.n_params["non_embedding"] ** law["params"] * tokens ** law["tokens"]
    batch = max(64, 64 * round(tokens * 2.44140625e-4 / 64))
    moved = math.log(run.learning_rate / best / math.sqrt(run.batch_tokens / batch))
    return 2.0 + 0.05 * moved**2 + 0.02 * math.log(run.batch_tokens / batch) ** 2


def test_a_minimum_within_the_grid_takes_two_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    launched = simulated(monkeypatch, lambda run: bowl(run, 1.3))
    document = search()
    assert launched[0] == 15  # five points of three cells
    assert all(not cell["learning_rate"]["why"] for cell in document["cells"])
    law = document["laws"]["learning_rate"]
    for cell in document["cells"]:
        assert cell["learning_rate"]["law"] == pytest.approx(1.3 * cell["learning_rate"]["recipe"], rel=0.03)
    assert law["cells"] == 3


@pytest.mark.long
@pytest.mark.parametrize(("factor", "side"), [(9.0, "high"), (1 / 9, "low")])
def test_a_minimum_beyond_the_edge_widens_the_search_on_that_side(
    factor: float, side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched = simulated(monkeypatch, lambda run: bowl(run, factor))
    document = search()
    assert launched[:2] == [15, 6]  # two more points of each cell
    for cell in document["cells"]:
        arm = [point["learning_rate"] for point in cell["points"] if point["arm"] == "learning_rate"]
        tried = sorted(rate / cell["base"]["learning_rate"] for rate in arm)
        assert tried[-1 if side == "high" else 0] == pytest.approx(16.0 if side == "high" else 1 / 16, rel=1e-3)
        assert cell["learning_rate"]["value"] == pytest.approx(factor * cell["learning_rate"]["recipe"], rel=0.05)


def test_widening_stops_at_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    far = simulated(monkeypatch, lambda run: bowl(run, 1000.0))
    document = search(flops=2.2e12)
    total = sum({p["run_id"]: cell["flops"] for cell in document["cells"] for p in cell["points"]}.values())
    assert total < 2.2e12
    assert {cell["learning_rate"]["edge"] for cell in document["cells"]} == {"high"}
    assert len(far) == 2  # learning rate, batch; no widening was paid for
    assert document["laws"]["learning_rate"]["cells"] == 0


def test_diverged_runs_are_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    simulated(monkeypatch, lambda run: None if run.learning_rate > 4.5e-3 else bowl(run, 0.5))
    document = search()
    assert document["diverged"] > 2
    assert all(cell["learning_rate"]["limit"] > 4.5e-3 for cell in document["cells"] if cell["learning_rate"]["limit"])
    small = next(cell for cell in document["cells"] if not cell["learning_rate"]["why"])
    assert small["learning_rate"]["value"] == pytest.approx(0.5 * small["learning_rate"]["recipe"], rel=0.05)


def runs_of(*overrides: str):  # type: ignore[no-untyped-def]
    fixed, axes = split_axes(overrides)
    return expand(compose(fixed), fixed, axes, load_like)


def test_tune_end_to_end_and_again(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    # Few runs: wider arms, and widening them, are tried on simulated losses.
    monkeypatch.setattr("scaling.tune.search.REACH", {"learning_rate": 1, "batch_tokens": 0})
    monkeypatch.setattr("scaling.tune.search.WIDENINGS", 0)
    asked = ["tune", *TINY, "--budgets", "2e8", "--flops", "4e9"]
    assert main(asked) == 0
    said = capfd.readouterr()
    assert "lr from" in said.out
    folder = Path("runs/tiny-tune")
    document = json.loads((folder / "tune.json").read_text())
    assert {record.run_id for record in read_records(folder)} == {
        point["run_id"] for cell in document["cells"] for point in cell["points"]
    }
    assert (folder / "tune.png").stat().st_size > 10_000
    assert (folder / "tune.svg").is_file()
    again = said.out.split("train:  ")[1].strip()
    assert shlex.split(again)[-1] == "-m"
    assert "recipe=tiny-tuned" in again
    assert "recipe.batch_tokens.value=1.5e-2" not in again
    before = (folder / "tune.json").read_bytes()
    assert main(asked) == 0
    assert "to train" not in capfd.readouterr().err  # nothing is trained twice
    assert (folder / "tune.json").read_bytes() == before


def test_the_written_recipe_gives_the_laws_numbers_through_hydra() -> None:
    document = judge("quickstart", study(), RECIPE)
    searched = recipe_values(compose(["recipe=quickstart"]))
    path = write_recipe(document, searched)
    assert path == Path("conf/recipe/quickstart-tuned.yaml")
    run = to_run(compose(["+sweep=quickstart", "recipe=quickstart-tuned", "model.d_model=16", "model.n_heads=2"]))
    scale, law = run.allocation.scale, document["laws"]["learning_rate"]
    expected = law["value"] * scale.params ** law["params"] * scale.tokens ** law["tokens"]
    assert run.spec.recipe.optimizer.learning_rate == pytest.approx(expected, rel=1e-4)
    assert run.tuned is not None
    assert run.tuned.params == [3e3, 4e4]
    values = recipe_values(compose(["recipe=quickstart-tuned"]))
    changed = {name for name in values if values[name] != searched[name]}
    assert changed == {"learning_rate", "batch_tokens", "tuned"}
    assert command("quickstart-tuned", ["+sweep=quickstart", "recipe=quickstart"]) == (
        "scaling train +sweep=quickstart recipe=quickstart-tuned -m"
    )


def test_the_command_says_again_what_a_sweep_file_would_take_back() -> None:
    write_recipe(judge("smoke", study(), RECIPE), recipe_values(compose(["+sweep=smoke"])))
    words = shlex.split(command("smoke-tuned", ["+sweep=smoke"]))
    assert words[2:4] == ["+sweep=smoke", "recipe=smoke-tuned"]
    assert words[4] == "recipe.batch_tokens.value=0.0005"
    assert recipe_values(compose(words[2:-1])) == recipe_values(compose(["recipe=smoke-tuned"]))


def tuned_recipe(params: str) -> str:
    """Write a recipe of the user's own that says where it was tuned; the override that picks it."""
    Path("conf/recipe").mkdir(parents=True)
    ranges = f"{{params: {params}, tokens: [10, 1e9], learning_rate: [1e-3, 1e-2], batch_tokens: [1, 2]}}"
    Path("conf/recipe/mine.yaml").write_text(f"defaults: [default]\ntuned: {ranges}\n")
    return "recipe=mine"


def test_where_a_recipe_was_tuned_does_not_enter_the_identity() -> None:
    plain, marked = (to_run(compose([*TINY, *more])) for more in ([], [tuned_recipe("[1, 2]")]))
    assert plain.spec.run_id == marked.spec.run_id
    assert plain.tuned is None
    assert marked.tuned is not None


def test_ranges_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match=r"recipe.tuned.params=\[2.0, 1.0\]: give the lowest and the highest"):
        to_run(compose([*TINY, tuned_recipe("[2, 1]")]))


def test_a_plan_beyond_what_was_tuned_says_so_and_keeps_it_for_the_report() -> None:
    plan = make_plan(runs_of(*TINY, tuned_recipe("[700, 900]")), None)
    beyond = {run.d_model for run in plan.runs if any(one.kind == "untuned" for one in run.warnings)}
    assert beyond == {12}
    plan.write()
    (said,) = doubts(plan.study_dir)
    assert said.startswith("2 of 4 planned runs lie outside what their recipe was tuned on; the furthest lies 2 times")
    make_plan(runs_of(*TINY), None).write()
    assert doubts(plan.study_dir) == []
    inside = Tuned([100.0, 1000.0], [1.0, 2.0], [1.0, 1.0], [1.0, 1.0])
    assert inside.beyond(Scale(1001.0, 8.0, 1.0)) == {"tokens": 4.0}


def test_cells_are_sizes_of_the_sweep_at_budgets_that_the_cap_pays_for() -> None:
    runs = runs_of("+sweep=quickstart")
    cap = 0.25 * sum(run.allocation.realised_flops for run in runs)
    chosen = choose_cells(runs, cap, [], 7)
    assert 0.5 * cap < 7 * sum(cell.budget_flops for cell in chosen) < 0.7 * cap
    assert len(chosen) == 6
    assert len({cell.budget_flops for cell in chosen}) == 2
    shapes = {run.spec.model.d_model for run in runs}
    assert {int(cell.shape.split("x")[1].split("/")[0]) for cell in chosen} <= shapes


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["--budgets", "1e9,2e9"], r"7 x 1e\+09 .* = 4.* FLOPs before any widening, more than --flops 3.*25% of the"),
        (["--flops", "1e5"], "fewer than two of the sweep's sizes see .* tokens a parameter"),
        (
            ["hydra.sweeper.shapes=[{n_layers: 1, d_model: 8, n_heads: 1}]"],
            r"the sweep has one size \(792 parameters\)",
        ),
        (["recipe.beta1=0.8,0.9"], r"the sweep varies recipe.beta1 \(0.8, 0.9\)"),
        (["model.depth=3"], "Key 'depth' is not in struct|Could not override 'model.depth'"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_it_starts(
    asked: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    options = [one for one in asked if not one.startswith("--") and not one[0].isdigit()]
    tiny = [one for one in TINY if one.partition("=")[0] not in {option.partition("=")[0] for option in options}]
    assert main(["tune", *tiny, *options, *[one for one in asked if one not in options]]) == 2
    error = capfd.readouterr().err.strip()
    assert error.startswith("scaling tune: ")
    assert re.search(message, error)
    assert not Path("runs/tiny-tune").exists()


def test_a_sweep_beside_a_conf_folder_trains_and_its_fit_says_what_was_not_tuned(
    capfd: pytest.CaptureFixture[str],
) -> None:
    tiny = [part.replace("[2e8,4e8]", "[1e7,2e7,4e7]") for part in TINY]
    sweep = [tuned_recipe("[1, 2]"), *tiny]
    assert main(["train", *sweep, "-m"]) == 0
    assert len(read_records(Path("runs/tiny"))) == 6
    assert main(["train", "-m", *sweep]) == 0  # the other order of words
    assert "0 to train" in capfd.readouterr().err
    assert main(["fit", "runs/tiny", "--bootstrap", "0", "--law", "power:N", "--holdout", "none"]) == 0
    assert "WARNING 6 of 6 planned runs lie outside what their recipe was tuned on" in capfd.readouterr().out
    warnings = json.loads(Path("runs/tiny/results.json").read_text())["warnings"]
    assert any("outside what their recipe was tuned on" in one for one in warnings)
