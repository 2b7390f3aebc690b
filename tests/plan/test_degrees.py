"""The plan decides how many devices train a run: the fewest that hold it and end it in time."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scaling.cli import main
from scaling.config.config import compose, to_run
from scaling.plan import degrees
from scaling.plan.degrees import NODE, Machine, machine_of, with_devices, with_devices_of
from scaling.plan.plan import price
from scaling.plan.run import Run
from scaling.plan.work import read_work
from scaling.records.attempt import run_state
from scaling.spec.memory import FREE_SHARE, step_bytes

ASKED = ("data=synthetic", "data.source.tokens=100000", "recipe.batch_tokens=16384", "runtime.devices_per_run=auto")
LARGE = ("model=llama", "model.n_layers=12", "model.d_model=1024", "model.n_heads=16", "recipe.precision=bf16")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run_for(*settings: str) -> Run:
    return to_run(compose([*ASKED, *LARGE, "budget.flops=1e18", *settings]))


def decided(run: Run, machine: Machine) -> tuple[int, int, str]:
    (found,) = with_devices([run], machine)
    assert not found.runtime.devices_by_plan
    assert found.spec.run_id == run.spec.run_id
    return found.runtime.devices_per_run, found.runtime.nodes_per_run, found.runtime.parallel


def machine(memory_bytes: float, count: int = 64, per_node: int = 8) -> Machine:
    return Machine("h100", count, per_node, memory_bytes)


def test_the_fewest_devices_hold_a_run_sharded_only_where_they_must() -> None:
    run = run_for()
    whole, *sharded = (step_bytes(run.spec, 1, False, shards=k) / FREE_SHARE for k in (1, 2, 4, 8, 16))
    assert whole > sharded[0] > sharded[1] > sharded[2] > sharded[3]
    assert decided(run, machine(whole)) == (1, 1, "ddp")
    assert decided(run, machine(whole - 1)) == (2, 1, "fsdp")
    assert decided(run, machine(sharded[0] - 1)) == (4, 1, "fsdp")
    assert decided(run, machine(sharded[2] - 1)) == (16, 2, "fsdp")
    assert decided(run, machine(sharded[2] - 1, per_node=2)) == (16, 8, "fsdp")


def test_a_run_ends_within_its_hours_on_the_fewest_devices() -> None:
    def seconds(devices: int) -> float:
        asked = [f"runtime.devices_per_run={devices}", f"runtime.nodes_per_run={max(1, devices // NODE)}"]
        run = to_run(compose([*ASKED[:-1], *LARGE, "budget.flops=1e18", *asked]))
        return price(run, run_state(run.directory), "h100").estimated_s

    one, two, four, eight, sixteen = map(seconds, (1, 2, 4, 8, 16))
    assert one > two > four > eight
    for limit_s, devices in ((one, 1), (two, 2), (1.01 * four, 4), (1.01 * eight, 8)):
        run = run_for(f"budget.run_hours={1.0001 * limit_s / 3600!r}")
        assert decided(run, machine(80e9)) == (devices, 1, "ddp")
    with pytest.raises(ValueError, match=r"4 devices do not end it within budget.run_hours=.*; 8 do \(--count 8"):
        with_devices([run], machine(80e9, count=4))
    hopeless = run_for(f"budget.run_hours={sixteen / 360000!r}")
    with pytest.raises(ValueError, match=r"64 devices do not end it .*more devices do not either, the fastest take"):
        with_devices([hopeless], machine(80e9))


def test_a_run_that_nothing_holds_is_refused_with_a_remedy() -> None:
    with pytest.raises(ValueError, match=r"2 devices do not hold a step of single sequences in 1 MB each; more devic"):
        with_devices([run_for()], machine(1e6, count=2))
    sharded = step_bytes(run_for().spec, 1, False, shards=4) / FREE_SHARE
    with pytest.raises(ValueError, match=r"2 devices do not hold .*; 4 do \(--count 4, or a larger launcher\)"):
        with_devices([run_for()], machine(sharded, count=2))
    with pytest.raises(ValueError, match="1 device does not hold"):  # its shares cannot be held by sharding
        with_devices([run_for("runtime.parallel=ddp")], machine(sharded, count=1))


def test_a_number_that_is_given_stays() -> None:
    run = to_run(compose([*ASKED[:-1], *LARGE, "budget.flops=1e18", "runtime.devices_per_run=3"]))
    assert with_devices([run], machine(80e9)) == [run]


def test_nothing_is_asked_about_the_machine_where_every_number_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: Any) -> Machine:
        raise AssertionError("the machine was looked at")

    monkeypatch.setattr(degrees, "machine_of", asked)
    run = to_run(compose([*ASKED[:-1], *LARGE, "budget.flops=1e18", "runtime.devices_per_run=3"]))
    assert with_devices_of({}, [run]) == [run]
    with pytest.raises(AssertionError, match="was looked at"):
        with_devices_of({}, [run, run_for()])


def test_processes_of_a_cpu_share_its_memory() -> None:
    run = run_for()
    here = Machine("cpu", 4, 4, step_bytes(run.spec, 1, False) / FREE_SHARE)
    assert decided(run, here) == (1, 1, "ddp")
    limited = replace(run, budget=replace(run.budget, run_hours=1e-6))
    with pytest.raises(ValueError, match="4 devices do not end it"):
        with_devices([limited], here)


def test_a_launcher_states_the_devices_and_gpus_elsewhere_cannot_be_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("scaling.plan.seconds.gpu_ids", lambda: ())
    runs = [run_for()]
    local: dict[str, Any] = {"name": "local", "slots": 3, "threads_per_slot": 1}
    assert machine_of(local, runs).count == 3
    slurm = {"name": "slurm", "array_parallel": None, "gpus": 0, "cpus": 4, "nodes": 2}
    assert (machine_of(slurm, runs).count, machine_of(slurm, runs).per_node) == (8, 4)
    with pytest.raises(ValueError, match=r"devices_per_run=auto: hydra.launcher.gpus=8 are elsewhere, and no GPU is h"):
        machine_of(slurm | {"gpus": 8}, runs)


def test_the_plan_shows_and_writes_what_it_decided(capsys: pytest.CaptureFixture[str]) -> None:
    cells = [*ASKED, *LARGE, "budget.flops=1e17,3e18", "budget.run_hours=2", "study=s"]
    assert main(["plan", *cells, "--on", "h100", "--count", "64", "--write"]) == 0
    table = capsys.readouterr().out.partition("timeline")[0]
    work = read_work(Path("runs/s"))
    found = {f"{line['requested_flops']:.0e}": line["devices_per_run"] for line in work.lines}
    assert found["1e+17"] == 1
    assert found["3e+18"] > 2
    for line in work.lines:
        run = work.run(line["run_id"])
        assert (run.runtime.devices_per_run, run.runtime.devices_by_plan) == (line["devices_per_run"], False)
        assert (run.runtime.nodes_per_run, run.runtime.parallel) == (line["nodes_per_run"], line["parallel"])
        (row,) = [row for row in table.splitlines() if row.startswith(line["run_id"])]
        assert f"  {line['devices_per_run']}  " in row
    assert main(["plan", *cells, "--on", "h100", "--count", "2"]) == 2
    assert "budget.flops=3e+18: 2 devices do not end it within budget.run_hours=2; " in capsys.readouterr().err
    assert main(["plan", *cells, "runtime.devices_per_run=many"]) == 2
    assert "given twice" in capsys.readouterr().err
    assert main(["plan", *ASKED[:-1], "runtime.devices_per_run=many"]) == 2
    assert "runtime.devices_per_run=many: must be at least 1, a run a device, or auto" in capsys.readouterr().err


def test_a_plan_for_this_machine_trains_as_it_decided(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["model.n_layers=1", "model.d_model=16", "model.n_heads=2", "model.context=32", "budget.flops=2e10"]
    assert main(["plan", *ASKED, *small, "--json"]) == 0
    (line,) = json.loads(capsys.readouterr().out)["runs"]
    assert (line["devices_per_run"], line["parallel"]) == (1, "ddp")
