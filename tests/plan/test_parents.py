"""Continued pretraining: a run goes on from another's weights, with an identity, tokens and FLOPs of its own."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scaling.analysis.runs.readers import read_study
from scaling.cli import main
from scaling.config.config import compose, to_run
from scaling.data.cache import digest
from scaling.plan.parents import read_parent
from scaling.records.record import RunRecord, read_record, read_records, to_json, upgrade
from scaling.spec.run_spec import ContinuedSpec, from_dict, to_dict
from scaling.train.checkpoint import final_weights

STILL = "recipe.learning_rate.value=1e-30"  # a rate at which float32 weights stay as they are
MODEL = ["model.n_layers=1", "model.d_model=16", "model.n_heads=2", "model.context=16"]


def settings(*more: str, tokenizer: str = "bytes") -> list[str]:
    return [
        "data=text",
        "data.source.paths=[text/*.txt]",
        f"data.tokenizer={tokenizer}",
        f"data.vocab_size={256 if tokenizer == 'bytes' else 280}",
        "data.val_fraction=0.3",
        "val_tokens=512",
        "budget.flops=null",
        *(["budget.tokens=4096"] if not any(part.startswith("budget.tokens=") for part in more) else []),
        "recipe.batch_tokens={value: 64, params: 0, tokens: 0, flops: 0}",
        "runtime.progress=false",
        "runtime.log_points=3",
        *more,
    ]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").mkdir()
    for i in range(6):
        (tmp_path / "text" / f"{i}.txt").write_text(f"the cat {i} sat on the mat, number {i}. " * 60)
    return tmp_path


def trained(study: str, *given: str) -> tuple[RunRecord, str]:
    """The record of the study's one new run, and its folder."""
    before = {record.run_id for record in read_records(Path("runs") / study)} if Path("runs", study).is_dir() else set()
    assert main(["train", f"study={study}", *given]) == 0
    (record,) = [record for record in read_records(Path("runs") / study) if record.run_id not in before]
    return record, f"runs/{study}/{record.run_id}"


def test_a_continued_run_starts_from_its_parents_weights_and_counts_its_own_work(folder: Path) -> None:
    parent, path = trained("first", *settings(), *MODEL)
    still, _ = trained("more", *settings(STILL), f"init_from={path}")
    assert still.val_loss_nats == pytest.approx(parent.val_loss_nats, abs=1e-6)
    more, further = trained("more", *settings("budget.tokens=2048", "seed=1"), f"init_from={path}")
    assert more.val_loss_nats != parent.val_loss_nats
    assert (more.train_tokens, more.train_flops) == (2048, parent.train_flops // 2)
    assert more.continued is not None
    assert more.continued["run_id"] == parent.run_id
    assert more.continued["weights_sha256"] == parent.weights_sha256
    assert more.continued["same_tokenizer"] is True
    assert (more.continued["train_tokens"], more.continued["train_flops"]) == (4096, parent.train_flops)
    last, _ = trained("last", *settings(), f"init_from={further}")
    assert last.continued is not None
    assert last.continued["train_tokens"] == 4096 + 2048  # of all training before


def test_the_identity_holds_the_parents_weights(folder: Path) -> None:
    _, path = trained("first", *settings(), *MODEL)
    parent, other = trained("first", *settings("seed=1"), *MODEL)
    runs = [to_run(compose(settings(f"init_from={start}"))) for start in (path, other)]
    scratch = to_run(compose(settings(*MODEL)))
    assert len({run.spec.run_id for run in [*runs, scratch]}) == 3
    spec = runs[1].spec
    assert isinstance(spec, ContinuedSpec)
    assert spec.continued.weights_sha256 == parent.weights_sha256
    assert spec.model == scratch.spec.model
    assert from_dict(json.loads(json.dumps(to_dict(spec)))) == spec
    assert spec.train_tokens == 4096


def test_a_stopped_continued_run_resumes_as_itself(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, path = trained("first", *settings(), *MODEL)
    whole, _ = trained("whole", *settings(), f"init_from={path}")
    from scaling.train import loop

    def damaged(*_: object) -> Any:
        raise AssertionError("the parent's weights are read again")

    saved = loop.checkpoint.save

    def stop(*given: Any, **named: Any) -> None:
        saved(*given, **named)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop.checkpoint, "save", stop)
    assert main(["train", "study=parts", *settings("runtime.checkpoint_every_s=0"), f"init_from={path}"]) == 130
    monkeypatch.setattr(loop.checkpoint, "save", saved)
    monkeypatch.setattr(loop.checkpoint, "final_weights", damaged)
    parts, _ = trained("parts", *settings(), f"init_from={path}")
    assert parts.weights_sha256 == whole.weights_sha256
    assert parts.attempts == 2


def test_no_law_takes_a_continued_run_for_one_from_scratch(folder: Path) -> None:
    parent, path = trained("first", *settings(), *MODEL)
    more, _ = trained("first", *settings(), f"init_from={path}")
    reading = read_study(Path("runs/first"))
    assert list(reading.table["run_id"]) == [parent.run_id]
    assert [(one.run_id, one.reason.partition(":")[0]) for one in reading.excluded] == [
        (more.run_id, "continued from another run's weights")
    ]
    trained("alone", *settings(), f"init_from={path}")
    with pytest.raises(ValueError, match="holds continued runs alone"):
        read_study(Path("runs/alone"))


def test_a_learned_tokenizer_is_taken_along_as_a_file(folder: Path) -> None:
    parent, path = trained("first", *settings(tokenizer="bpe"), *MODEL)
    (folder / "text" / "6.txt").write_text("a dog came by and barked at the cat. " * 60)
    file = f"runs/cache/{digest(from_dict(parent.spec).data)}/tokenizer.json"
    with pytest.raises(ValueError, match=f"not the ids that .* set data.tokenizer=hf data.tokenizer_path={file}"):
        to_run(compose(settings(f"init_from={path}", tokenizer="bpe")))
    more = settings(f"init_from={path}", f"data.tokenizer_path={file}", "data.vocab_size=280")
    more = [part.replace("=bytes", "=hf") for part in more if part != "data.vocab_size=256"]
    record, _ = trained("more", *more)
    assert record.continued is not None
    assert record.continued["same_tokenizer"] is True


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["model.d_model=32"], "model.d_model is the parent's with init_from="),
        (["objective=prefix"], "objective is the parent's with init_from="),
        (["data.tokenizer=chars"], "data.tokenizer=chars: ids of these data are not .*; set data.tokenizer=bytes"),
        (
            ["data=synthetic", "data.vocab_size=300", "data.source.order=1"],
            "data.vocab_size=300: the model of init_from=.* has 256 ids",
        ),
        (
            ["recipe=mup", "recipe.base_d_model=8", "recipe.base_n_layers=1", "recipe.base_head_width=8"],
            "parametrization multiplies activations otherwise .*standard",
        ),
        (["+sweep=quickstart"], "every run has its parent's model; leave the sweep's shapes out"),
    ],
)
def test_settings_that_do_not_fit_the_parent_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], given: list[str], message: str
) -> None:
    _, path = trained("first", *settings(), *MODEL)
    names = tuple(part.partition("=")[0] for part in given)
    others = [] if "+sweep=quickstart" in given else [part for part in settings() if not part.startswith(names)]
    assert main(["plan", *others, f"init_from={path}", *given]) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert re.search(message, error), error


def test_a_folder_without_a_finished_run_is_refused(folder: Path) -> None:
    record, path = trained("first", *settings(), *MODEL)
    with pytest.raises(ValueError, match="init_from=runs/first holds no finished run; give a finished run"):
        read_parent("runs/first")
    for file in Path(path).glob("checkpoint/*/model.safetensors"):
        file.unlink()
    with pytest.raises(ValueError, match=r"holds no weights; train it with runtime.keep_weights=true"):
        read_parent(path)
    values = to_json(replace(record, finetuned={"metric": "accuracy"}))
    Path(path, "record.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match="was fine-tuned on a task"):
        read_parent(path)


def test_records_from_before_have_no_parent(folder: Path) -> None:
    record, path = trained("first", *settings(), *MODEL)
    values = {name: value for name, value in to_json(record).items() if name != "continued"}
    assert upgrade(values) == record == read_record(Path(path))
    assert final_weights(Path(path), record.weights_sha256)
