"""Runs exported to folders that Hugging Face loads."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scaling.data.prepare import DataConfig, identify, prepare
from scaling.data.sources import Synthetic, Text
from scaling.hf.export import export
from scaling.model import build
from scaling.records.life import Reporter
from scaling.shapes.shape import TransformerShape
from scaling.spec.run_spec import from_dict
from scaling.train.checkpoint import final_weights
from scaling.train.run import train_run
from tests.examples import SPEC, TINY, asked, runtime_in
from tests.hf_examples import AUTO, CAUSAL, MODELS, NEOX, transformers
from tests.small_runs import TEXTS, trained


@pytest.mark.parametrize("name", MODELS)
def test_the_exported_folder_loads_with_the_same_logits_and_ids(name: str, tmp_path: Path) -> None:
    shape, objective = MODELS[name]
    record, run_dir = trained(tmp_path, shape, objective)
    told = export(run_dir, tmp_path / "out", tmp_path / "cache")
    assert name in told
    theirs, loading = getattr(transformers, AUTO[shape.kind]).from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert type(theirs).__name__ == name
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    spec = from_dict(record.spec)
    mine = build(spec.model, 0).eval()
    mine.load_state_dict(final_weights(run_dir, record.weights_sha256))
    ids = torch.randint(0, 256, (2, spec.model.context), generator=torch.Generator().manual_seed(0))
    everywhere = torch.arange(spec.model.context).expand(2, -1)
    inputs: dict[str, tuple[torch.Tensor, ...]] = {
        "decoder": (ids,),
        "encoder": (ids, everywhere),
        "encoder_decoder": (ids, ids[:, : spec.lengths.target]),
    }
    target = {"decoder_input_ids": ids[:, : spec.lengths.target]} if shape.kind == "encoder_decoder" else {}
    with torch.no_grad():
        reference = theirs(input_ids=ids, attention_mask=torch.ones_like(ids), **target).logits
        torch.testing.assert_close(mine(*inputs[shape.kind]), reference, rtol=0, atol=1e-5)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.convert_tokens_to_ids(list(objective.added_tokens(shape.context))) == [
        spec.model.vocab_size - 1 - i for i in range(len(objective.added_tokens(shape.context)))
    ]


@pytest.mark.parametrize(("kind", "vocab_size"), [("bytes", 256), ("chars", 20), ("chars", 128), ("bpe", 300)])
def test_the_exported_tokenizer_gives_the_same_ids_and_text(kind: str, vocab_size: int, tmp_path: Path) -> None:
    record, run_dir = trained(tmp_path, TINY, CAUSAL, kind, vocab_size)
    export(run_dir, tmp_path / "out", tmp_path / "cache")
    theirs: Any = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    data = DataConfig(Text((str(tmp_path / "*.txt"),), "text"), kind, vocab_size, 0.3)
    ours = prepare(data, from_dict(record.spec).data, tmp_path / "cache", progress=False).tokenizer()
    for text in (*TEXTS, "Ünseen 文字 \r\n\u2028 x", " leading and trailing "):
        ids = theirs(text)["input_ids"]
        assert ids == ours.encode(text).tolist()
        assert theirs.decode(ids) == ours.decode(np.array(ids))
    assert theirs.eos_token_id == 0


@pytest.mark.parametrize("shape", [TINY, NEOX], ids=["gpt2", "neox"])
def test_an_exported_decoder_generates_text(shape: TransformerShape, tmp_path: Path) -> None:
    _, run_dir = trained(tmp_path, shape, CAUSAL, "bpe", 300)
    export(run_dir, tmp_path / "out", tmp_path / "cache")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    prompt = tokenizer("the cat", return_tensors="pt")
    made = model.generate(**prompt, max_new_tokens=6, min_new_tokens=6, do_sample=False)
    assert made.shape == (1, prompt["input_ids"].shape[1] + 6)
    assert tokenizer.decode(made[0]).startswith("the cat")


def test_a_model_without_biases_is_exported_with_zeros_and_the_same_logits(tmp_path: Path) -> None:
    record, run_dir = trained(tmp_path, replace(TINY, bias=False), CAUSAL)
    export(run_dir, tmp_path / "out", tmp_path / "cache")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert not theirs.transformer.ln_f.bias.any()
    mine = build(from_dict(record.spec).model, 0).eval()
    mine.load_state_dict(final_weights(run_dir, record.weights_sha256))
    ids = torch.randint(0, 256, (2, TINY.context), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(mine(ids), theirs(ids).logits, rtol=0, atol=1e-5)


def test_without_a_tokenizer_the_weights_are_exported_alone_and_it_is_said(tmp_path: Path) -> None:
    data = DataConfig(Synthetic(tokens=30_000, order=1, zipf_exponent=1.0, concentration=4.0, seed=0), "none", 37, 0.1)
    runtime = runtime_in(tmp_path, log_points=3, eval_fractions=(1.0,))
    record = train_run(asked(replace(SPEC, data=identify(data)), data, runtime, None), Reporter())
    told = export(tmp_path / "s" / record.run_id, tmp_path / "out", tmp_path / "cache")
    assert "without a tokenizer: the run's data came as tokens" in told
    assert not (tmp_path / "out" / "tokenizer.json").exists()
    transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")


def test_what_cannot_be_exported_leaves_nothing_behind(tmp_path: Path) -> None:
    _, run_dir = trained(tmp_path, replace(TINY, activation="swiglu"), CAUSAL)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match="activation=swiglu where it has"):
        export(run_dir, tmp_path / "out", tmp_path / "cache")
    with pytest.raises(ValueError, match="has no record yet"):
        export(tmp_path / "s" / "none", tmp_path / "out", tmp_path / "cache")
    assert sorted(tmp_path.iterdir()) == before
