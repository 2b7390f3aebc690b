"""Fine-tuning from a finished run to its record: where it starts, what it keeps, and what it refuses."""

import json
import os
import re
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scaling import trackers
from scaling.cli import main
from scaling.finetune.loop import batch_rows, finetune
from scaling.finetune.model import start_model
from scaling.finetune.plan import FinetuningPlan, PlannedFinetuning, make_plan
from scaling.finetune.settings import read_settings
from scaling.records.life import Reporter
from scaling.records.record import RunRecord, read_metrics, read_record, read_records
from scaling.spec.run_spec import from_dict, to_dict
from scaling.trackers.wandb import WandbTracker
from scaling.train.checkpoint import final_weights
from tests.damage import DAMAGE
from tests.examples import FAMILIES, SPEC, SilentTracker, overridden
from tests.small_runs import trained

ROTARY = {name: (replace(shape, positions="rotary"), asked) for name, (shape, asked) in FAMILIES.items()}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run of each family, rotary, and a decoder without weights."""
    folder = tmp_path_factory.mktemp("runs")
    for shape, objective in ROTARY.values():
        trained(folder, shape, objective)
    shape, objective = FAMILIES["decoder"]
    trained(folder, shape, objective, keep_weights=False)
    return folder / "s"


def run_of(study: Path, kind: str, weights: bool = True) -> Path:
    (found,) = (
        path
        for path in study.iterdir()
        if (path / "spec.json").is_file()
        and json.loads((path / "spec.json").read_text())["model"]["kind"] == kind
        and any(path.glob("checkpoint/*/model.safetensors")) == weights
    )
    return found


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """Short texts of two classes that their first word tells apart."""
    rows = [f"{'good' if i % 2 else 'bad'} thing {i},{'yes' if i % 2 else 'no'}" for i in range(80)]
    path = tmp_path / "reviews.csv"
    path.write_text("\n".join(["text,label", *rows]))
    return path


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"number {i}\tnum {i}\n" for i in range(60)))
    return path


QUICK = ["recipe.steps=4", "recipe.epochs=0", "recipe.evaluations=2", "recipe.batch_examples=4", "device=cpu"]


def sentiment(reviews: Path, *more: str) -> list[str]:
    return overridden(["task=sentiment", f"task.path={reviews}", "task.examples=[10]", *QUICK], more)


def translation(pairs: Path, *more: str) -> list[str]:
    columns = ["task.source_field=0", "task.target_field=1", "task.target_tokens=6", "task.generated=3"]
    return overridden(["task=translation", f"task.path={pairs}", *columns, "task.examples=[10]", *QUICK], more)


def planned(source: Path, overrides: list[str]) -> FinetuningPlan:
    return make_plan(source, *read_settings(overrides)[:2])


def tuned_here(run: PlannedFinetuning, plan: FinetuningPlan, *, keep_weights: bool) -> RunRecord:
    return finetune(run, replace(plan.runtime, threads=1, keep_weights=keep_weights), Reporter())


def files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_family_classifies_from_its_weights_and_from_scratch(
    kind: str, study: Path, reviews: Path, tmp_path: Path
) -> None:
    plan = planned(run_of(study, kind), sentiment(reviews, f"runs_dir={tmp_path / 'out'}", "recipe.learning_rate=1e-2"))
    tuned, scratch = sorted(plan.runs, key=lambda run: run.start is None)
    records = [tuned_here(run, plan, keep_weights=True) for run in (tuned, scratch)]
    first, control = records
    assert first.train_flops == control.train_flops == tuned.train_flops
    assert first.steps == control.steps == 4
    assert first.finetuned is not None
    parent = read_record(run_of(study, kind))
    assert parent is not None
    assert first.finetuned["parent"]["train_flops"] == parent.train_flops
    assert first.finetuned["parent"]["weights_sha256"] == parent.weights_sha256
    assert control.finetuned is not None
    assert control.finetuned["parent"] is None
    assert 0 <= first.finetuned["scores"]["accuracy"]["value"] <= 1
    kept = final_weights(plan.runtime.run_dir(tuned.spec.run_id), first.weights_sha256)
    assert "task_head.weight" in kept
    assert from_dict(first.spec).run_id == first.run_id == tuned.spec.run_id
    again = tuned_here(tuned, plan, keep_weights=True)
    assert again == first
    assert len(list((plan.runtime.run_dir(tuned.spec.run_id) / "attempts").iterdir())) == 1


@pytest.mark.parametrize("kind", ["decoder", "encoder_decoder"])
def test_text_is_written_by_decoders_and_encoder_decoders(kind: str, study: Path, pairs: Path, tmp_path: Path) -> None:
    pytest.importorskip("sacrebleu", reason="the extra hf is not installed")
    plan = planned(run_of(study, kind), translation(pairs, f"runs_dir={tmp_path / 'out'}", "scratch=false"))
    (run,) = plan.runs
    record = tuned_here(run, plan, keep_weights=False)
    assert record.finetuned is not None
    assert set(record.finetuned["scores"]) == {"bleu", "chrf"}
    assert len(record.finetuned["samples"]) == 3
    assert not (plan.runtime.run_dir(run.spec.run_id) / "checkpoint").exists()


def test_fine_tuning_starts_from_the_parents_weights_and_learns(study: Path, reviews: Path, tmp_path: Path) -> None:
    more = (f"runs_dir={tmp_path}", "recipe.steps=150", "recipe.learning_rate=1e-2", "task.examples=[40]")
    plan = planned(run_of(study, "decoder"), sentiment(reviews, *more))
    tuned = next(run for run in plan.runs if run.start is not None)
    assert tuned.start is not None
    family = start_model(tuned.spec, tuned.start.run_dir).model
    for name, tensor in final_weights(tuned.start.run_dir, tuned.start.record.weights_sha256).items():
        assert torch.equal(family.state_dict()[name], tensor)
    record = tuned_here(tuned, plan, keep_weights=False)
    assert record.finetuned is not None
    assert record.finetuned["scores"]["accuracy"]["value"] > 0.9


def test_damaged_weights_are_refused_and_learned_positions_cut_to_the_task(tmp_path: Path, reviews: Path) -> None:
    _, run_dir = trained(tmp_path, *FAMILIES["decoder"])
    plan = planned(run_dir, sentiment(reviews, "scratch=false", "task.source_tokens=9"))
    (run,) = plan.runs
    assert run.spec.model.context == 9
    family = start_model(run.spec, run_dir).model
    assert family.state_dict()["target.positions.weight"].shape[0] == 9
    damaged = replace(run.spec.finetuned, parent=replace(run.spec.finetuned.parent, weights_sha256="0"))
    with pytest.raises(ValueError, match="not 0, those of its record"):
        start_model(replace(run.spec, finetuned=damaged), run_dir)


def test_a_large_set_gets_more_steps_and_both_arms_the_same() -> None:
    recipe = read_settings(["recipe.steps=300", "recipe.epochs=8", "recipe.batch_examples=16"])[0].recipe
    assert [recipe.resolved(examples, SPEC.recipe).steps for examples in (100, 600, 1000)] == [300, 300, 500]
    assert recipe.resolved(1000, SPEC.recipe).schedule.warmup_steps == 25


def test_an_epoch_is_every_example_once() -> None:
    rows = np.concatenate([batch_rows(7, 3, step, 0) for step in range(14)])
    for epoch in range(6):
        assert sorted(rows[7 * epoch : 7 * epoch + 7]) == list(range(7))


def test_a_control_serves_every_parent_of_its_shape(study: Path, reviews: Path, tmp_path: Path) -> None:
    plan = planned(study, sentiment(reviews, f"runs_dir={tmp_path}", "task.examples=[10,20]", "seeds=[0,1]"))
    assert len(plan.runs) == 3 * 2 * 2 * 2
    assert len({run.spec.run_id for run in plan.runs}) == len(plan.runs)
    (why,) = plan.passed_over
    assert "holds no weights" in why
    assert "24 runs (12 fine-tuned, 12 from scratch), 24 to train" in plan.words()


def test_identity_survives_json(study: Path, reviews: Path) -> None:
    for run in planned(run_of(study, "encoder"), sentiment(reviews)).runs:
        assert from_dict(json.loads(json.dumps(to_dict(run.spec)))) == run.spec


BAD = [
    (["task=modlues"], "unknown task 'modlues': did you mean 'modules'"),
    (["task.text_field=body"], "task.text_field=body: .*, line 2, has no such column; it has text, label"),
    (["task.path=none.csv"], "none.csv does not exist"),
    (["task.examples=[1000]"], "1,000 examples are asked for, but .* train"),
    (["task.examples=[]"], "task.examples is empty"),
    (["task.label_field=text", "task.held_out=1.5"], "task.held_out=1.5"),
    (["recipe.steps=0"], "recipe.steps=0: must be at least 1"),
    (["recipe.clip_norm=-1"], "recipe.clip_norm=-1: must be above 0"),
    (["recipe.weight_decay=-1"], "recipe.weight_decay=-1: must be at least 0"),
    (["recipe.beta2=1"], "recipe.beta2=1: must be at least 0 and below 1"),
    (["hydra.launcher.slots=abc"], "hydra.launcher.slots=abc: must be a whole number, or null"),
    (["task.examlpes=[1]"], "unknown setting task. 'examlpes': did you mean 'examples'"),
    (["recipe.lr=1"], "unknown setting recipe. 'lr': .*learning_rate"),
    (["stduy=x"], "unknown setting 'stduy': did you mean 'study'"),
    (["total_flops=1"], "more than total_flops=1"),
    (["study=s"], "study=s is the parents' own"),
]


@pytest.mark.parametrize(("more", "message"), BAD)
def test_mistakes_end_in_one_line_with_nothing_written(
    more: list[str], message: str, study: Path, reviews: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(study.parent)
    assert main(["finetune", str(run_of(study, "decoder")), *sentiment(reviews, *more)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("scaling finetune: ")
    assert re.search(message, error), error
    assert files(study.parent) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\na,yes\nb,yes\nc,yes\nd,yes", "every example is of the class 'yes'"),
        ("text,label\na,yes\n,no", "line 3: text is empty"),
        ("text,label", "has a header and no rows"),
        ("", "is empty"),
    ],
)
def test_tables_that_cannot_be_learned_are_refused(content: str, message: str, study: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        planned(run_of(study, "decoder"), sentiment(path))


def test_runs_that_cannot_be_fine_tuned_are_named_with_the_reason(study: Path, reviews: Path, pairs: Path) -> None:
    with pytest.raises(ValueError, match="holds no weights; train it with runtime.keep_weights=true"):
        planned(run_of(study, "decoder", weights=False), sentiment(reviews))
    with pytest.raises(ValueError, match="an encoder of masked tokens cannot; choose a run of kind decoder"):
        planned(run_of(study, "encoder"), translation(pairs))
    with pytest.raises(ValueError, match="is not a directory"):
        planned(study / "none", sentiment(reviews))
    with pytest.raises(ValueError, match="has no room for a text"):
        planned(run_of(study, "decoder"), translation(pairs, "task.target_tokens=15"))


def test_an_imported_checkpoint_is_a_parent_like_any_other(
    tmp_path: Path, reviews: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers", reason="the extra hf is not installed")
    from scaling.hf.export import export
    from scaling.hf.importing import import_checkpoint

    monkeypatch.chdir(tmp_path)
    _, run_dir = trained(tmp_path, *FAMILIES["decoder"])
    export(run_dir, tmp_path / "out", tmp_path / "cache")
    data = ["data=text", f"data.source.paths=[{tmp_path}/*.txt]", "data.tokenizer=bytes", "data.vocab_size=256"]
    quiet = ["data.val_fraction=0.3", "val_tokens=1024", "runtime.progress=false", "runtime.device=cpu"]
    import_checkpoint(str(tmp_path / "out"), [*data, *quiet, "study=published", "train_tokens=12345"])
    plan = planned(Path("runs/published"), sentiment(reviews, "scratch=false"))
    (run,) = plan.runs
    record = tuned_here(run, plan, keep_weights=False)
    assert record.finetuned is not None
    assert record.finetuned["parent"]["imported"]
    assert record.finetuned["parent"]["train_tokens"] == 12345


def test_without_sacrebleu_the_remedy_is_said(
    study: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    assert main(["finetune", str(run_of(study, "decoder")), *translation(pairs)]) == 2
    assert "pip install 'scaling-experiments[hf]'" in capsys.readouterr().err


def test_the_command_trains_a_study_over_the_pool_and_skips_what_is_done(
    study: Path, reviews: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["finetune", str(study), *sentiment(reviews, f"runs_dir={tmp_path}", "slots=2")]
    assert main(command) == 0
    out, error = capsys.readouterr()
    assert "6 runs (3 fine-tuned, 3 from scratch), 6 to train" in error
    assert "slots about" in error
    assert "until about" in error
    assert "passed over" in error
    assert "not determined: a curve needs 3 sizes" in out
    found = tmp_path / "s-sentiment"
    assert len(read_records(found)) == 6
    assert (found / "finetune.png").is_file()
    assert main(command) == 0
    assert "0 to train" in capsys.readouterr().err
    assert main(["status", str(found)]) == 0
    assert "6 done" in capsys.readouterr().out


class StopAt(Reporter):
    """Asks the run to stop, as Ctrl-C would, once it has reported a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def row(self, row: dict[str, Any]) -> None:
        if row["step"] >= self.step:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_stopped_fine_tuning_goes_on_from_its_checkpoint_bit_for_bit(
    dropout: float, reviews: Path, tmp_path: Path
) -> None:
    shape, objective = FAMILIES["decoder"]
    _, run_dir = trained(tmp_path, replace(shape, dropout=dropout), objective)
    more = ("recipe.steps=12", "recipe.evaluations=4", "recipe.learning_rate=1e-2", "scratch=false")
    plan = planned(run_dir, sentiment(reviews, *more))
    (run,) = plan.runs
    apart = planned(run_dir, sentiment(reviews, *more, "study=whole"))
    whole = tuned_here(run, apart, keep_weights=True)
    with pytest.raises(KeyboardInterrupt, match="stopped at step 7 of 12, checkpoint written"):
        finetune(run, replace(plan.runtime, threads=1), StopAt(6))
    resumed = tuned_here(run, plan, keep_weights=True)
    assert (whole.attempts, resumed.attempts) == (1, 2)
    assert resumed.weights_sha256 == whole.weights_sha256
    timing = {"tokens_per_s", "flops_per_s"}
    rows, others = (
        [{name: value for name, value in row.items() if name not in timing} for row in read_metrics(folder)]
        for folder in (one.runtime.run_dir(run.spec.run_id) for one in (plan, apart))
    )
    assert rows == others
    for name in ("finetuned", "val_loss_nats", "eval_flops", "predicted_tokens", "train_loss_nats", "train_flops"):
        assert getattr(resumed, name) == getattr(whole, name), name
    tuned_dir = plan.runtime.run_dir(run.spec.run_id)
    meta = json.loads((tuned_dir / "attempts" / "0002" / "meta.json").read_text())
    assert meta["resumed_from_step"] == 7
    assert not list(tuned_dir.glob("checkpoint/*/best.safetensors"))


@pytest.mark.parametrize("file", ["best.safetensors", "state.json"])
def test_a_fine_tuning_with_a_damaged_checkpoint_starts_anew(
    file: str, study: Path, reviews: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    more = ("recipe.steps=12", "recipe.evaluations=4", "scratch=false", f"runs_dir={tmp_path}")
    plan = planned(run_of(study, "decoder"), sentiment(reviews, *more))
    (run,) = plan.runs
    whole = tuned_here(
        run, planned(run_of(study, "decoder"), sentiment(reviews, *more, "study=whole")), keep_weights=True
    )
    with pytest.raises(KeyboardInterrupt, match="checkpoint written"):
        finetune(run, replace(plan.runtime, threads=1), StopAt(6))
    (saved,) = plan.runtime.run_dir(run.spec.run_id).glob("checkpoint/*/" + file)
    DAMAGE["flip" if file == "best.safetensors" else "null"](saved)
    resumed = tuned_here(run, plan, keep_weights=True)
    assert (resumed.attempts, resumed.weights_sha256) == (2, whole.weights_sha256)
    assert f"{saved.parent} is damaged: {file} has the sha256" in capfd.readouterr().err


def test_a_fine_tuning_is_mirrored_with_its_scores(
    study: Path, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirrored: list[tuple[str, Any]] = []

    class Recording(SilentTracker):
        settings = WandbTracker.settings

        def log(self, row: Mapping[str, Any]) -> None:
            mirrored.append(("row", dict(row)))

        def finish(self, status: str, summary: Mapping[str, Any]) -> None:
            mirrored.append((status, dict(summary)))

    monkeypatch.setitem(trackers.TRACKERS, "wandb", Recording)
    settings = sentiment(reviews, f"runs_dir={tmp_path}", "scratch=false", "tracker=wandb")
    plan = planned(run_of(study, "decoder"), settings)
    assert plan.runtime.tracker_settings["dir"] == str(tmp_path)
    record = tuned_here(plan.runs[0], plan, keep_weights=False)
    assert record.finetuned is not None
    *rows, (kind, scores), (status, summary) = mirrored
    assert [row["step"] for _, row in rows] == [2, 4]
    assert kind == "row"
    assert scores["accuracy"] == record.finetuned["scores"]["accuracy"]["value"]
    assert (status, summary["val_loss_nats"]) == ("done", record.val_loss_nats)


def test_any_launcher_fine_tunes(
    study: Path, reviews: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = sentiment(reviews, f"runs_dir={tmp_path}", "scratch=false", "hydra/launcher=in_process")
    assert main(["finetune", str(run_of(study, "decoder")), *asked]) == 0
    assert "1 done" in capsys.readouterr().err
    assert main(["finetune", str(run_of(study, "decoder")), *asked[:-1], "hydra/launcher=basic", "study=b"]) == 2
    assert "choose hydra/launcher=in_process, local" in capsys.readouterr().err
