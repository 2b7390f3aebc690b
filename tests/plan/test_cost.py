"""The cost of a plan on machines that are not here."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from scaling.cli import main
from scaling.machine.devices import DEVICES

ASKED = ["plan", "data=synthetic", "model.d_model=64,128,256", "budget.flops=1e14"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def planned(*options: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main([*ASKED, *options, "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_the_sums_follow_from_the_runs(capsys: pytest.CaptureFixture[str]) -> None:
    document = planned("--on", "a100", "--count", "2", "--usd-per-hour", "2", capsys=capsys)
    cost, seconds = document["cost"], [run["estimated_s"] for run in document["runs"]]
    assert seconds == sorted(seconds, reverse=True)
    assert cost["gpu_hours"] == pytest.approx(sum(seconds) / 3600)
    assert cost["wall_s"] == pytest.approx(max(seconds[0], seconds[1] + seconds[2]))
    assert cost["usd"] == pytest.approx(2 * 2 * cost["wall_s"] / 3600)
    assert cost["kwh"] == pytest.approx(cost["gpu_hours"] * 0.4)
    assert 0 < cost["efficiency"][0] < cost["efficiency"][1] < 0.4
    assert not cost["measured"]
    assert cost["too_large"] == []
    alone = planned("--on", "a100", capsys=capsys)["cost"]
    assert alone["wall_s"] == pytest.approx(sum(seconds))
    assert alone["usd"] is None
    assert planned(capsys=capsys)["cost"] is None


def test_the_plan_states_cost_and_its_grounds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ASKED, "--on", "H100", "--count", "8", "--usd-per-hour", "2.5"]) == 0
    printed = capsys.readouterr().out
    assert "on 8 x NVIDIA H100 SXM: " in printed
    assert "at $2.5 an hour for each" in printed
    assert "kWh at 700 W" in printed
    assert "(assumed, none was measured)" in printed
    assert DEVICES["h100"].source in printed


def test_a_model_beyond_the_memory_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    huge = ["model=llama", "model.n_layers=80", "model.d_model=8192", "model.n_heads=64", "budget.flops=1e24"]
    assert main(["plan", "data=synthetic", *huge, "--on", "l4"]) == 0
    printed = capsys.readouterr().out
    assert "do not fit into 24 GB even by single sequences" in printed
    devices = int(re.findall(r"; (\d+) devices hold it", printed)[0])
    auto = ["plan", "data=synthetic", *huge, "runtime.devices_per_run=auto", "runtime.recompute_activations=true"]
    auto += ["recipe.batch_tokens=1e7", "--on", "l4"]
    assert devices > 16
    assert main([*auto, "--count", "16"]) == 2
    assert "16 devices do not hold a step of single sequences in 24 GB each;" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--on", "h1000"], "unknown device 'h1000': did you mean 'h100'? choose from a10,"),
        (["--on", "h100", "--count", "0"], "--count 0: must be at least 1"),
        (["--on", "h100", "--usd-per-hour", "-1"], "--usd-per-hour -1: must be 0 or above"),
        (["--count", "8"], "name it with --on, as --on h100"),
    ],
)
def test_mistakes_are_one_line(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ASKED, *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_run_takes_a_slot_for_each_of_its_devices(capsys: pytest.CaptureFixture[str]) -> None:
    alone = planned("--on", "a100", "--count", "4", capsys=capsys)
    shared = planned("--on", "a100", "--count", "4", "runtime.devices_per_run=2", capsys=capsys)
    seconds = [run["estimated_s"] for run in shared["runs"]]
    slot_s = [2 * time for time in seconds]
    assert slot_s == sorted(slot_s, reverse=True)
    assert [run["run_id"] for run in shared["runs"]] == [run["run_id"] for run in alone["runs"]]
    for run, whole in zip(shared["runs"], alone["runs"], strict=True):
        assert run["devices_per_run"] == 2
        assert run["memory_bytes"] < whole["memory_bytes"]
        exchange = 0.5e-3 + 4 * run["n_params"]["total"] / 100e9  # a ring of two sends every gradient once
        layers = 2e-3 + run["n_layers"] * 0.5e-3
        arithmetic = whole["estimated_s"] / whole["steps"] - layers
        assert run["estimated_s"] == pytest.approx(run["steps"] * (layers + arithmetic / 2 + exchange))
    assert shared["estimated_s"] == pytest.approx(sum(slot_s))
    assert shared["cost"]["gpu_hours"] == pytest.approx(sum(slot_s) / 3600)
    assert shared["cost"]["wall_s"] == pytest.approx(max(seconds[0], seconds[1] + seconds[2]))
    assert main([*ASKED, "--on", "a100", "--count", "1", "runtime.devices_per_run=2"]) == 2
    assert "--count 1: a run of the plan takes runtime.devices_per_run=2" in capsys.readouterr().err


def test_the_exchange_between_nodes_is_priced_at_their_speed_and_a_sharded_one_beside_the_arithmetic(
    capsys: pytest.CaptureFixture[str],
) -> None:
    wide = ["--on", "h100", "--count", "16", "runtime.devices_per_run=16", "recipe.batch_tokens=65536"]
    one = planned(*wide, capsys=capsys)["runs"]
    two = planned(*wide, "runtime.nodes_per_run=2", capsys=capsys)["runs"]
    for at_home, apart in zip(one, two, strict=True):
        gradients = 4 * at_home["n_params"]["total"]
        within, between = 2 * 7 / 8 * gradients / 100e9, 2 * 1 / 2 * gradients / 50e9
        further = within + between - 2 * 15 / 16 * gradients / 100e9
        assert (apart["nodes_per_run"], apart["run_id"]) == (2, at_home["run_id"])
        assert apart["estimated_s"] - at_home["estimated_s"] == pytest.approx(apart["steps"] * further)
    sharded = planned(*wide, "runtime.nodes_per_run=2", "runtime.parallel=fsdp", capsys=capsys)["runs"]
    for apart, shard in zip(two, sharded, strict=True):
        assert (apart["parallel"], shard["parallel"]) == ("auto", "fsdp")
        parameters = shard["n_params"]["total"]  # in float32: two gathers of weights, one sum of gradients
        exchange = 0.5e-3 + 12 * parameters * (7 / 8 / 100e9 + 1 / 2 / 50e9)
        layers = 2e-3 + shard["n_layers"] * 0.5e-3
        assert shard["estimated_s"] >= shard["steps"] * max(layers, exchange)
        assert shard["estimated_s"] < apart["estimated_s"] + shard["steps"] * exchange
