"""Sources of runs: studies of records, offline logs of W&B, and several of them at once."""

import json
from pathlib import Path

import numpy as np
import pytest

from scaling.analysis.runs.observations import load
from tests.analysis.runs.test_observations import GOOD, csv
from tests.analysis.simulated import write_study


def test_a_study_excludes_diverged_and_unfinished_runs_by_name(tmp_path: Path) -> None:
    found = load(write_study(tmp_path / "study", points=4), curves=True)
    assert {one.run_id: one.reason for one in found.excluded} == {
        "diverged": "diverged: loss 31.2 at step 40",
        "unfinished": "unfinished: the run has left no record yet",
    }
    assert len(found.table) == 28
    assert found.conventions["params"] == "non-embedding parameters"
    assert found.conventions["flops"] == "training FLOPs (exact)"
    assert "training FLOPs are counted so: exact: matrix multiplications, forward and backward" in found.notes
    assert found.conventions["loss"] == "validation loss, nats per token"
    assert found.curves is not None
    assert found.curves["run_id"].nunique() == 28
    assert "recipe.schedule.kind" in found.table.columns
    total = load(tmp_path / "study", params="total")
    assert (total.column("params") > found.column("params")).all()


def test_curves_are_of_the_runs_in_the_table_each_with_its_size(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", points=4)
    some = load(study, curves=True, where="run_id in ['run05', 'run02']")
    both = load([study, study], curves=True)
    for found, runs in ((some, 2), (both, 28)):
        assert found.curves is not None
        assert found.curves["run_id"].nunique() == len(found.table) == runs
        sizes = dict(zip(found.table["run_id"], found.table["params"], strict=True))
        assert found.curves["params"].tolist() == [sizes[run] for run in found.curves["run_id"]]
        for run in sizes:
            metrics = (study / run / "attempts" / "0001" / "metrics.jsonl").read_text().splitlines()
            losses = [json.loads(line)["train_loss"] for line in metrics]
            assert found.curves.loc[found.curves["run_id"] == run, "loss"].tolist() == losses


def test_tiny_records_are_trusted_where_tiny_tables_are_not(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", points=4)
    record = json.loads((study / "run03" / "record.json").read_text())
    (study / "run03" / "record.json").write_text(json.dumps({**record, "train_tokens": 640, "train_flops": 9e5}))
    assert 640 in load(study).column("tokens")


def test_a_damaged_record_costs_one_run_not_the_study(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", points=4)
    (study / "run03" / "record.json").write_text('{"schema": 1')
    found = load(study)
    assert len(found.table) == 27
    (one,) = [one for one in found.excluded if one.run_id == "run03"]
    assert "is not a run record" in one.reason


def test_a_study_without_a_finished_run_says_why(tmp_path: Path) -> None:
    (tmp_path / "study" / "a").mkdir(parents=True)
    (tmp_path / "study" / "a" / "spec.json").write_text("{}")
    with pytest.raises(ValueError, match=r"holds 1 runs and none is finished \(first: a, unfinished"):
        load(tmp_path / "study")


def test_one_run_in_two_sources_is_used_once(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", points=4)
    found = load([study, study])
    assert len(found.table) == 28
    assert sum("the same run as in an earlier source" in one.reason for one in found.excluded) == 28


def test_sources_that_count_differently_must_be_told_apart(tmp_path: Path) -> None:
    study, file = write_study(tmp_path / "study", points=4), csv(tmp_path, GOOD)
    with pytest.raises(ValueError, match="the sources count params differently .* say which with --params"):
        load([study, file])
    both = load([study, file], params="non_embedding", flops="6nd")
    assert len(both.table) == 31
    assert len(both.source) == 2


def test_equal_run_ids_of_different_files_stay_different_runs(tmp_path: Path) -> None:
    for name, loss in (("a", 3.0), ("b", 2.9)):
        (tmp_path / f"{name}.csv").write_text(f"run_id,params,tokens,loss\n1,1e8,1e10,{loss}\n2,2e8,1e10,2.7\n")
    found = load([tmp_path / "a.csv", tmp_path / "b.csv"])
    assert found.table["run_id"].tolist() == ["1", "2", "b:1"]
    assert len(set(found.clusters)) == 3


def test_bytes_per_token_are_those_of_the_records_or_declared(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    assert load(study).bytes_per_token == pytest.approx(1.25)
    assert "loss_bytes_per_token" not in load(study).names
    assert load(csv(tmp_path, GOOD.replace("loss", "bpb")), bytes_per_token=3.5).bytes_per_token == 3.5
    assert load(csv(tmp_path, GOOD)).bytes_per_token is None


def test_runs_of_several_tokenizers_have_no_one_ratio(tmp_path: Path) -> None:
    found = load(write_study(tmp_path / "study"))
    found.table.loc[0, "loss_bytes_per_token"] *= 1.01
    assert found.bytes_per_token is None
    found.table.loc[0, "loss_bytes_per_token"] = np.nan
    assert found.bytes_per_token is None


def test_offline_wandb_runs_are_read_back_with_counts_curves_and_state(tmp_path: Path) -> None:
    wandb = pytest.importorskip("wandb")
    for k in range(3):
        run = wandb.init(
            project="p",
            mode="offline",
            dir=str(tmp_path),
            group="study",
            id=f"run{k}",
            settings=wandb.Settings(silent=True),
            config={
                "model": {"d_model": 32},
                "seed": k,
                "n_params": {"total": 10_000, "non_embedding": 8_000 + k, "non_embedding_head": 9_000},
            },
        )
        for step in range(1, 5):
            run.log({"train/loss": 5 - step / 4, "train/tokens": step * 1e5, "train/flops": step * 5e9})
        run.log({"val/loss": 3.5 + k, "train/tokens": 5e5, "train/flops": 25e9})
        run.finish(exit_code=0 if k < 2 else 1)
    found = load(tmp_path, curves=True)
    assert {one.run_id: one.reason for one in found.excluded} == {"run2": "W&B state: failed (exit code 1)"}
    assert sorted(found.table["run_id"]) == ["run0", "run1"]
    assert sorted(found.column("params")) == [8_000, 8_001]
    assert sorted(found.column("loss")) == [3.5, 4.5]
    assert found.column("tokens").tolist() == [5e5, 5e5]
    assert found.table["model.d_model"].tolist() == [32, 32]
    assert found.conventions["params"] == "non-embedding parameters"
    assert found.curves is not None
    assert len(found.curves) == 10


def test_the_offline_logs_of_a_resumed_run_are_one_run(tmp_path: Path) -> None:
    wandb = pytest.importorskip("wandb")
    for part, steps in enumerate((range(1, 5), range(4, 8))):  # the second goes on from a checkpoint at step 3
        run = wandb.init(
            project="p",
            mode="offline",
            dir=str(tmp_path / f"part{part}"),
            id="one",
            settings=wandb.Settings(silent=True),
            config={"n_params": {"total": 10_000, "non_embedding": 8_000, "non_embedding_head": 9_000}},
        )
        for step in steps:
            run.log({"train/loss": 5 - step / 10 - part, "train/tokens": step * 1e5, "train/flops": step * 5e9})
        if part:
            run.log({"val/loss": 3.5, "train/tokens": 7e5, "train/flops": 35e9})
        run.finish()
    logs = sorted(tmp_path.glob("part*/wandb/offline-run-*/*.wandb"))
    (tmp_path / "wandb").mkdir()
    for k, log in enumerate(logs):
        moved = tmp_path / "wandb" / f"offline-run-2026010{k + 1}_000000-one"
        log.parent.rename(moved)
    found = load(tmp_path, curves=True)
    assert found.excluded == ()
    assert found.table["run_id"].tolist() == ["one"]
    assert found.column("loss").tolist() == [3.5]
    assert found.curves is not None
    assert found.curves["tokens"].tolist() == [1e5, 2e5, 3e5, 4e5, 5e5, 6e5, 7e5, 7e5]
    assert found.curves["loss"].iloc[3] == pytest.approx(5 - 0.4 - 1)  # of the second log
    assert "run 'one' is joined from 2 logs of one id, as it was resumed" in found.inferred[0]
