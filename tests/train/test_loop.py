"""Training one run: exact resuming, honest endings, accumulation, mirrors."""

import dataclasses
import json
import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from scaling.data.prepare import DataConfig, identify
from scaling.data.sources import Synthetic, Text
from scaling.model import build
from scaling.records.life import Reporter
from scaling.records.record import RunRecord, read_metrics
from scaling.shapes.flops import train_flops_per_sequence
from scaling.shapes.shape import TransformerShape
from scaling.spec.objective import Infilling, Masked, Objective, Prefix
from scaling.spec.run_spec import RunSpec
from scaling.train import step
from scaling.train.optimizers import build_optimizer
from scaling.train.run import train_run
from scaling.train.sums import write_sums
from tests.examples import ENCODER, ENCODER_DECODER, FAMILIES, SPEC, TINY, asked, runtime_in

DATA = DataConfig(
    Synthetic(tokens=30_000, order=1, zipf_exponent=1.0, concentration=4.0, seed=0),
    "none",
    TINY.vocab_size,
    0.1,
)
TIMING = ("tokens_per_s", "flops_per_s", "mfu")


def spec_for(**changes: Any) -> RunSpec:
    recipe = replace(SPEC.recipe, steps=changes.pop("steps", 40), batch_sequences=8)
    recipe = replace(recipe, schedule=replace(recipe.schedule, warmup_steps=4, cooldown_steps=8))
    return replace(SPEC, data=identify(DATA), recipe=recipe, **changes)


def run(spec: RunSpec, path: Path, **changes: Any) -> RunRecord:
    return train_run(asked(spec, DATA, runtime_in(path, **changes), 1e6), Reporter())


def curve(path: Path, spec: RunSpec) -> list[dict[str, Any]]:
    rows = read_metrics(path / "s" / spec.run_id)
    return [{key: value for key, value in row.items() if key not in TIMING} for row in rows]


def final_weights(path: Path, spec: RunSpec) -> dict[str, torch.Tensor]:
    (file,) = (path / "s" / spec.run_id / "checkpoint").glob("*/model.safetensors")
    return load_file(file)


class StopAt(Reporter):
    """Asks the run to stop, as Ctrl-C would, once it has reported a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def row(self, row: dict[str, Any]) -> None:
        if row["step"] >= self.step:
            os.kill(os.getpid(), signal.SIGINT)


def test_training_learns_and_counts_what_it_spent(tmp_path: Path) -> None:
    spec = spec_for(steps=150)
    record = run(spec, tmp_path)
    rows = curve(tmp_path, spec)
    assert record.status == "done"
    assert record.train_tokens == 150 * 8 * 16 == rows[-1]["tokens"]
    assert record.train_flops == record.train_tokens * sum(record.flops_per_token_by_group.values())
    assert rows[-1]["train_loss"] < rows[0]["train_loss"] - 0.1
    assert record.val_loss_nats == rows[-1]["val_loss"]
    assert record.least_loss_nats is not None
    assert record.val_loss_nats > record.least_loss_nats  # nothing beats the source's own entropy
    assert record.val_tokens <= spec.val_tokens
    assert sum(record.params_by_group.values()) == record.n_params["total"]
    assert "not halved" in record.flops_convention


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("stop_at", [7, 20, 36])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path: Path, stop_at: int, dropout: float) -> None:
    spec = spec_for(model=replace(TINY, dropout=dropout))
    whole = run(spec, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt, match=r"stopped at step \d+ of 40, checkpoint written"):
        train_run(asked(spec, DATA, runtime_in(tmp_path / "cut"), 1e6), StopAt(stop_at))
    resumed = run(spec, tmp_path / "cut")
    assert resumed.attempts == 2
    meta = json.loads((tmp_path / "cut" / "s" / spec.run_id / "attempts" / "0002" / "meta.json").read_text())
    assert stop_at <= meta["resumed_from_step"] <= stop_at + 5
    assert curve(tmp_path / "cut", spec) == curve(tmp_path / "whole", spec)
    assert resumed.weights_sha256 == whole.weights_sha256
    assert resumed.val_loss_nats == whole.val_loss_nats
    assert resumed.eval_flops == whole.eval_flops
    first, second = final_weights(tmp_path / "whole", spec), final_weights(tmp_path / "cut", spec)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("family", ["encoder", "encoder_decoder"])
def test_every_family_resumes_bit_for_bit_and_counts_what_it_predicted(tmp_path: Path, family: str) -> None:
    model, objective = FAMILIES[family]
    spec = spec_for(model=replace(model, dropout=0.1), objective=objective)
    whole = run(spec, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_run(asked(spec, DATA, runtime_in(tmp_path / "cut"), 1e6), StopAt(20))
    resumed = run(spec, tmp_path / "cut")
    assert resumed.attempts == 2
    assert curve(tmp_path / "cut", spec) == curve(tmp_path / "whole", spec)
    assert resumed.weights_sha256 == whole.weights_sha256
    for record in (whole, resumed):
        assert record.val_loss_nats == whole.val_loss_nats
        assert record.predicted_tokens == 40 * 8 * spec.lengths.predicted
        assert record.train_tokens == 40 * 8 * model.sequence_tokens
        assert record.train_flops == 40 * 8 * train_flops_per_sequence(model)
        assert record.val_tokens == spec.val_tokens // spec.lengths.text * spec.lengths.predicted
        assert (
            record.eval_flops == 2 * record.val_tokens // spec.lengths.predicted * train_flops_per_sequence(model) // 3
        )
        assert record.least_loss_nats is record.val_bits_per_byte is None
        assert record.epochs == pytest.approx(40 * 8 * spec.lengths.text / record.unique_tokens, rel=0.01)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_learns_what_a_markov_source_holds(tmp_path: Path, family: str) -> None:
    model, objective = FAMILIES[family]
    spec = spec_for(model=model, objective=objective, steps=150)
    run(spec, tmp_path)
    rows = curve(tmp_path, spec)
    assert rows[-1]["val_loss"] < rows[0]["train_loss"] - 0.1


PAIR = Masked("masked", 0.2, 0.8, 0.1, whole_words=False, next_sentence=True)


@pytest.mark.parametrize(
    ("model", "objective"),
    [
        (TINY, Prefix("prefix", 0.0, 0.9)),
        (replace(ENCODER, vocab_size=40, next_sentence=True, head_sees="all"), PAIR),
    ],
    ids=["prefix", "pairs"],
)
def test_an_accumulated_batch_with_unequal_weights_equals_a_large_one(
    tmp_path: Path, model: TransformerShape, objective: Objective
) -> None:
    spec = spec_for(model=model, objective=objective)
    large, small = run(spec, tmp_path / "large"), run(spec, tmp_path / "small", micro_batch_sequences=3)
    assert small.predicted_tokens == large.predicted_tokens < 40 * 8 * 16
    assert small.val_loss_nats == pytest.approx(large.val_loss_nats, abs=1e-5)
    for one, other in zip(curve(tmp_path / "large", spec), curve(tmp_path / "small", spec), strict=True):
        assert other["train_loss"] == pytest.approx(one["train_loss"], abs=1e-5)
        assert other["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-3)


PAIRS = replace(ENCODER, vocab_size=40, next_sentence=True)


def test_the_next_sentence_loss_is_logged_and_recorded(tmp_path: Path) -> None:
    spec = spec_for(model=PAIRS, objective=PAIR)
    record = run(spec, tmp_path)
    rows = curve(tmp_path, spec)
    assert all(0.4 < row["train_next_loss"] < 1.2 for row in rows)  # about log 2: hardly anything can be told here
    validated = [row for row in rows if "val_loss" in row]
    assert all(0.4 < row["val_next_loss"] < 1.2 for row in validated)
    assert record.val_auxiliary_nats["next"] == validated[-1]["val_next_loss"]
    stopped = run(spec, tmp_path / "small", micro_batch_sequences=3)
    assert stopped.val_auxiliary_nats["next"] == pytest.approx(record.val_auxiliary_nats["next"], abs=1e-5)
    for one, other in zip(rows, curve(tmp_path / "small", spec), strict=True):
        assert other["train_next_loss"] == pytest.approx(one["train_next_loss"], abs=1e-5)


def test_what_is_not_asked_is_not_logged(tmp_path: Path) -> None:
    spec = spec_for(steps=10)
    assert run(spec, tmp_path).val_auxiliary_nats == {}
    assert not any("next" in key for row in curve(tmp_path, spec) for key in row)


def test_sentences_are_infilled_from_text(tmp_path: Path) -> None:
    text = tmp_path / "text.jsonl"
    lines = [{"text": f"The {i} cats sat. They saw {i} mice! Was it {i}? So it was. " * 4} for i in range(60)]
    text.write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = DataConfig(Text((str(text),), "text"), "chars", 64, 0.2)
    objective = Infilling("infilling", 0.4, 3)
    lengths = objective.lengths(64)
    model = replace(ENCODER_DECODER, context=64, target_context=lengths.target, vocab_size=64 + 3)
    spec = replace(spec_for(model=model, objective=objective), data=identify(data))
    record = train_run(asked(spec, data, runtime_in(tmp_path), 1e6), Reporter())
    assert record.status == "done"
    assert 40 * 8 * 10 < record.predicted_tokens < 40 * 8 * lengths.predicted
    assert record.val_loss_nats is not None


def _train_slowly(spec: RunSpec, path: Path) -> None:
    """Checkpoints after every step, each step slowed down so that a kill lands anywhere."""
    original = step.set_learning_rate

    def slow(*arguments: Any) -> None:
        time.sleep(0.005)
        original(*arguments)

    step.set_learning_rate = slow
    torch.set_num_threads(1)
    run(spec, path, checkpoint_every_s=0.0)


def test_killed_at_any_moment_it_finishes_with_the_same_result(tmp_path: Path) -> None:
    spec = spec_for()
    whole = run(spec, tmp_path / "whole")
    run_dir = tmp_path / "killed" / "s" / spec.run_id
    context = multiprocessing.get_context("fork")
    kills = 0
    for delay in (0.05, 0.11, 0.17):
        process = context.Process(target=_train_slowly, args=(spec, tmp_path / "killed"))
        process.start()
        started = len(list((run_dir / "attempts").glob("[0-9]*")))
        while len(list((run_dir / "attempts").glob("[0-9]*"))) == started and process.is_alive():
            time.sleep(0.001)
        time.sleep(delay)  # with a checkpoint a step, many of these fall into the writing of one
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
    assert kills >= 2
    record = run(spec, tmp_path / "killed")
    assert record.attempts > kills
    assert record.weights_sha256 == whole.weights_sha256
    assert curve(tmp_path / "killed", spec) == curve(tmp_path / "whole", spec)
    assert not list((run_dir / "checkpoint").glob(".*"))


def test_killed_between_its_last_step_and_its_record_it_only_writes_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_for()
    whole = run(spec, tmp_path / "whole")

    def vanish(*_: object) -> None:
        raise OSError("gone")

    monkeypatch.setattr("scaling.records.life.publish_record", vanish)
    with pytest.raises(OSError, match="gone"):
        run(spec, tmp_path / "cut")
    monkeypatch.undo()
    again = run(spec, tmp_path / "cut")
    assert (again.attempts, again.steps) == (2, whole.steps)
    assert again.val_loss_nats == whole.val_loss_nats
    assert again.val_tokens == whole.val_tokens
    assert again.weights_sha256 == whole.weights_sha256
    assert curve(tmp_path / "cut", spec) == curve(tmp_path / "whole", spec)


def test_two_processes_that_want_the_same_run_train_it_once(tmp_path: Path) -> None:
    spec = spec_for()
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=_train_slowly, args=(spec, tmp_path)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(timeout=60)
    assert [process.exitcode for process in both] == [0, 0]
    ends = [json.loads(path.read_text()) for path in tmp_path.glob("s/*/attempts/*/end.json")]
    assert {end["status"] for end in ends} == {"done"}
    assert sum(bool(path.read_text()) for path in tmp_path.glob("s/*/attempts/*/metrics.jsonl")) == 1


def test_an_unreadable_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    spec = spec_for()
    whole = run(spec, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_run(asked(spec, DATA, runtime_in(tmp_path / "cut", checkpoint_every_s=0.0), 1e6), StopAt(20))
    newest = max((tmp_path / "cut" / "s" / spec.run_id / "checkpoint").iterdir(), key=lambda path: path.name)
    (newest / "model.safetensors").write_bytes(b"cut short")
    assert run(spec, tmp_path / "cut").weights_sha256 == whole.weights_sha256


def test_a_checkpoint_of_another_version_is_refused_with_the_remedy(tmp_path: Path) -> None:
    """An optimizer that kept a state for every parameter, not for a row of them."""
    spec = spec_for()
    with pytest.raises(KeyboardInterrupt):
        train_run(asked(spec, DATA, runtime_in(tmp_path), 1e6), StopAt(20))
    (folder,) = (tmp_path / "s" / spec.run_id / "checkpoint").iterdir()
    state = {f"{k}.exp_avg": p.detach().clone() for k, p in enumerate(build(spec.model, 0).parameters())}
    save_file(state, folder / "optimizer.safetensors")
    write_sums(folder)
    with pytest.raises(ValueError, match="written by another version of this program.*delete .*/checkpoint to begin"):
        run(spec, tmp_path)


def test_an_accumulated_batch_equals_a_large_one(tmp_path: Path) -> None:
    spec = spec_for()
    large, small = run(spec, tmp_path / "large"), run(spec, tmp_path / "small", micro_batch_sequences=3)
    assert small.val_loss_nats == pytest.approx(large.val_loss_nats, abs=1e-5)
    for one, other in zip(curve(tmp_path / "large", spec), curve(tmp_path / "small", spec), strict=True):
        assert other["train_loss"] == pytest.approx(one["train_loss"], abs=1e-5)
        assert other["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-3)


def test_when_to_log_and_save_changes_nothing_but_the_log(tmp_path: Path) -> None:
    spec = spec_for()
    plain = run(spec, tmp_path / "a")
    watched = run(spec, tmp_path / "b", log_points=40, eval_fractions=(0.1, 0.9), checkpoint_every_s=0.0)
    assert watched.weights_sha256 == plain.weights_sha256


def test_a_finished_run_is_never_trained_again(tmp_path: Path) -> None:
    spec = spec_for()
    first = run(spec, tmp_path)
    assert run(spec, tmp_path) == first
    assert len(list((tmp_path / "s" / spec.run_id / "attempts").iterdir())) == 1


@pytest.mark.parametrize("rate", [1e4, 1e20])
def test_a_blown_up_run_ends_as_diverged_and_says_when(tmp_path: Path, rate: float) -> None:
    spec = spec_for()
    recipe = replace(spec.recipe, optimizer=replace(spec.recipe.optimizer, learning_rate=rate, clip_norm=None))
    record = run(replace(spec, recipe=recipe), tmp_path)
    assert record.status == "diverged"
    assert "training loss" in record.why
    assert "at step" in record.why
    assert record.val_loss_nats is None
    assert record.steps < spec.recipe.steps
    json.dumps(dataclasses.asdict(record), allow_nan=False)


def test_an_overtaken_attempt_does_not_publish(tmp_path: Path) -> None:
    spec = spec_for()

    class Overtaken(Reporter):
        def claimed(self, attempt_dir: Path, run_id: str, steps: int, start_step: int) -> None:
            later = attempt_dir.parent / "0002"
            later.mkdir()
            (later / "meta.json").write_text(json.dumps({"resumed_from_step": 0}))

    train_run(asked(spec, DATA, runtime_in(tmp_path), 1e6), Overtaken())
    run_dir = tmp_path / "s" / spec.run_id
    assert not (run_dir / "record.json").exists()
    assert "overtaken" in json.loads((run_dir / "attempts" / "0001" / "end.json").read_text())["why"]


def test_bf16_trains_to_about_the_same_loss(tmp_path: Path) -> None:
    spec = spec_for(steps=150)
    exact = run(spec, tmp_path)
    half = run(replace(spec, recipe=replace(spec.recipe, precision="bf16")), tmp_path)
    assert half.val_loss_nats == pytest.approx(exact.val_loss_nats, abs=0.03)
    assert half.val_loss_nats != exact.val_loss_nats


def test_a_missing_gpu_is_refused_with_the_remedy(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ValueError, match="runtime.device=cuda, but torch sees no GPU here; use runtime.device=cpu"):
        run(spec_for(), tmp_path, device="cuda")
    with pytest.raises(ValueError, match="runtime.device='tpu': choose from auto, cpu, cuda, mps"):
        run(spec_for(), tmp_path, device="tpu")


def test_clipping_the_gradient_changes_the_run(tmp_path: Path) -> None:
    spec = spec_for()
    adam = spec.recipe.optimizer
    clipped = replace(spec, recipe=replace(spec.recipe, optimizer=replace(adam, clip_norm=0.1, eps=1e-2)))
    free = replace(spec, recipe=replace(spec.recipe, optimizer=replace(adam, clip_norm=None, eps=1e-2)))
    assert run(clipped, tmp_path).weights_sha256 != run(free, tmp_path).weights_sha256
    norms = [row["grad_norm"] for row in curve(tmp_path, clipped)]
    assert min(norms) > 0.1  # what is logged is the norm before clipping


def test_only_matrices_decay() -> None:
    model = build(replace(TINY, bias=True), seed=0)
    adamw = replace(SPEC.recipe.optimizer, learning_rate=0.1, weight_decay=0.5)
    optimizer = build_optimizer(model, replace(SPEC.recipe, optimizer=adamw))
    for parameter in model.parameters():
        parameter.data.fill_(1.0)
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        wanted = 0.95 if parameter.ndim == 2 else 1.0
        assert torch.all(parameter == wanted), name
