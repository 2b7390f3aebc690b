"""Step times: the speed behind measured steps is found again, and plans reckon with it."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from scaling.cli import main
from scaling.config.config import compose, to_run
from scaling.launch.exit_codes import INTERRUPTED
from scaling.launch.jobs import Job
from scaling.launch.local import Local
from scaling.machine.speed import ASSUMED, Speed, fit_speed, remember, speed
from scaling.plan.plan import make_plan
from scaling.profiling import bench
from scaling.profiling.bench import Case, time_case, ways_to_time
from scaling.records.attempt import PREEMPTED
from scaling.shapes.flops import train_flops_per_sequence
from tests.examples import GPT2

TRUTH = Speed(step_s=1e-3, layer_s=2e-4, flops_per_s=5e10)


def test_the_speed_behind_measured_steps_is_found() -> None:
    shapes = [(1, 1e6), (8, 1e6), (2, 1e9), (6, 3e8)]
    found = fit_speed([(layers, flops, TRUTH.step(layers, flops)) for layers, flops in shapes])
    assert (found.step_s, found.layer_s, found.flops_per_s) == pytest.approx((1e-3, 2e-4, 5e10), rel=1e-6)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([(1, 1e6, 1e-3)] * 2, "2 measured shapes do not determine a speed; measure at least 3"),
        ([(1, 1e6, 1e-3), (1, 1e9, 1e-3), (1, 1e10, 1e-3)], "do not grow with their arithmetic"),
    ],
)
def test_too_little_to_tell_a_speed_by_is_refused(samples: list[tuple[int, float, float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_speed(samples)


def test_plans_reckon_with_the_measured_speed_and_say_when_there_is_none(tmp_path: Path) -> None:
    run = to_run(compose(["data=synthetic", "data.source.tokens=20000", "budget.flops=1e9", f"runs_dir={tmp_path}"]))
    assumed = make_plan([run], None)
    assert not assumed.timed_here
    remember(run.runtime.cache_dir, "cpu", "bf16", ASSUMED["cpu"])
    remember(run.runtime.cache_dir, "cpu", "fp32", TRUTH)
    assert speed(run.runtime.cache_dir, "cpu", "fp32") == (TRUTH, True)
    measured = make_plan([run], None)
    assert measured.timed_here
    steps, layers = run.spec.recipe.steps, run.spec.model.n_layers
    expected = steps * (1e-3 + layers * 2e-4) + run.allocation.realised_flops / 5e10
    assert measured.runs[0].estimated_s == pytest.approx(expected, rel=1e-9)


def test_runs_side_by_side_are_counted_together() -> None:
    case = Case(1, 8, 1, 8, 2)
    place = Local(use_gpus=False, slots=2, threads_per_slot=1)
    timing = time_case(case, "fp32", place, 0.01, ASSUMED["cpu"])
    assert (timing.runs, timing.threads) == (2, 1)
    assert 0 < timing.step_s < 1
    shape = dataclasses.replace(GPT2, n_layers=1, d_model=8, n_heads=1, n_kv_heads=1, d_ff=32, context=8)
    shape = dataclasses.replace(shape, vocab_size=case.vocab_size, bias=False)
    flops_per_token = train_flops_per_sequence(shape) / 8
    assert timing.flops_per_s / timing.tokens_per_s == pytest.approx(flops_per_token)
    layers, flops, seconds = timing.sample
    assert layers == 1
    assert flops == pytest.approx(flops_per_token * case.batch_tokens)
    assert seconds == timing.step_s


def test_a_stacks_steps_are_the_slots() -> None:
    """Two slots of three runs each: a slot's second is divided between its runs, and counted once."""
    place = Local(use_gpus=False, slots=2, threads_per_slot=1)
    timing = time_case(Case(1, 8, 1, 8, 2), "fp32", place, 0.02, ASSUMED["cpu"], stacked=3)
    assert (timing.runs, timing.stacked) == (6, 3)
    assert timing.step_s == pytest.approx(2 * timing.case.batch_tokens / timing.tokens_per_s)
    _, flops, seconds = timing.sample
    assert flops / seconds == pytest.approx(timing.flops_per_s / 2)


def test_small_cases_are_timed_in_stacks_too() -> None:
    alone, sweep = Local(use_gpus=False, slots=1), Local(use_gpus=False, slots=2)
    small, large = Case(1, 8, 1, 8, 2), Case(1, 8, 1, 64, 64)
    ways = ways_to_time("cpu", [small, large], alone, sweep)
    assert [(case, launcher is alone, stacked) for case, launcher, stacked in ways] == [
        (small, True, 1),
        (small, False, 1),
        (small, False, 2),
        (small, False, 4),
        (large, True, 1),
        (large, False, 1),
    ]


def test_a_benchmark_states_first_when_it_will_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> float:
        raise ValueError("stop")

    monkeypatch.setattr(bench, "time_matmul", stop)
    monkeypatch.setattr(bench, "device_here", lambda: "cpu")
    assert main(["bench", "--seconds", "598", "--cache", str(tmp_path), "hydra.launcher.slots=1"]) == 2
    assert "9 timings: about 90.0 min, until about" in capsys.readouterr().err  # 7 shapes, one of them in 2 stacks


def test_a_benchmark_that_is_interrupted_ends_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(launcher: Local, jobs: Sequence[Job], *_: object) -> None:
        for job in jobs:
            job.status, job.why = PREEMPTED, "stopped"

    monkeypatch.setattr(Local, "run", stopped)
    monkeypatch.setattr(bench, "device_here", lambda: "cpu")
    assert main(["bench", "--cache", str(tmp_path), "hydra.launcher.slots=1"]) == INTERRUPTED
    assert capsys.readouterr().err.splitlines()[-1] == "scaling bench: interrupted"
