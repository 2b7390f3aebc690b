"""Trackers mirror a run to a service while it trains; the record on disk stays the truth."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from scaling.registry import choose
from scaling.trackers.mlflow import MlflowTracker
from scaling.trackers.tensorboard import TensorboardTracker
from scaling.trackers.tracker import Several, TrackedRun, Tracker
from scaling.trackers.trackio import TrackioTracker
from scaling.trackers.wandb import WandbTracker

TRACKERS: dict[str, type[Tracker]] = {
    "wandb": WandbTracker,
    "tensorboard": TensorboardTracker,
    "mlflow": MlflowTracker,
    "trackio": TrackioTracker,
}
TAGS = "tags"  # setting of every tracker


def start_trackers(names: Sequence[str], run: TrackedRun, settings: Mapping[str, Any]) -> Several:
    """Start the named trackers of a run as one; ValueError lists the choices.

    The trackers share the settings: each takes those that it has, and `tags` are the run's.
    """
    run = tagged(run, settings.get(TAGS) or ())
    return Several([tracker(run, _own(tracker, settings)) for tracker in _chosen(names, settings)])


def tagged(run: TrackedRun, tags: Sequence[Any]) -> TrackedRun:
    """The run with these tags behind its own."""
    return replace(run, tags=tuple(dict.fromkeys([*run.tags, *map(str, tags)])))


def check_settings(names: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Raise ValueError for an unknown tracker, or a setting that none of the trackers has."""
    _chosen(names, settings)


def check_trackers(names: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Raise ValueError where a tracker could not start: an unknown name or setting, a missing package, no account."""
    for tracker in _chosen(names, settings):
        tracker.check(_own(tracker, settings))


def _chosen(names: Sequence[str], settings: Mapping[str, Any]) -> list[type[Tracker]]:
    chosen = [choose("tracker", TRACKERS, name) for name in names]
    known = dict.fromkeys([TAGS, *(name for tracker in chosen for name in tracker.settings)])
    for name in settings:
        choose("setting of tracker.settings", known, name)
    return chosen


def _own(tracker: type[Tracker], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of one tracker."""
    return {name: value for name, value in settings.items() if name in tracker.settings}
