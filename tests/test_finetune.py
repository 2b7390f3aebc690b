"""Fine-tuning: what it costs, what it reads, where it starts, and what it refuses."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from scaling.cli import main
from scaling.data.prepare import DataConfig, identify
from scaling.data.sources import Text
from scaling.data.tokenizers import Bytes, Chars
from scaling.finetune.encode import encode
from scaling.finetune.generation import answer
from scaling.finetune.loop import Tuning, batch_rows, finetune
from scaling.finetune.model import Classifier, start_model
from scaling.finetune.plan import TuningPlan, make_plan
from scaling.finetune.price import train_flops_per_example
from scaling.finetune.scores import by_group, rouge_l
from scaling.finetune.settings import read_settings
from scaling.finetune.stdlib_text import module_snippets
from scaling.finetune.tasks import STOP, TASKS, TRAIN, VAL, Example, Translation
from scaling.launch.reporting import SilentReporter
from scaling.objective_spec import Objective, Prefix
from scaling.objectives import mean_loss
from scaling.record import read_record, read_records
from scaling.runtime import Runtime
from scaling.shape import DecoderShape, EncoderDecoderShape, TransformerShape
from scaling.spec import Finetuned, FinetunedSpec, from_dict, to_dict
from scaling.train.checkpoint import final_weights, weights_digest
from scaling.train.loop import train
from tests.examples import FAMILIES, SPEC

LEARNED = {"decoder": FAMILIES["decoder"], "prefix": (FAMILIES["decoder"][0], Prefix("prefix", 0.1, 0.5))}
ROTARY = {name: (replace(shape, positions="rotary"), asked) for name, (shape, asked) in FAMILIES.items()}


def pretrained(folder: Path, shape: TransformerShape, objective: Objective, keep_weights: bool = True) -> Path:
    """A run of three steps on a little text read as bytes; its directory."""
    for i in range(4):
        (folder / f"{i}.txt").write_text(f"the cat sat on mat {i}. " * (30 + i))
    data = DataConfig(Text((str(folder / "*.txt"),), "text"), "bytes", 256, 0.3)
    lengths, added = objective.lengths(shape.context), objective.added_tokens(shape.context)
    follows = {"predicted": lengths.predicted, "target_context": lengths.target}
    follows = {name: value for name, value in follows.items() if hasattr(shape, name)}
    shape = replace(shape, vocab_size=256 + len(added), **follows)
    recipe = replace(SPEC.recipe, steps=3, schedule=replace(SPEC.recipe.schedule, warmup_steps=1, cooldown_steps=1))
    spec = replace(SPEC, model=shape, objective=objective, data=identify(data), recipe=recipe)
    runtime = Runtime(
        "s", folder, folder / "cache", "cpu", 1, None, False, False, 3, (1.0,), 1e9, keep_weights, False, "none", {}
    )
    return folder / "s" / train(spec, data, runtime, None, SilentReporter()).run_id


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run of each family, rotary, and a decoder without weights."""
    folder = tmp_path_factory.mktemp("runs")
    for shape, objective in ROTARY.values():
        pretrained(folder, shape, objective)
    shape, objective = FAMILIES["decoder"]
    pretrained(folder, shape, objective, keep_weights=False)
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


LETTERS = "abcdefghijklmnopqrstuvwxyz"
QUICK = ["recipe.steps=4", "recipe.epochs=0", "recipe.evaluations=2", "recipe.batch_examples=4", "device=cpu"]


def sentiment(reviews: Path, *more: str) -> list[str]:
    return ["task=sentiment", f"task.path={reviews}", "task.examples=[10]", *QUICK, *more]


def translation(pairs: Path, *more: str) -> list[str]:
    columns = ["task.source_field=0", "task.target_field=1", "task.target_tokens=6", "task.generated=3"]
    return ["task=translation", f"task.path={pairs}", *columns, "task.examples=[10]", *QUICK, *more]


def planned(source: Path, overrides: list[str]) -> TuningPlan:
    return make_plan(source, *read_settings(overrides))


def files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("positions", ["rotary", "learned"])
@pytest.mark.parametrize("classes", [3, 0])
def test_the_price_of_an_example_is_what_torch_counts(family: str, positions: str, classes: int) -> None:
    if family == "encoder" and not classes:
        pytest.skip("an encoder writes no text")
    shape, objective = FAMILIES[family]
    tuned = Finetuned(None, "modules", "", 4, classes, 0 if classes else 3, 1, 0)
    fields = {name: getattr(SPEC, name) for name in ("special", "data", "recipe", "val_tokens", "seed")}
    spec = FinetunedSpec(model=replace(shape, positions=positions), objective=objective, **fields, finetuned=tuned)
    examples = [Example("ab", "x", ""), Example("abcdefghijklmnopqrst", "y", ""), Example("c", "z", "")]
    spec = replace(spec, model=replace(spec.model, vocab_size=256))
    model, _ = start_model(spec, None)
    batch = encode(spec, examples, ("x", "y", "z") if classes else (), Bytes()).batch(slice(None))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        mean_loss(model(*batch.inputs), batch.targets_BP, batch.weights_BP).backward()
    assert counter.get_total_flops() == 3 * train_flops_per_example(spec)


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_family_classifies_from_its_weights_and_from_scratch(
    kind: str, study: Path, reviews: Path, tmp_path: Path
) -> None:
    plan = planned(run_of(study, kind), sentiment(reviews, f"runs_dir={tmp_path / 'out'}", "recipe.learning_rate=1e-2"))
    tuned, scratch = sorted(plan.runs, key=lambda run: run.start is None)
    records = [finetune(Tuning(run, plan.cache_dir, "cpu", 1, True), SilentReporter()) for run in (tuned, scratch)]
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
    kept = final_weights(tuned.run_dir)
    assert "task_head.weight" in kept
    assert weights_digest(kept) == first.weights_sha256
    assert from_dict(first.spec).run_id == first.run_id == tuned.run_dir.name
    again = finetune(Tuning(tuned, plan.cache_dir, "cpu", 1, True), SilentReporter())
    assert again == first
    assert len(list((tuned.run_dir / "attempts").iterdir())) == 1


@pytest.mark.parametrize("kind", ["decoder", "encoder_decoder"])
def test_text_is_written_by_decoders_and_encoder_decoders(kind: str, study: Path, pairs: Path, tmp_path: Path) -> None:
    pytest.importorskip("sacrebleu", reason="the extra hf is not installed")
    plan = planned(run_of(study, kind), translation(pairs, f"runs_dir={tmp_path / 'out'}", "scratch=false"))
    (run,) = plan.runs
    record = finetune(Tuning(run, plan.cache_dir, "cpu", 1, False), SilentReporter())
    assert record.finetuned is not None
    assert set(record.finetuned["scores"]) == {"bleu", "chrf"}
    assert len(record.finetuned["samples"]) == 3
    assert not (run.run_dir / "checkpoint").exists()


def test_fine_tuning_starts_from_the_parents_weights_and_learns(study: Path, reviews: Path, tmp_path: Path) -> None:
    more = (f"runs_dir={tmp_path}", "recipe.steps=150", "recipe.learning_rate=1e-2", "task.examples=[40]")
    plan = planned(run_of(study, "decoder"), sentiment(reviews, *more))
    tuned = next(run for run in plan.runs if run.start is not None)
    assert tuned.start is not None
    _, family = start_model(tuned.spec, tuned.start.run_dir)
    for name, tensor in final_weights(tuned.start.run_dir).items():
        assert torch.equal(family.state_dict()[name], tensor)
    record = finetune(Tuning(tuned, plan.cache_dir, "cpu", 1, False), SilentReporter())
    assert record.finetuned is not None
    assert record.finetuned["scores"]["accuracy"]["value"] > 0.9


def test_damaged_weights_are_refused_and_learned_positions_cut_to_the_task(tmp_path: Path, reviews: Path) -> None:
    run_dir = pretrained(tmp_path, *LEARNED["decoder"])
    plan = planned(run_dir, sentiment(reviews, "scratch=false", "task.source_tokens=9"))
    (run,) = plan.runs
    assert run.spec.model.context == 9
    _, family = start_model(run.spec, run_dir)
    assert family.state_dict()["target.positions.weight"].shape[0] == 9
    damaged = replace(run.spec.finetuned, parent=replace(run.spec.finetuned.parent, weights_sha256="0"))
    with pytest.raises(ValueError, match="not those of its record"):
        start_model(replace(run.spec, finetuned=damaged), run_dir)


@pytest.mark.parametrize("name", ["decoder", "prefix", "encoder_decoder"])
def test_what_is_written_is_the_likeliest_token_after_those_before_it(name: str) -> None:
    shape, objective = {**FAMILIES, **LEARNED}[name]
    longest = 4
    shape = replace(shape, vocab_size=len(LETTERS) + 2, positions="rotary")
    if isinstance(shape, EncoderDecoderShape):
        shape = replace(shape, target_context=longest + 1)
    tuned = Finetuned(None, "translation", "", 2, 0, longest, 1, 2)
    fields = {field: getattr(SPEC, field) for field in ("special", "data", "recipe", "val_tokens", "seed")}
    spec = FinetunedSpec(model=shape, objective=objective, **fields, finetuned=tuned)
    model, _ = start_model(spec, None)
    texts, letters = ("ab", "hello there, you"), Chars(LETTERS, len(LETTERS) + 2)
    blind = encode(spec, [Example(text, "wrong", text) for text in texts], (), letters)
    answers = answer(model, spec, blind, letters, torch.device("cpu"), 2)
    assert all(answers)
    batch = encode(spec, [Example(t, a, t) for t, a in zip(texts, answers, strict=True)], (), letters).batch(
        slice(0, 2)
    )
    counts = torch.ones_like(batch.targets_BP) if batch.weights_BP is None else batch.weights_BP
    written = counts.bool() & (batch.targets_BP != letters.end_id)
    assert torch.equal(model(*batch.inputs).argmax(dim=-1)[written], batch.targets_BP[written])


def test_a_decoders_loss_is_of_the_answer_alone() -> None:
    shape = replace(FAMILIES["decoder"][0], vocab_size=256)
    assert isinstance(shape, DecoderShape)
    tuned = Finetuned(None, "translation", "", 1, 0, 5, 1, 1)
    fields = {field: getattr(SPEC, field) for field in ("objective", "special", "data", "recipe", "val_tokens", "seed")}
    encoded = encode(FinetunedSpec(model=shape, **fields, finetuned=tuned), [Example("abc", "xy", "")], (), Bytes())
    (tokens,), targets = encoded.inputs[:1], encoded.targets_NP
    assert tokens[0, :6].tolist() == [*b"abc", 0, *b"xy"]
    assert encoded.weights_NP is not None
    assert targets[encoded.weights_NP].tolist() == [*b"xy", 0]


def test_what_fills_up_a_text_is_not_pooled() -> None:
    shape, _ = FAMILIES["decoder"]
    model = Classifier(start_model(_scratch(shape), None)[1], shape, 2)
    nn.init.normal_(model.task_head.weight)
    lengths = torch.tensor([3])
    short, filled = torch.tensor([[5, 6, 7, 0, 0]]), torch.tensor([[5, 6, 7, 9, 8]])
    assert torch.equal(model(short, lengths), model(filled, lengths))
    assert not torch.equal(model(short, lengths), model(torch.tensor([[5, 6, 8, 0, 0]]), lengths))


def _scratch(shape: TransformerShape) -> FinetunedSpec:
    fields = {name: getattr(SPEC, name) for name in ("objective", "special", "data", "recipe", "val_tokens", "seed")}
    return FinetunedSpec(model=shape, **fields, finetuned=Finetuned(None, "modules", "", 1, 0, 1, 1, 0))


def test_a_large_set_gets_more_steps_and_both_arms_the_same() -> None:
    recipe = read_settings(["recipe.steps=300", "recipe.epochs=8", "recipe.batch_examples=16"])[0].recipe
    assert [recipe.resolved(examples, SPEC.recipe).steps for examples in (100, 600, 1000)] == [300, 300, 500]
    assert recipe.resolved(1000, SPEC.recipe).schedule.warmup_steps == 25


def test_an_epoch_is_every_example_once() -> None:
    rows = np.concatenate([batch_rows(7, 3, step, 0) for step in range(14)])
    for epoch in range(6):
        assert sorted(rows[7 * epoch : 7 * epoch + 7]) == list(range(7))


def test_no_document_is_in_two_parts_and_a_file_alone_is_cut_with_gaps() -> None:
    modules = module_snippets(12, 256, {VAL: 0.2, STOP: 0.1}, TRAIN)
    assert len(modules) == 12
    for parts in modules.values():
        documents = {part: {document for _, document in found} for part, found in parts.items()}
        if len(documents[TRAIN] | documents[VAL]) > 1:
            assert not documents[TRAIN] & documents[VAL]
            assert not documents[STOP] & (documents[TRAIN] | documents[VAL])
        for part in (TRAIN, STOP, VAL):
            assert parts[part]


def test_the_modules_task_gives_each_class_alike_and_nested_subsets() -> None:
    _, task = read_settings(["task.classes=4", "task.examples=[40]", "task.scratch_examples=[]"])
    pool = task.read()
    for part in pool.parts.values():
        counts = {name: sum(example.answer == name for example in part) for name in pool.classes}
        assert max(counts.values()) - min(counts.values()) <= 0.02 * max(counts.values())  # two modules share a few
    texts = [{example.text for example in part} for part in pool.parts.values()]
    assert not texts[0] & texts[1] | texts[0] & texts[2] | texts[1] & texts[2]  # though files repeat each other
    small, large = (set(pool.chosen(size, 5, 5, 0).parts[TRAIN]) for size in (40, 100))
    assert small < large
    assert small != set(pool.chosen(40, 5, 5, 1).parts[TRAIN])


def test_rouge_l_is_the_f1_of_the_longest_common_subsequence() -> None:
    # Lin 2004, section 3.1: "police kill the gunman" against "police killed the gunman" has LCS 3 of 4 and 4.
    assert rouge_l(["police kill the gunman"], ["police killed the gunman"], ["a"])["rouge_l"]["value"] == 0.75
    assert rouge_l(["the gunman kill police"], ["police killed the gunman"], ["a"])["rouge_l"]["value"] == 0.5
    assert rouge_l(["", "a b"], ["x", "a b"], ["a", "b"])["rouge_l"]["value"] == 0.5


def test_examples_of_one_document_do_not_make_an_error_small() -> None:
    values, ones = [1.0, 1.0, 0.0, 0.0] * 50, [1.0] * 200
    alone = by_group(values, ones, [str(i) for i in range(200)])
    together = by_group(sorted(values), ones, [str(i // 50) for i in range(200)])
    assert alone[0] == together[0] == 0.5
    assert alone[1] is not None
    assert together[1] is not None
    assert together[1] > 5 * alone[1]
    assert by_group([1.0, 0.0], [1.0, 1.0], ["a", "a"])[1] is None


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
    assert main(["finetune", str(run_of(study, "decoder")), *sentiment(reviews), *more]) == 2
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
    run_dir = pretrained(tmp_path, *FAMILIES["decoder"])
    export(run_dir, tmp_path / "out", tmp_path / "cache")
    data = ["data=text", f"data.source.paths=[{tmp_path}/*.txt]", "data.tokenizer=bytes", "data.vocab_size=256"]
    quiet = ["data.val_fraction=0.3", "val_tokens=1024", "runtime.progress=false", "runtime.device=cpu"]
    import_checkpoint(str(tmp_path / "out"), [*data, *quiet, "study=published", "train_tokens=12345"])
    plan = planned(Path("runs/published"), sentiment(reviews, "scratch=false"))
    (run,) = plan.runs
    record = finetune(Tuning(run, plan.cache_dir, "cpu", 1, False), SilentReporter())
    assert record.finetuned is not None
    assert record.finetuned["parent"]["imported"]
    assert record.finetuned["parent"]["train_tokens"] == 12345


def test_without_sacrebleu_the_remedy_is_said(
    study: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    assert main(["finetune", str(run_of(study, "decoder")), *translation(pairs)]) == 2
    assert "pip install 'scaling[hf]'" in capsys.readouterr().err


def test_a_jsonl_of_pairs_and_every_task_has_its_defaults(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps({"source": f"a {i}", "target": i}) + "\n" for i in range(50)))
    _, task = read_settings(["task=translation", f"task.path={path}", "task.examples=[5]"])
    assert isinstance(task, Translation)
    pool = task.read()
    assert pool.classes == ()
    assert {example.answer for part in pool.parts.values() for example in part} == {str(i) for i in range(50)}
    for name, kind in TASKS.items():
        needed = ["task.path=x"] if "path" in kind.__dataclass_fields__ else []
        assert type(read_settings([f"task={name}", *needed])[1]) is kind
    with pytest.raises(ValueError, match="task.path is missing and has no default"):
        read_settings(["task=sentiment"])


def test_the_command_trains_a_study_over_the_pool_and_skips_what_is_done(
    study: Path, reviews: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["finetune", str(study), *sentiment(reviews, f"runs_dir={tmp_path}", "slots=2")]
    assert main(command) == 0
    out, error = capsys.readouterr()
    assert "6 runs (3 fine-tuned, 3 from scratch), 6 to train" in error
    assert "passed over" in error
    assert "not told: a curve needs 3 sizes" in out
    found = tmp_path / "s-sentiment"
    assert len(read_records(found)) == 6
    assert (found / "finetune.png").is_file()
    assert main(command) == 0
    assert "0 to train" in capsys.readouterr().err
    assert main(["status", str(found)]) == 0
    assert "6 done" in capsys.readouterr().out
