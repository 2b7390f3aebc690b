"""The table of trackers: several at once, their settings, and trackers whose package is absent."""

import sys
from collections.abc import Mapping
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from scaling import trackers
from scaling.config.config import compose, to_run
from scaling.config.settings import TrackerSettings
from scaling.trackers import TRACKERS, check_settings, check_trackers, start_trackers
from scaling.trackers.tracker import Attachments, TrackedRun, TrackedTable
from tests.examples import SilentTracker

RUN = TrackedRun(
    "0123456789ab", "s", "pretrain", "1M params, seed 0", {"seed": 0, "model": {"kind": "decoder"}}, ("a",)
)


def test_unknown_trackers_list_the_choices() -> None:
    with pytest.raises(ValueError, match="unknown tracker 'wandbb': did you mean 'wandb'"):
        start_trackers(["wandbb"], RUN, {})


def test_a_setting_that_no_tracker_has_is_refused() -> None:
    check_settings(["wandb", "tensorboard"], {"mode": "offline", "dir": "runs", "tags": []})
    with pytest.raises(ValueError, match=r"unknown setting of tracker\.settings 'mod': did you mean 'mode'"):
        check_settings(["wandb"], {"mod": "offline"})
    with pytest.raises(ValueError, match="unknown setting of tracker.settings 'mode'"):
        check_settings(["tensorboard"], {"mode": "offline"})


@pytest.mark.parametrize("name", sorted(TRACKERS))
def test_every_tracker_has_a_preset_with_its_settings(name: str) -> None:
    runtime = to_run(compose(["data=synthetic", f"tracker={name}", "tracker.settings.tags=[x,y]"])).runtime
    assert runtime.trackers == (name,)
    assert runtime.tracker_settings["tags"] == ["x", "y"]


def test_several_trackers_share_their_settings() -> None:
    several = ["data=synthetic", "tracker=[wandb,tensorboard]", "tracker.settings.mode=offline", "runs_dir=there"]
    runtime = to_run(compose(several)).runtime
    assert runtime.trackers == ("wandb", "tensorboard")
    assert (runtime.tracker_settings["mode"], runtime.tracker_settings["dir"]) == ("offline", "there")
    assert TrackerSettings({"wandb": False, "mlflow": True}, {}).chosen() == ("mlflow",)


def test_each_tracker_receives_all_calls_and_its_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Any] = []

    class First(SilentTracker):
        settings = ("mode", "dir")
        where = "here"

        def __init__(self, run: TrackedRun, settings: Mapping[str, Any]) -> None:
            heard.append((type(self).__name__, run.tags, dict(settings)))

        def log(self, row: Mapping[str, Any]) -> None:
            heard.append((type(self).__name__, dict(row)))

        def finish(self, status: str, summary: Mapping[str, Any]) -> None:
            heard.append((type(self).__name__, status))

    class Second(First):
        settings = ("dir",)

    monkeypatch.setattr(trackers, "TRACKERS", {"first": First, "second": Second})
    started = start_trackers(["first", "second"], RUN, {"mode": "m", "dir": "d", "tags": ["b", "a"]})
    started.log({"tokens": 1})
    started.finish("done", {})
    assert started.where == "here\nhere"
    assert heard == [
        ("First", ("a", "b"), {"mode": "m", "dir": "d"}),
        ("Second", ("a", "b"), {"dir": "d"}),
        ("First", {"tokens": 1}),
        ("Second", {"tokens": 1}),
        ("First", "done"),
        ("Second", "done"),
    ]


@pytest.mark.parametrize("name", sorted(TRACKERS.keys() - {"wandb"}))
def test_an_absent_package_is_found_before_a_run_starts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=rf"tracker={name} needs {name} .*pip install 'scaling-experiments\[{name}\]'"):
        check_trackers([name], {})


class Client:
    """MLflow's client, as far as the tracker uses one; runs by experiment, and all calls."""

    runs: dict[str, Any]
    calls: list[tuple[Any, ...]]

    def __init__(self, tracking_uri: str | None) -> None:
        self.calls.append(("uri", tracking_uri))

    def get_experiment_by_name(self, name: str) -> Any:
        return None if not self.runs else SimpleNamespace(experiment_id="7")

    def create_experiment(self, name: str) -> str:
        self.calls.append(("experiment", name))
        return "7"

    def search_runs(self, experiments: list[str], query: str, max_results: int) -> list[Any]:
        return [run for run_id, run in self.runs.items() if f"'{run_id}'" in query and experiments == ["7"]]

    def create_run(self, experiment: str, tags: Mapping[str, str], run_name: str) -> Any:
        assert experiment == "7"
        run = SimpleNamespace(info=SimpleNamespace(run_id="r1"), name=run_name)
        self.runs[tags["scaling.run_id"]] = run
        return run

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **named: self.calls.append((name, *arguments, *named.values()))


def test_mlflow_receives_metrics_by_tokens_and_resumes_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    module, entities = ModuleType("mlflow"), ModuleType("mlflow.entities")
    fake = type("Fresh", (Client,), {"runs": {}, "calls": []})
    module.MlflowClient, module.entities = fake, entities  # type: ignore[attr-defined]
    entities.Metric = entities.Param = lambda *values: values  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    tracker = start_trackers(["mlflow"], RUN, {"tracking_uri": "sqlite:///x", "experiment": None})
    assert fake.calls[:3] == [
        ("uri", "sqlite:///x"),
        ("experiment", "s"),
        ("log_batch", "r1", [("seed", "0"), ("model.kind", "decoder")]),
    ]
    tracker.log({"tokens": 64, "train_loss": 2.5, "val_loss": None})
    _, run_id, sent = fake.calls[-1]
    assert (run_id, [(name, value, step) for name, value, _, step in sent]) == (
        "r1",
        [("train/loss", 2.5, 64), ("train/tokens", 64.0, 64)],
    )
    tracker.attach(Attachments(tables=[TrackedTable("laws", ["a", "b"], [[1, 2], [3, 4]])]))
    assert fake.calls[-1] == ("log_table", "r1", {"a": [1, 3], "b": [2, 4]}, "tables/laws.json")
    tracker.finish("diverged", {"wall_s": 2.0, "hardware": {"name": "cpu"}})
    assert fake.calls[-3:] == [
        ("set_tag", "r1", "status", "diverged"),
        ("set_tag", "r1", "hardware.name", "cpu"),
        ("set_terminated", "r1", "FAILED"),
    ]
    start_trackers(["mlflow"], RUN, {})
    assert len(fake.runs) == 1
    assert fake.calls[-1] == ("update_run", "r1", "RUNNING")
