"""W&B online, by its own client against a loopback stub: training never waits, and what is missing is replayed."""

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb

from scaling.cli import main
from scaling.records.attempt import claim
from scaling.records.files import write_json
from scaling.records.life import Reporter
from scaling.records.record import read_metrics
from scaling.spec.run_spec import to_dict
from scaling.trackers import wandb_courier
from scaling.trackers.tracker import TrackedRun
from scaling.train.run import train_run
from tests.examples import asked, runtime_in
from tests.test_pipeline import SCALING
from tests.trackers.wandb_stub import Stub, StubRun
from tests.train.test_loop import DATA, StopAt, run, spec_for

SPEC = spec_for()
KEY = "0123456789" * 4


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    wandb.teardown()  # the client keeps the address that it was started with
    served = Stub().start()
    for name, value in {
        "WANDB_BASE_URL": served.url,
        "WANDB_API_KEY": KEY,
        "WANDB_DIR": str(tmp_path),
        "WANDB_CONFIG_DIR": str(tmp_path / "config"),
        "WANDB_CACHE_DIR": str(tmp_path / "wandb-cache"),
        "WANDB_X_DISABLE_STATS": "true",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr(wandb_courier, "STAGGER_S", 0.0)
    yield served
    served.stop()
    served.start()  # for rows that the client still has
    wandb.teardown()
    served.stop()


def trained(where: Path, **changes: Any) -> Any:
    settings = {"mode": "online", "project": "p", "dir": str(where), "tags": ["mine"]}
    return run(SPEC, where, trackers=("wandb",), tracker_settings=settings, **changes)


def losses(where: Path) -> list[float]:
    return [row["train_loss"] for row in read_metrics(where / "s" / SPEC.run_id)]


def sync(folder: Path) -> None:
    """Run wandb-sync as a user does, from another shell: this process's client still holds a run that it awaits."""
    shell = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}  # the client's own process
    subprocess.run([SCALING, "wandb-sync", folder / "s"], check=True, env=shell)


def test_an_online_run_arrives_under_its_own_id_with_every_row(tmp_path: Path, stub: Stub) -> None:
    record = trained(tmp_path)
    (run_id,) = stub.runs
    found = stub.runs[run_id]
    assert run_id == SPEC.run_id
    assert found.column("train/loss") == pytest.approx(losses(tmp_path))
    assert found.summary["status"] == "done"
    assert found.summary["val_loss_nats"] == pytest.approx(record.val_loss_nats)
    assert found.fields["groupName"] == "s"
    assert "mine" in found.fields["tags"]
    assert found.exits == [0]


def test_attempts_are_one_run_whose_rows_come_once(tmp_path: Path, stub: Stub) -> None:
    settings = {"mode": "online", "project": "p", "dir": str(tmp_path)}
    runtime = {"trackers": ("wandb",), "tracker_settings": settings, "checkpoint_every_s": 0.0}
    with pytest.raises(KeyboardInterrupt):
        train_run(asked(SPEC, DATA, runtime_in(tmp_path, **runtime), 1e6), StopAt(20))
    record = trained(tmp_path)
    assert record.attempts == 2
    (found,) = stub.runs.values()
    assert found.column("train/loss") == pytest.approx(losses(tmp_path))
    assert found.summary["status"] == "done"


def test_an_outage_from_the_start_costs_no_time_and_wandb_sync_sends_all(
    tmp_path: Path, stub: Stub, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_courier, "HURRY_S", 0.5)
    monkeypatch.setattr(wandb_courier, "END_S", 0.5)
    stub.stop()
    record = trained(tmp_path)
    assert record.status == "done"
    assert "`scaling wandb-sync` with the folder of study s sends what is missing" in capfd.readouterr().out
    assert not stub.runs
    stub.start()
    sync(tmp_path)
    # The rows may have arrived meanwhile: the courier of a process that goes on tries again by itself.
    assert "rows sent, status done" in capfd.readouterr().out
    assert stub.runs[SPEC.run_id].column("train/loss") == pytest.approx(losses(tmp_path))
    assert stub.runs[SPEC.run_id].summary["val_loss_nats"] == pytest.approx(record.val_loss_nats)


def test_training_waits_for_no_client_that_blocks(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("HURRY_S", "END_S", "STAGGER_S"):
        monkeypatch.setattr(wandb_courier, name, 0.1)
    asked, never = threading.Event(), threading.Event()

    def begin() -> None:
        asked.set()
        never.wait()

    courier = wandb_courier.Courier(TrackedRun("0123456789ab", "s", "pretrain", "a run", {}), begin)
    assert asked.wait(60)
    begun = time.monotonic()
    for step in range(1000):
        courier.take({"step": step, "tokens": step})
    courier.finish("done", {"val_loss_nats": 2.5})
    assert time.monotonic() - begun < 10
    assert "it has not taken the last rows yet" in capfd.readouterr().out
    never.set()


def test_wandb_sync_sends_a_study_once(tmp_path: Path, stub: Stub, capfd: pytest.CaptureFixture[str]) -> None:
    run(SPEC, tmp_path)
    sync = ["wandb-sync", str(tmp_path / "s"), "tracker.settings.project=p"]
    assert main(sync) == 0
    assert f"{SPEC.run_id}: 10 rows sent, status done" in capfd.readouterr().out
    assert stub.runs[SPEC.run_id].column("train/loss") == pytest.approx(losses(tmp_path))
    assert main(sync) == 0
    assert f"{SPEC.run_id}: 0 rows sent, status done" in capfd.readouterr().out
    assert stub.runs[SPEC.run_id].column("train/loss") == pytest.approx(losses(tmp_path))
    assert list(stub.runs) == [SPEC.run_id]
    assert stub.runs[SPEC.run_id].fields["project"] == "p"


@pytest.mark.long  # two clients of one run may send at once
def test_a_restart_and_rate_limits_in_the_middle_lose_no_row(tmp_path: Path, stub: Stub) -> None:
    class Restarting(Reporter):
        def row(self, row: dict[str, Any]) -> None:
            if row["step"] == 12:
                stub.stop()
            if row["step"] == 24:
                stub.limited = 2
                stub.start()

    settings = {"mode": "online", "project": "p", "dir": str(tmp_path)}
    runtime = runtime_in(tmp_path, trackers=("wandb",), tracker_settings=settings)
    record = train_run(asked(SPEC, DATA, runtime, 1e6), Restarting())
    assert record.status == "done"
    if stub.runs.get(SPEC.run_id, StubRun()).summary.get("status") != "done":  # the client was still waiting
        sync(tmp_path)
    assert "429" in stub.asked
    assert stub.runs[SPEC.run_id].column("train/loss") == pytest.approx(losses(tmp_path))


def test_wandb_sync_names_what_was_not_taken(tmp_path: Path, stub: Stub, capfd: pytest.CaptureFixture[str]) -> None:
    run(SPEC, tmp_path)
    stub.stop()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("scaling.trackers.wandb.INIT_S", 2.0)
        assert main(["wandb-sync", str(tmp_path / "s")]) == 1
    printed = capfd.readouterr().out
    assert f"{SPEC.run_id}: W&B has not taken the run: " in printed
    assert "1 run not sent; the same command again goes on" in printed


def test_a_run_in_training_is_left_to_itself(tmp_path: Path, stub: Stub, capfd: pytest.CaptureFixture[str]) -> None:
    run_dir = tmp_path / "s" / SPEC.run_id
    run_dir.mkdir(parents=True)
    write_json(run_dir / "spec.json", to_dict(SPEC))
    claim(run_dir, 0, {})
    assert main(["wandb-sync", str(tmp_path / "s")]) == 0
    assert "is being trained, and sends its rows itself" in capfd.readouterr().out
    assert not stub.runs
    assert main(["wandb-sync", str(tmp_path / "s"), "seed=1"]) == 2
