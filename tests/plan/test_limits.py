"""Plans that nobody can mean: a batch of millions of tokens, a single step, a budget that whole steps miss."""

from pathlib import Path

import pytest

from scaling.cli import main

SMALL = ["data=synthetic", "data.source.tokens=10000", "model.n_layers=1", "model.d_model=16", "model.n_heads=2"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("command", [["plan"], ["train"], ["train", "-m"]])
@pytest.mark.parametrize(
    ("batch", "parts"),
    [
        ("28e6", ("1 step of 28M tokens cost ", "% off the 1e+09 asked for, beyond budget.tolerance=0.1")),
        ("4096", ("7 steps of 4.1k tokens, fewer than budget.least_steps=20",)),
    ],
)
def test_an_absurd_plan_is_refused_with_its_numbers(
    command: list[str], batch: str, parts: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, *SMALL, "budget.flops=1e9", f"recipe.batch_tokens={batch}"]) == 2
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith(f"scaling {command[0]}: ")
    assert all(part in last for part in (*parts, "a smaller recipe.batch_tokens")), last


def test_the_limits_are_settings(capsys: pytest.CaptureFixture[str]) -> None:
    few = [*SMALL, "budget.flops=1e9", "recipe.batch_tokens=4096"]
    assert main(["plan", *few, "budget.least_steps=1"]) == 0
    assert main(["plan", *few, "budget.least_steps=1", "budget.tolerance=0.001"]) == 2
    assert main(["plan", *few, "budget.least_steps=0"]) == 2
    assert main(["plan", *few, "budget.tolerance=-1"]) == 2
    assert capsys.readouterr().err.count("budget.tolerance=") == 2


def test_of_several_runs_the_worst_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *SMALL, "recipe.batch_tokens=1024", "budget.flops=2e8,4e8,1e11"]) == 2
    assert "budget.flops=200000000.0 (the worst of 2 of 3 runs): " in capsys.readouterr().err


def test_more_devices_than_a_batch_has_sequences_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    wide = [*SMALL, "model.context=64", "recipe.batch_tokens=192", "budget.flops=1e9"]
    assert main(["plan", *wide, "runtime.devices_per_run=3"]) == 0
    assert main(["plan", *wide, "runtime.devices_per_run=4"]) == 2
    words = "runtime.devices_per_run=4, and a batch has 3 sequences, of which each device takes one at least; choose "
    assert f"{words}runtime.devices_per_run=3" in capsys.readouterr().err
    assert main(["plan", *wide, "runtime.devices_per_run=0"]) == 2
    assert main(["plan", *wide, "runtime.rank_timeout_s=0"]) == 2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            ["parallel=fsdp"],
            "runtime.parallel=fsdp shards a model over several devices, and runtime.devices_per_run=1;",
        ),
        (["parallel=hsdp", "devices_per_run=3"], "runtime.devices_per_run=3; choose an even number from 4 on, or"),
        (["parallel=hsdp", "devices_per_run=2"], "runtime.devices_per_run=2; choose an even number from 4 on, or"),
        (["parallel=fsdp", "devices_per_run=2", "cuda_graphs=true"], "cannot be recorded; choose runtime.cuda_graphs="),
        (["parallel=zero", "devices_per_run=2"], "runtime.parallel='zero': choose from auto, ddp, fsdp, hsdp"),
    ],
)
def test_a_kind_of_parallelism_that_a_run_cannot_have_is_refused(
    settings: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = [*SMALL, "model.context=64", "recipe.batch_tokens=256", "budget.flops=1e9"]
    assert main(["plan", *wide, *(f"runtime.{setting}" for setting in settings)]) == 2
    assert words in capsys.readouterr().err
    assert main(["plan", *wide, "runtime.parallel=hsdp", "runtime.devices_per_run=4"]) == 0


def test_a_stack_of_sharded_runs_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    sharded = ["budget.flops=1e9", "runtime.devices_per_run=2", "runtime.parallel=fsdp"]
    assert main(["plan", *SMALL, *sharded, "stack=2"]) == 2
    assert "stack=2 and runtime.parallel=fsdp: a stack's runs share one device" in capsys.readouterr().err
