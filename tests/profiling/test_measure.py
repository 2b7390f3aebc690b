"""What a model costs to serve: the cache changes no token, bytes are exact, the profile is whole or absent."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from scaling.cli import main
from scaling.model import build
from scaling.model.layers import KeyValueCache
from scaling.profiling import peak_memory, timing
from scaling.profiling.inference import greedy, new_tokens, prompt
from scaling.profiling.storage import FORMATS, store
from scaling.records.record import read_profile
from scaling.shapes.matmuls import parameter_counts
from scaling.shapes.shape import TransformerShape
from tests.examples import ENCODER, ENCODER_DECODER, TINY
from tests.hf_examples import CAUSAL, LLAMA, MARIAN, MASKED, T5
from tests.small_runs import trained

CPU = torch.device("cpu")
SHAPES = {
    "learned": TINY,
    "rotary, grouped": LLAMA,
    "relative": replace(TINY, positions="relative"),
    "sinusoidal": replace(TINY, positions="sinusoidal"),
    "t5": replace(T5, target_context=8),
    "marian": replace(MARIAN, target_context=8),
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "ENOUGH_S", 0.0)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_cached_token_is_the_one_that_reading_everything_again_gives(shape: TransformerShape) -> None:
    model = build(shape, seed=1).eval()
    new, _ = new_tokens(shape)
    inputs = prompt(shape, 2, CPU)
    with torch.no_grad():
        made = list(greedy(model, shape, inputs, new))
        room = shape.towers()[-1].tokens
        seen = inputs[-1].expand(-1, room - new) if shape.kind == "encoder_decoder" else inputs[-1][:, : room - new]
        for token_B in made:
            logits_BTV = model(*inputs[:-1], seen)
            assert torch.equal(logits_BTV[:, -1].argmax(dim=-1), token_B)
            seen = torch.cat((seen, token_B[:, None]), dim=1)
    assert len(made) == new + 1


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_logits_after_a_cached_past_are_those_of_reading_everything(shape: TransformerShape) -> None:
    model: Any = build(shape, seed=1).eval()
    room = shape.towers()[-1].tokens
    tokens_BT = torch.randint(shape.vocab_size, (2, room), generator=torch.Generator().manual_seed(2))
    caches = [KeyValueCache(room) for _ in range(shape.n_layers)]
    with torch.no_grad():
        if shape.kind == "encoder_decoder":
            source_BS = torch.randint(shape.vocab_size, (2, shape.context), generator=torch.Generator().manual_seed(3))
            whole_BTV, source_BSD = model(source_BS, tokens_BT), model.source(model.embedding(source_BS))
            parts = [model.decode(source_BSD, part, caches) for part in tokens_BT.split([3, *[1] * (room - 3)], dim=1)]
        else:
            whole_BTV = model(tokens_BT)
            parts = [model(part, caches=caches) for part in tokens_BT.split([3, *[1] * (room - 3)], dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole_BTV, rtol=1e-5, atol=1e-5)


def test_bytes_are_the_sums_over_tensors() -> None:
    weights = build(TINY, seed=0).state_dict()
    total = parameter_counts(TINY)["total"]
    assert store(weights, "fp32")[0] == 4 * total
    assert store(weights, "bf16")[0] == 2 * total
    matrices = [w for w in weights.values() if w.ndim == 2]
    rest = total - sum(w.numel() for w in matrices)
    assert store(weights, "int8")[0] == sum(w.numel() + 4 * len(w) for w in matrices) + 2 * rest


def test_int8_is_within_half_a_step_of_every_rows_own_scale() -> None:
    weight = torch.randn(7, 50, generator=torch.Generator().manual_seed(0)) * torch.logspace(-4, 2, 7)[:, None]
    weight[3] = 0
    _, back = FORMATS["int8"](weight)
    step = weight.abs().amax(dim=1, keepdim=True) / 127
    assert ((back - weight).abs() <= 0.5001 * step).all()
    assert torch.equal(back.abs().amax(dim=1), weight.abs().amax(dim=1)) or torch.allclose(
        back.abs().amax(dim=1), weight.abs().amax(dim=1), rtol=1e-6
    )
    assert torch.equal(back[3], weight[3])


def test_a_profile_stands_beside_the_record_and_is_replaced_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    record, run_dir = trained(tmp_path, TINY, CAUSAL)
    before = (run_dir / "record.json").read_bytes()
    assert main(["profile", str(run_dir), "--batches", "3", "--threads", "1", "--device", "cpu"]) == 0
    found = read_profile(run_dir)
    assert found is not None
    assert (found["run_id"], found["weights_sha256"]) == (record.run_id, record.weights_sha256)
    assert [row["batch"] for row in found["batches"]] == [1, 3]
    assert found["generation"]["kv_cache"]
    assert found["generation"]["median_s"] > 0
    assert found["hardware"]["threads"] == 1
    assert all(row["peak_memory_bytes"] >= 0 for row in found["batches"])
    assert found["storage"]["fp32"]["loss_nats"] == pytest.approx(record.val_loss_nats, abs=1e-5)
    assert found["storage"]["int8"]["loss_nats"] == pytest.approx(record.val_loss_nats, abs=0.05)
    assert found["storage"]["int8"]["loss_nats"] != found["storage"]["fp32"]["loss_nats"]
    said, announced = capsys.readouterr()
    assert "1 runs to profile: about" in announced
    assert "key-value cache" in said
    assert "1 threads" in said
    (run_dir / "profile.json").write_text('{"half":')
    monkeypatch.setattr(peak_memory, "peak_memory", lambda *_: {1: 7})  # a process takes seconds to start
    assert main(["profile", str(run_dir.parent), "--missing", "--batches", "1", "--cache", str(tmp_path / "no")]) == 0
    again = json.loads((run_dir / "profile.json").read_text())
    assert again["storage"]["int8"]["loss_nats"] is None
    assert "--cache" in again["no_loss"]
    assert (run_dir / "record.json").read_bytes() == before
    assert not list(run_dir.glob(".profile*"))
    assert main(["profile", str(run_dir.parent), "--missing"]) == 0  # nothing is missing
    assert json.loads((run_dir / "profile.json").read_text()) == again


def test_an_encoder_generates_nothing_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak_memory, "peak_memory", lambda *_: {1: 7})  # measured in the test above
    _, run_dir = trained(tmp_path, ENCODER, MASKED)
    assert main(["profile", str(run_dir), "--batches", "1"]) == 0
    found = read_profile(run_dir)
    assert found is not None
    assert found["generation"] is None
    assert found["batches"][0]["generated_tokens_per_s"] is None
    assert "generates none" in found["no_generation"]


def test_a_context_of_one_token_leaves_none_to_generate() -> None:
    assert new_tokens(replace(TINY, context=1)) == (0, "a context of one token leaves none to generate")
    assert new_tokens(replace(ENCODER_DECODER, target_context=2))[0] == 1


def test_what_cannot_be_profiled_is_said_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, run_dir = trained(tmp_path, TINY, CAUSAL)
    for path in sorted((run_dir / "checkpoint").rglob("*.safetensors")):
        path.unlink()
    (run_dir.parent / "other").mkdir()
    (run_dir.parent / "other" / "spec.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    for command, message in (
        ([str(run_dir)], "holds no weights; train it with runtime.keep_weights=true"),
        ([str(run_dir.parent)], "no run of"),
        ([str(run_dir.parent / "other")], "only a finished run can be profiled, and this one has no record yet"),
        ([str(tmp_path / "nowhere")], "is not a directory"),
        ([str(tmp_path / "empty")], "holds no runs, nor is it one"),
        ([str(run_dir), "--batches", "4,x"], "--batches '4,x': give whole numbers from 1 on"),
        ([str(run_dir), "--batches", "0"], "--batches '0'"),
        ([str(run_dir), "--threads", "0"], "--threads 0: at least 1"),
        ([str(run_dir), "--device", "tpu"], "--device 'tpu': choose from auto, cpu, cuda"),
    ):
        assert main(["profile", *command]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert len(error.strip().splitlines()) == 1
