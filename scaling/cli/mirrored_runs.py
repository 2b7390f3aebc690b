"""The command `wandb-sync`: W&B gets what it lacks of a study, from the study's records and metric rows."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

PATIENCE = 3  # runs in a row that W&B does not take, after which no other is tried
SETTING = "tracker.settings."


def wandb_sync(options: Any) -> int:
    """Send the runs of a study; return 1 where W&B did not take them all."""
    from scaling.trackers import TAGS, check_trackers, tagged
    from scaling.trackers.wandb import replay

    settings = settings_of(options.study, options.settings)
    check_trackers(["wandb"], settings)
    tags = settings.pop(TAGS, ())
    failed = in_a_row = 0
    with tempfile.TemporaryDirectory() as folder:  # of the client's own copies
        for run, status, summary in ended_runs(options.study):
            try:
                rows = replay(tagged(run, tags), settings | {"dir": folder}, status, summary)
            except ConnectionError as error:
                failed, in_a_row = failed + 1, in_a_row + 1
                print(f"{run.run_id}: W&B has not taken the run: {error}", flush=True)
                if in_a_row == PATIENCE:
                    print("W&B does not answer: the other runs are not tried", flush=True)
                    break
                continue
            in_a_row = 0
            print(f"{run.run_id}: {rows} row{'' if rows == 1 else 's'} sent, status {status}", flush=True)
    if failed:
        print(f"{failed} run{'' if failed == 1 else 's'} not sent; the same command again goes on")
    return 1 if failed else 0


def settings_of(study: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """The settings of W&B that a study was planned with, else the preset's, under the overrides; the mode is online."""
    from scaling.config.config import compose, plain, quoted
    from scaling.config.settings import TrackerSettings
    from scaling.trackers import TAGS
    from scaling.trackers.wandb import WandbTracker

    if others := [one for one in overrides if not one.startswith(SETTING)]:
        raise ValueError(f"{others[0]}: wandb-sync takes no setting but those of W&B, {SETTING}NAME=VALUE")
    asked: TrackerSettings = plain(
        compose(["tracker=wandb", f"runs_dir={quoted(study.parent)}", *overrides]), "tracker"
    )
    planned: Mapping[str, Any] = next(
        (one["tracker_settings"] for one in planned_runtimes(study) if "wandb" in one["trackers"]), {}
    )
    own = {one.removeprefix(SETTING).partition("=")[0] for one in overrides}
    known = (*WandbTracker.settings, TAGS)
    kept = {name: value for name, value in planned.items() if name in known and name not in own}
    found = asked.settings | kept | {"mode": "online"}
    return {name: value for name, value in found.items() if name in known}


def planned_runtimes(study: Path) -> list[Mapping[str, Any]]:
    """The runtimes that a study was planned with; none without a plan."""
    from scaling.plan.plan_file import WORK
    from scaling.records.files import read_json

    found: list[Mapping[str, Any]] = (read_json(study / WORK) or {}).get("shared", {}).get("runtime", [])
    return found


def ended_runs(study: Path) -> Iterator[tuple[Any, str, Mapping[str, Any]]]:
    """The runs of a study that nobody trains and that have rows or a record, each with its status and its summary."""
    from scaling.plan.plan_file import read_plan
    from scaling.records.attempt import RUNNING, run_state
    from scaling.records.files import read_json
    from scaling.records.mirror import run_summary, tracked_run
    from scaling.records.record import readable_record, run_dirs
    from scaling.spec.run_spec import from_dict

    question = next((one["question"] for one in planned_runtimes(study)), None)
    asked = {line["run_id"]: line.get("requested_flops") for line in read_plan(study)}
    for run_dir in run_dirs(study):
        state, record = run_state(run_dir), readable_record(run_dir)
        if state.status == RUNNING:
            print(f"{run_dir.name}: is being trained, and sends its rows itself", flush=True)
            continue
        spec = from_dict(read_json(run_dir / "spec.json") or {})
        budget = asked.get(run_dir.name) if record is None else record.budget_flops
        run = tracked_run(spec, study.resolve().name, question, budget, run_dir)
        if record is not None or run.rows():
            yield run, state.status, {} if record is None else run_summary(record)
