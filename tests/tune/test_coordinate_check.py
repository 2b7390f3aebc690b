"""The coordinate check: flat under a right parametrization, and not flat once any one of its multipliers is gone."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from scaling.analysis.figures.coordinate_check import coordinate_check
from scaling.analysis.studies.coordinate_check import Sample, Slope, slopes, table
from scaling.cli import main
from scaling.config.config import compose, to_run
from scaling.data.cache import TokenData
from scaling.data.prepare import prepare
from scaling.spec.run_spec import RunSpec
from scaling.tune.coordinate_check import CheckedModel, measure

SMALL = (
    "recipe=completep",
    "data=synthetic",
    "data.source.tokens=20000",
    "model.context=16",
    "model.tied_embeddings=false",
    "recipe.base_d_model=32",
    "recipe.base_n_layers=2",
    "recipe.base_head_width=8",
    "recipe.clip_norm=null",
)
# Settings that outweigh all else in a step.
FELT = {
    "": (),
    "eps": ("recipe.eps=10", "recipe.weight_decay.value=0"),
    "decay": ("recipe.weight_decay.value=30",),
}
STEPS, GROWN = 4, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path_factory.mktemp("cache")
    torch.set_num_threads(threads)


@cache
def cell_of(folder: Path, axis: str, factor: int, felt: str) -> tuple[RunSpec, TokenData]:
    width, depth = (factor, 2) if axis == "width" else (1, 2 * factor)
    shape = (f"model.d_model={32 * width}", f"model.n_layers={depth}", "model.n_heads=4")
    run = to_run(compose([*SMALL, *FELT[felt], *shape, f"cache_dir={folder}"]))
    return run.spec, prepare(run.data, run.spec.data, folder, progress=False)


@cache
def base(folder: Path, felt: str) -> list[Any]:
    spec, tokens = cell_of(folder, "width", 1, felt)
    return [measure(CheckedModel("completep", "width", 1), spec, tokens, STEPS, seed) for seed in range(2)]


def checked(folder: Path, axis: str, felt: str = "", **removed: Any) -> dict[tuple[str, str], Slope]:
    """The slopes along an axis; `removed` are settings of the grown model's recipe instead of its own."""
    spec, tokens = cell_of(folder, axis, GROWN, felt)
    parametrization = spec.recipe.parametrization
    assert parametrization is not None
    optimizer, multipliers = spec.recipe.optimizer, parametrization.multipliers
    if "eps" in removed:
        optimizer = replace(optimizer, eps=removed.pop("eps"))
    ours = {name: removed.pop(name) for name in vars(multipliers) if name in removed}
    parametrization = replace(parametrization, multipliers=replace(multipliers, **ours), **removed)
    spec = replace(spec, recipe=replace(spec.recipe, optimizer=optimizer, parametrization=parametrization))
    grown = [measure(CheckedModel("completep", axis, GROWN), spec, tokens, STEPS, seed) for seed in range(2)]
    samples = [
        Sample("completep", axis, part, name, found.cell.factor, value)
        for found in (*base(folder, felt), *grown)
        for part in ("size", "change")
        for name, value in getattr(found, part).items()
    ]
    return {(slope.part, slope.quantity): slope for slope in slopes(samples)}


@pytest.mark.parametrize("axis", ["width", "depth"])
def test_completep_keeps_every_size_and_change(axis: str, folder: Path) -> None:
    found = checked(folder, axis)
    assert len(found) == 14
    assert {key: slope.exponent for key, slope in found.items() if slope.verdict != "ok"} == {}


@pytest.mark.parametrize(
    ("axis", "removed", "seen_in"),
    [
        ("depth", {"residual": 1.0}, ("change", "stream")),
        ("depth", {"residual_init": 1.0}, ("size", "mlp")),
        ("width", {"head_init": 1.0}, ("size", "logits")),
        ("width", {"scores": 1.0}, ("size", "scores")),
        ("width", {"logits": 1.0}, ("change", "logits")),
        ("width", {"hidden_learning_rate": 3e-3}, ("change", "weights")),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_without_any_one_multiplier_something_is_no_longer_flat(
    axis: str, removed: dict[str, float], seen_in: tuple[str, str], folder: Path
) -> None:
    slope = checked(folder, axis, **removed)[seen_in]
    assert slope.verdict != "ok", slope


@pytest.mark.parametrize("axis", ["width", "depth"])
def test_epsilon_falls_with_the_gradients_and_without_that_steps_vanish(axis: str, folder: Path) -> None:
    """Where epsilon outweighs them, a step is a gradient over epsilon, and is lost with the gradients' own fall.

    The limits are wider than elsewhere: a small initial stream, which falls with depth, makes larger gradients.
    """
    assert abs(checked(folder, axis, "eps")["change", "weights"].exponent) < 0.45
    assert checked(folder, axis, "eps", eps=10.0)["change", "weights"].exponent < -0.55


def test_decay_takes_the_same_share_of_hidden_weights_at_any_width(folder: Path) -> None:
    def share(found: dict[tuple[str, str], Slope]) -> float:
        return found["change", "weights"].exponent - found["size", "weights"].exponent

    assert abs(share(checked(folder, "width", "decay"))) < 0.1
    assert share(checked(folder, "width", "decay", hidden_weight_decay=30.0)) < -0.5


def test_slopes_are_exact_on_exact_powers_and_say_which_way_they_leave() -> None:
    samples = [
        Sample("mup", "width", "change", name, factor, 3.0 * factor**power)
        for name, power in {"stream": 1.0, "mlp": -0.3, "attention": 0.1}.items()
        for factor in (1, 2, 8)
    ]
    found = slopes(samples)
    assert [slope.exponent for slope in found] == pytest.approx([1.0, -0.3, 0.1])
    assert [slope.verdict for slope in found] == ["grows", "shrinks", "ok"]
    assert table(found)[1] == ("width", "change of stream", "0", "+1.00 grows")
    blown = slopes([*samples, Sample("mup", "width", "change", "mlp", 16, float("nan"))])
    assert blown[1].verdict == "grows"
    with pytest.raises(ValueError, match="a slope takes at least two"):
        slopes(samples[:1])
    chart = coordinate_check(samples, 6)
    assert len(chart.panels) == 1


def test_the_command_says_what_transfers_and_draws_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["check-transfer", "data=synthetic"]) == 2
    assert "promises no transfer to check; add recipe=mup" in capsys.readouterr().err
    assert main(["check-transfer", "data=synthetic", "recipe.parametrization=mup"]) == 2
    assert "recipe.base_d_model=None" in capsys.readouterr().err
    assert main(["check-transfer", "data=synthetic", "recipe=mup", "--widths", "4"]) == 2
    assert "--widths 4: a slope takes at least two" in capsys.readouterr().err
    few = ["--widths", "1,2", "--steps", "2", "--seeds", "1", "--out", "check.png"]
    small = [item if "completep" not in item else "recipe=mup" for item in SMALL]
    assert main(["check-transfer", *small, *few]) in (0, 1)
    told = capsys.readouterr().out
    assert "change of stream" in told
    assert (tmp_path / "check.png").stat().st_size > 10_000
