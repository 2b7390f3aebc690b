"""Runs whose steps are taken as one: each the run that it is alone, up to rounding, and alone in its misfortunes."""

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from scaling.model import build
from scaling.model.stacked import STACKED
from scaling.plan import stacks
from scaling.records.life import Reporter
from scaling.records.record import RunRecord
from scaling.spec.objective import Prefix
from scaling.spec.parametrization import Base, parametrize
from scaling.spec.run_spec import RunSpec
from scaling.train import gradient_noise, stacked_step
from scaling.train.lockstep import Clock, train_stack
from scaling.train.optimizers import joined
from scaling.train.stacked_step import Stack
from tests.examples import ENCODER, FAMILIES, TINY, asked, runtime_in
from tests.train.test_loop import DATA, StopAt, curve, final_weights, run, spec_for
from tests.train.test_step import TOLERANCE

LLAMA = replace(
    TINY, positions="rotary", norm="rmsnorm", activation="swiglu", bias=False, n_kv_heads=2, tied_embeddings=False
)
SPECS = {name: spec_for(model=shape, objective=objective) for name, (shape, objective) in FAMILIES.items()} | {
    "as in Llama": spec_for(model=LLAMA),
    "as in Pythia": spec_for(model=replace(TINY, positions="rotary", rotary_pct=0.5, parallel_residual=True)),
    "post-norm": spec_for(model=replace(TINY, norm_place="post", positions="sinusoidal")),
    "prefix": spec_for(objective=Prefix("prefix", 0.1, 0.5)),
    "plain head": spec_for(model=replace(ENCODER, head_transform=False), objective=FAMILIES["encoder"][1]),
}
LOSSES = ("train_loss", "val_loss")


@pytest.fixture(autouse=True)
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many runs each step was taken of at once."""
    counts: list[int] = []
    take = Stack.take

    def count(self: Stack, asks: Sequence[Any]) -> Any:
        counts.append(len(asks))
        return take(self, asks)

    monkeypatch.setattr(Stack, "take", count)
    return counts


def varied(spec: RunSpec, runs: int = 3) -> list[RunSpec]:
    """The spec with other seeds and, as they may, other learning rates, decays and warm-ups."""
    adam, schedule = spec.recipe.optimizer, spec.recipe.schedule
    return [
        replace(
            spec,
            seed=k,
            recipe=replace(
                spec.recipe,
                optimizer=replace(adam, learning_rate=adam.learning_rate * 2**k, weight_decay=0.1 * k),
                schedule=replace(schedule, warmup_steps=schedule.warmup_steps + k),
            ),
        )
        for k in range(runs)
    ]


def together(
    specs: Sequence[RunSpec], path: Path, reporters: Sequence[Reporter] | None = None, **changes: Any
) -> list[RunRecord | BaseException]:
    runtime = runtime_in(path, **changes)
    return train_stack([asked(spec, DATA, runtime, 1e6) for spec in specs], reporters or [Reporter() for _ in specs])


def assert_alike(ours: RunRecord | BaseException, alone: RunRecord, path: Path, spec: RunSpec) -> None:
    """Two records of a run, trained in "stack" and "alone", which agree up to rounding."""
    assert isinstance(ours, RunRecord)
    rows, others = curve(path / "stack", spec), curve(path / "alone", spec)
    assert len(rows) == len(others)
    for row, other in zip(rows, others, strict=True):
        assert row.keys() == other.keys()
        for name in row.keys() - {"grad_square", "grad_trace", "val_bpb"}:
            assert row[name] == pytest.approx(other[name], rel=TOLERANCE if name in LOSSES else 1e-3), name
    for name in ("params_by_group", "train_flops", "paid_flops", "eval_flops", "predicted_tokens", "steps", "status"):
        assert getattr(ours, name) == getattr(alone, name), name
    assert ours.val_loss_nats == pytest.approx(alone.val_loss_nats, rel=TOLERANCE)


@pytest.mark.parametrize("name", SPECS)
def test_every_run_of_a_stack_is_the_run_trained_alone(name: str, tmp_path: Path, taken: list[int]) -> None:
    specs = varied(SPECS[name])
    stacked = together(specs, tmp_path / "stack", log_points=40)
    assert taken == [3] * 40
    losses = set()
    for spec, ours in zip(specs, stacked, strict=True):
        assert_alike(ours, run(spec, tmp_path / "alone", log_points=40), tmp_path, spec)
        weights, others = final_weights(tmp_path / "stack", spec), final_weights(tmp_path / "alone", spec)
        for key, weight in weights.items():
            if key.endswith(("qkv.bias", "kv.bias")):
                continue  # a key's bias moves no softmax: its gradient is rounding, which Adam makes as large as any
            torch.testing.assert_close(weight, others[key], rtol=1e-3, atol=1e-4)
        losses.add(curve(tmp_path / "stack", spec)[-1]["train_loss"])
    assert len(losses) == 3


@pytest.mark.parametrize(
    "kind",
    [
        "muon",
        "mup",
        "completep",
        "bf16",
        "unclipped",
        pytest.param(  # the compiler warns about itself
            "compiled", marks=[pytest.mark.long, pytest.mark.filterwarnings("ignore")]
        ),
    ],
)
def test_every_recipe_can_be_stacked(kind: str, tmp_path: Path) -> None:
    recipe = SPECS["decoder"].recipe
    if kind == "compiled":
        if shutil.which("g++") is None:
            pytest.skip("there is no compiler")
        recipe = replace(recipe, compile=True)
    elif kind == "muon":
        recipe = replace(recipe, optimizer=replace(recipe.optimizer, kind="muon"))
    elif kind == "bf16":
        recipe = replace(recipe, precision="bf16")
    elif kind == "unclipped":
        recipe = replace(recipe, optimizer=replace(recipe.optimizer, clip_norm=None))
    else:
        optimizer, scaled = parametrize(kind, TINY, Base(8, 1, 2), recipe.optimizer)
        recipe = replace(recipe, optimizer=optimizer, parametrization=scaled)
    specs = varied(replace(SPECS["decoder"], recipe=recipe), 2)
    for spec, ours in zip(specs, together(specs, tmp_path / "stack"), strict=True):
        alone = run(spec, tmp_path / "alone")
        if kind == "bf16":  # a bfloat16 rounds at its third digit
            assert isinstance(ours, RunRecord)
            assert ours.val_loss_nats == pytest.approx(alone.val_loss_nats, rel=1e-2)
        else:
            assert_alike(ours, alone, tmp_path, spec)


def test_seeds_are_updated_by_one_optimizer_in_each_ones_own_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gradient_noise, "EVERY", 5)
    found: list[Any] = []
    monkeypatch.setattr(stacked_step, "joined", lambda optimizers: found.append(joined(optimizers)) or found[-1])
    specs = [replace(SPECS["decoder"], seed=seed) for seed in range(3)]
    together(specs, tmp_path / "stack", [Reporter(), StopAt(20), Reporter()])
    for spec, ours in zip(specs, together(specs, tmp_path / "stack"), strict=True):
        assert_alike(ours, run(spec, tmp_path / "alone"), tmp_path, spec)
    assert found
    assert None not in found
    together(varied(SPECS["decoder"], 2), tmp_path / "varied")
    assert found[-1] is None


def test_a_step_that_measures_its_noise_measures_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradient_noise, "EVERY", 5)
    specs = varied(SPECS["encoder"], 2)  # whose batches predict different numbers of tokens
    for spec, ours in zip(specs, together(specs, tmp_path / "stack"), strict=True):
        assert_alike(ours, run(spec, tmp_path / "alone"), tmp_path, spec)
        rows, others = curve(tmp_path / "stack", spec), curve(tmp_path / "alone", spec)
        for name in ("grad_square", "grad_trace"):
            found, expected = ([row.get(name) for row in each] for each in (rows, others))
            assert [one is None for one in found] == [one is None for one in expected]
            assert any(one is not None for one in found)
            for one, other in zip(found, expected, strict=True):
                assert one is None or one == pytest.approx(other, rel=1e-2)


def test_a_batch_in_parts_is_taken_by_each_alone_bit_for_bit(tmp_path: Path) -> None:
    specs = varied(SPECS["decoder"], 2)
    for spec, ours in zip(specs, together(specs, tmp_path / "stack", micro_batch_sequences=3), strict=True):
        assert isinstance(ours, RunRecord)
        assert ours.weights_sha256 == run(spec, tmp_path / "alone", micro_batch_sequences=3).weights_sha256


def test_a_run_that_blows_up_or_fails_leaves_the_others_alone(tmp_path: Path, taken: list[int]) -> None:
    specs = varied(SPECS["decoder"], 4)
    adam = specs[1].recipe.optimizer
    specs[1] = replace(specs[1], recipe=replace(specs[1].recipe, optimizer=replace(adam, learning_rate=1e9)))

    class Failing(Reporter):
        def row(self, row: dict[str, Any]) -> None:
            raise OSError("no space left on device")

    reporters = [Reporter(), Reporter(), Failing(), Reporter()]
    first, blown, failed, last = together(specs, tmp_path / "stack", reporters)
    assert taken[0] == 4
    assert taken[-1] == 2
    assert isinstance(blown, RunRecord)
    assert blown.status == "diverged"
    assert isinstance(failed, OSError)
    end = json.loads((tmp_path / "stack" / "s" / specs[2].run_id / "attempts" / "0001" / "end.json").read_text())
    assert (end["status"], end["why"]) == ("failed", "OSError: no space left on device")
    for spec, ours in ((specs[0], first), (specs[3], last)):
        assert_alike(ours, run(spec, tmp_path / "alone"), tmp_path, spec)


def test_a_step_that_fails_is_every_runs_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(self: Stack, asks: Sequence[Any]) -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Stack, "take", out_of_memory)
    specs = varied(SPECS["decoder"], 2)
    assert [str(one) for one in together(specs, tmp_path)] == ["out of memory"] * 2
    for spec in specs:
        end = json.loads((tmp_path / "s" / spec.run_id / "attempts" / "0001" / "end.json").read_text())
        assert end["status"] == "failed"


def test_a_stopped_stack_goes_on_from_its_checkpoints_stacked_or_alone(tmp_path: Path) -> None:
    specs = varied(SPECS["decoder"], 3)
    stopped = together(specs, tmp_path / "stack", [Reporter(), StopAt(20), Reporter()])
    assert all(isinstance(one, KeyboardInterrupt) for one in stopped)
    kept = [one.name for spec in specs for one in (tmp_path / "stack" / "s" / spec.run_id / "checkpoint").iterdir()]
    assert {name.partition("-")[0] for name in kept} == {"0001"}
    alone = run(specs[0], tmp_path / "stack")
    _, *others = together(specs, tmp_path / "stack")
    for spec, ours in zip(specs, [alone, *others], strict=True):
        assert isinstance(ours, RunRecord)
        assert ours.attempts == 2
        assert_alike(ours, run(spec, tmp_path / "alone"), tmp_path, spec)


def test_a_finished_run_is_not_trained_again_and_a_rest_of_one_alone(tmp_path: Path, taken: list[int]) -> None:
    specs = varied(SPECS["decoder"], 2)
    done = run(specs[0], tmp_path)
    again, other = together(specs, tmp_path)
    assert again == done
    assert isinstance(other, RunRecord)
    assert taken == []


def test_seconds_are_those_of_the_slot(tmp_path: Path) -> None:
    """The steps of a stack are shared out: all runs' seconds together are no more than have passed."""
    specs = varied(SPECS["decoder"], 3)
    started = time.perf_counter()
    records = [one for one in together(specs, tmp_path) if isinstance(one, RunRecord)]
    passed = time.perf_counter() - started
    assert 0 < sum(one.train_s for one in records) <= sum(one.wall_s for one in records) < passed
    assert max(one.train_s for one in records) < 1.5 * min(one.train_s for one in records)


def test_a_clock_counts_its_own_time_and_shares() -> None:
    clock = Clock()
    clock.add(2.0)
    assert clock.read() == 2.0
    clock.start()
    first = clock.read()
    assert first >= 2.0
    clock.stop()
    held = clock.read()
    assert held >= first
    assert clock.read() == held


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"dropout": 0.1}, "dropout is drawn"),
        ({"positions": "relative"}, "relative positions"),
        (
            {"d_model": 48},
            "may differ in the seed and in the optimizer's numbers, and differ in more; train them apart",
        ),
    ],
)
def test_what_cannot_be_stacked_is_refused(changes: dict[str, Any], why: str, tmp_path: Path) -> None:
    plain = SPECS["decoder"]
    with pytest.raises(ValueError, match=why):
        together([plain, replace(plain, seed=1, model=replace(TINY, **changes))], tmp_path)
    assert not (tmp_path / "s").exists()


def test_what_runs_must_have_in_common() -> None:
    spec = SPECS["decoder"]
    (first, *others) = varied(spec)
    assert all(stacks.stack_id(first) == stacks.stack_id(other) for other in others)
    recipe = spec.recipe
    for other in (
        replace(spec, val_tokens=8),
        replace(spec, recipe=replace(recipe, steps=41)),
        replace(spec, recipe=replace(recipe, batch_sequences=4)),
        replace(spec, recipe=replace(recipe, precision="bf16")),
        replace(spec, recipe=replace(recipe, optimizer=replace(recipe.optimizer, kind="muon"))),
        replace(spec, recipe=replace(recipe, optimizer=replace(recipe.optimizer, clip_norm=0.5))),
    ):
        assert stacks.stack_id(other) != stacks.stack_id(spec)
    assert stacks.stack_id(replace(spec, model=replace(TINY, dropout=0.1))) is None
    assert stacks.stack_id(replace(spec, model=replace(ENCODER, segments=True))) is None


def test_every_layer_with_weights_has_a_twin() -> None:
    """Else it would read the first model's weights for all: no spec here that is stacked may hold another."""
    for name, spec in SPECS.items():
        for path, layer in build(spec.model, 0).named_modules():
            own = dict(layer.named_parameters(recurse=False))
            if own and type(layer) not in STACKED:
                assert (path, set(own)) == ("", {"head_bias"}), name
